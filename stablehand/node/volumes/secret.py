"""secret volumes: the keys of a Secret as files (on a tmpfs: manager sees to that)."""

from __future__ import annotations

from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node.env import secret_data
from stablehand.node.volumes.configmap import choose, missing
from stablehand.node.volumes.contract import Context, Payload, VolumeError


async def payload(context: Context, source: Obj, default_mode: int = 0o644) -> Payload:
    res = resource("secrets")
    name = source.get("secretName") or source.get("name", "")
    ref = (res, context.namespace, name)
    found = await context.host.objects.get(res, context.namespace, name)
    if found is None:
        if source.get("optional"):
            return Payload(refs={ref})
        raise VolumeError(f'secret "{name}" not found', ref)
    data = secret_data(found)
    files = choose(data, source.get("items"), source.get("defaultMode", default_mode), bool(source.get("optional")))
    if files is None:
        raise VolumeError(f"references non-existent secret key: {missing(data, source['items'])}", ref)
    return Payload(files, {ref})
