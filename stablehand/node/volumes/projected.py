"""projected volumes: several sources in one folder, service account tokens among them."""

from __future__ import annotations

import time

from stablehand.client import ApiError
from stablehand.machinery.resources import resource
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj
from stablehand.node.volumes import configmap, downwardapi, secret
from stablehand.node.volumes.contract import Context, Payload, VolumeError

_DAY = 24 * 3600.0


async def payload(context: Context, source: Obj, default_mode: int = 0o644) -> Payload:
    mode = source.get("defaultMode", default_mode)
    result = Payload()
    for part in source.get("sources") or ():
        if inner := part.get("configMap"):
            result.take(await configmap.payload(context, {**inner, "defaultMode": mode}))
        elif inner := part.get("secret"):
            result.take(await secret.payload(context, {**inner, "defaultMode": mode}))
        elif inner := part.get("downwardAPI"):
            result.take(await downwardapi.payload(context, {**inner, "defaultMode": mode}))
        elif inner := part.get("serviceAccountToken"):
            result.take(await _token(context, inner, mode))
        elif part:
            raise VolumeError(f"projected source {next(iter(part), '?')} is not supported by this node")
    return result


async def _token(context: Context, source: Obj, mode: int) -> Payload:
    """A bound token, asked for anew at 80 % of its life or after a day."""
    known = context.tokens.get(source["path"])
    if known is not None and known.refresh_at is not None and time.time() < known.refresh_at - 1:
        return known
    meta = context.pod["metadata"]
    account = context.pod["spec"].get("serviceAccountName") or "default"
    seconds = source.get("expirationSeconds") or 3600
    bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
    request: Obj = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {"name": account, "namespace": context.namespace},
        "spec": {"audiences": [], "expirationSeconds": seconds, "boundObjectRef": bound},
    }
    if source.get("audience"):
        request["spec"]["audiences"] = [source["audience"]]
    accounts = resource("serviceaccounts")
    try:
        answer = await context.host.client.create(
            accounts, request, namespace=context.namespace, name=account, subresource="token"
        )
    except ApiError as e:
        ref = (accounts, context.namespace, account)
        raise VolumeError(f"failed to fetch token: {e}", ref) from None
    status = answer["status"]
    user, group = common_user(context.pod), context.fs_group
    if user is not None or group is not None:
        mode = 0o600  # with fsGroup the group may read it too: atomic sees to that
    now = time.time()
    try:
        life = max(60.0, parse_time(status["expirationTimestamp"]) - now)
    except (KeyError, ValueError):
        life = float(seconds)
    token = Payload({source["path"]: (status["token"].encode(), mode)}, refresh_at=now + min(life * 0.8, _DAY))
    if user is not None:
        token.owners[source["path"]] = user
    context.tokens[source["path"]] = token
    return token


def common_user(pod: Obj) -> int | None:
    """The user that every container runs as, where the pod says so."""
    spec = pod["spec"]
    inherited = (spec.get("securityContext") or {}).get("runAsUser")
    kinds = ("initContainers", "containers", "ephemeralContainers")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", inherited)
        for kind in kinds
        for container in spec.get(kind) or ()
    }
    return next(iter(users)) if len(users) == 1 else None
