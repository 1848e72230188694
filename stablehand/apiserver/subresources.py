"""Subresources that are not the object itself: scale, binding, eviction, token. Streams are in streams/."""

from __future__ import annotations

import uuid
from typing import Any

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.contract import Answer, Request, Response, StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.decode import body, body_object, load_yaml
from stablehand.apiserver.storage.watchers import Entry
from stablehand.apiserver.verbs import delete, present, write
from stablehand.machinery import patch, selectors
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.store.contract import RevisionMismatch

MIN_TOKEN, DEFAULT_TOKEN, MAX_TOKEN = 600, 3600, 2**32
EXTENDED_TOKEN = 365 * 24 * 3600
_SCALE = Resource("autoscaling", "v1", "Scale", "scales")  # how a scale is printed; not a resource of its own


def _entry(core: Core, request: Request, res: Resource) -> Entry:
    key = write.storage_key(res, request.info.namespace, request.info.name)
    entry = core.storage.collection(res).get(key)
    if entry is None:
        raise errors.not_found(res, request.info.name)
    return entry


async def _admit(core: Core, request: Request, res: Resource, name: str, obj: Obj) -> Obj:
    """Takes what is posted to a subresource of an object through admission."""
    a = Attributes(
        request, res, "CREATE", request.info.namespace, name, obj, None, request.info.subresource or "binding",
        write.dry_run(request),
    )  # fmt: skip
    await core.admission.mutate(a)
    await core.admission.validate(a)
    return a.obj or obj


# -- scale


def _scale_paths(core: Core, res: Resource) -> tuple[str, str, str]:
    if res.custom:
        scale = getattr(core.registry.strategy(res), "scale", None) or {}
        return (
            scale.get("specReplicasPath", ".spec.replicas"),
            scale.get("statusReplicasPath", ".status.replicas"),
            scale.get("labelSelectorPath", ""),
        )
    return ".spec.replicas", ".status.replicas", ".spec.selector"


def _scale_of(core: Core, res: Resource, obj: Obj) -> Obj:
    meta = obj["metadata"]
    spec_path, status_path, selector_path = _scale_paths(core, res)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    spec_value = nested(obj, *spec_path.strip(".").split("."))
    scale: Obj = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: meta[k] for k in kept if k in meta},
        "spec": {"replicas": spec_value} if spec_value is not None else {},
        "status": {"replicas": nested(obj, *status_path.strip(".").split(".")) or 0},
    }
    selector = nested(obj, *selector_path.strip(".").split(".")) if selector_path else None
    if isinstance(selector, str):
        scale["status"]["selector"] = selector
    elif isinstance(selector, dict):
        if res.key == "replicationcontrollers":
            selector = {"matchLabels": selector}
        scale["status"]["selector"] = str(selectors.from_label_selector(selector))
    return scale


async def scale(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    for _ in range(write.RETRIES):
        entry = await conversion.as_asked(core, res, _entry(core, request, res))
        current = _scale_of(core, res, entry.obj)
        if request.method == "GET":
            return present.shaped(core, request, _SCALE, current)
        wanted = _wanted_scale(request, current)
        if not isinstance(wanted.get("metadata"), dict):
            wanted["metadata"] = {}
        version = wanted["metadata"].get("resourceVersion")
        if version and version != str(entry.revision):
            raise errors.conflict(res, info.name)
        name = wanted["metadata"].get("name")
        if name and name != info.name:
            raise errors.bad_request(
                f"the name of the object ({name}) does not match the name on the URL ({info.name})"
            )
        change = Attributes(
            request, write.stored_strategy(core, res)[0], "UPDATE", info.namespace, info.name, wanted, current, "scale",
            write.dry_run(request),
        )  # fmt: skip
        await core.admission.mutate(change)
        wanted = change.obj or wanted
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise errors.bad_request(
                'Scale in version "v1" cannot be handled as a Scale: spec.replicas must be an integer'
            )
        if replicas < 0:
            message = f"Invalid value: {replicas}: must be greater than or equal to 0"
            raise errors.invalid(
                "autoscaling",
                "Scale",
                info.name,
                f'Scale.autoscaling "{info.name}" is invalid: spec.replicas: {message}',
                [{"reason": "FieldValueInvalid", "message": message, "field": "spec.replicas"}],
            )
        applying = request.content_type.startswith("application/apply-patch")
        obj = _scaled(core, request, res, entry.obj, replicas) if applying else copy_object(entry.obj)
        if not applying:
            _put_replicas(core, res, obj, replicas)
        operation = "Apply" if applying else "Update"
        try:
            await core.admission.validate(change)
            stored = await write.update_object(core, request, res, entry, obj, subresource="scale", operation=operation)
        except RevisionMismatch:
            if version and request.method == "PUT":
                raise errors.conflict(res, info.name) from None
            continue
        return Response(_scale_of(core, res, (await conversion.as_asked(core, res, stored)).obj))
    raise errors.conflict(res, info.name)


def _put_replicas(core: Core, res: Resource, obj: Obj, replicas: int) -> None:
    target: Any = obj
    *steps, last = _scale_paths(core, res)[0].strip(".").split(".")
    for step in steps:
        target = target.setdefault(step, {})
    target[last] = replicas


def _scaled(core: Core, request: Request, res: Resource, live: Obj, replicas: int) -> Obj:
    """The object after a server-side apply of its scale, whose one field becomes the manager's. Raises StatusError."""
    from stablehand.apiserver.verbs import options, patch

    options.check(request, "PatchOptions", applying=True)
    row, _ = write.stored_strategy(core, res)
    applied: Obj = {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {"name": live["metadata"]["name"]},
    }
    _put_replicas(core, res, applied, replicas)
    return copy_object(patch.applied_over(core, request, row, live, applied, write.schema_of(core, row)))


def _wanted_scale(request: Request, current: Obj) -> Obj:
    if request.method == "PUT":
        wanted = body(request)
        if not isinstance(wanted, dict):
            raise errors.bad_request("the request body must be an object")
        return wanted
    import orjson

    kind = request.content_type.partition(";")[0]
    if request.obj is not None:
        change = request.obj
    else:
        change = load_yaml(request.raw) if kind.endswith("yaml") else orjson.loads(request.raw)
    try:
        if kind == "application/json-patch+json":
            return patch.json_patch(current, change)
        return patch.merge_patch(current, change)
    except patch.PatchError as e:
        raise StatusError(e.code, "Invalid" if e.code == 422 else "BadRequest", e.message) from e


# -- binding


async def binding(core: Core, request: Request) -> Answer:
    """POST pods/<name>/binding (and the old POST bindings): assigns a pod to a node, once."""
    obj = body(request)
    if not isinstance(obj, dict):
        raise errors.bad_request("the request body must be a Binding")
    pods = resource("pods")
    name = request.info.name or (obj.get("metadata") or {}).get("name", "")
    obj = await _admit(core, request, pods, name, {"kind": "Binding", "apiVersion": "v1", **obj})
    target = obj.get("target") or {}
    if target.get("kind") not in ("Node", "", None) or not target.get("name"):
        raise errors.invalid(
            "",
            "Binding",
            name,
            f'Binding "{name}" is invalid: target.name: Required value',
            [{"reason": "FieldValueRequired", "message": "Required value", "field": "target.name"}],
        )
    collection = core.storage.collection(pods)
    key = (request.info.namespace, name)
    for _ in range(write.RETRIES):
        entry = collection.get(key)
        if entry is None:
            raise errors.not_found(pods, name)
        pod = entry.obj
        if pod["metadata"].get("deletionTimestamp"):
            raise _unbindable(name, f"pod {name} is being deleted, cannot be assigned to a host")
        if nested(pod, "spec", "nodeName"):
            raise _unbindable(name, f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"')
        if pod["spec"].get("schedulingGates"):
            raise _unbindable(name, f"pod {name} has non-empty .spec.schedulingGates")
        wanted_uid = (obj.get("metadata") or {}).get("uid")
        if wanted_uid and wanted_uid != pod["metadata"]["uid"]:
            raise errors.conflict(pods, name, "Precondition failed: UID in precondition differs")
        status = dict(pod.get("status") or {})
        status.pop("nominatedNodeName", None)  # it has a node now
        conditions = [c for c in status.get("conditions") or [] if c.get("type") != "PodScheduled"]
        scheduled: Obj = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(core.clock()),
        }
        if pod["metadata"].get("generation"):
            scheduled["observedGeneration"] = pod["metadata"]["generation"]
        status["conditions"] = [*conditions, scheduled]
        new = {
            **pod,
            "metadata": dict(pod["metadata"]),
            "spec": {**pod["spec"], "nodeName": target["name"]},
            "status": status,
        }
        for field in ("annotations", "labels"):
            extra = (obj.get("metadata") or {}).get(field)
            if extra:
                new["metadata"][field] = {**(new["metadata"].get(field) or {}), **extra}
        try:
            if not write.dry_run(request):
                await core.storage.put(collection, key, new, entry.revision)
        except RevisionMismatch:
            continue
        return Response(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, code=201
        )
    raise errors.conflict(pods, name)


def _unbindable(name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on pods/binding "{name}": {why}'
    return StatusError(409, "Conflict", message, {"name": name, "kind": "pods/binding"})


# -- eviction


async def eviction(core: Core, request: Request) -> Answer:
    """POST pods/<name>/eviction: a deletion that PodDisruptionBudgets may refuse (429)."""
    pods = resource("pods")
    obj = body(request) or {}
    entry = _entry(core, request, pods)
    obj = await _admit(core, request, pods, request.info.name, {"kind": "Eviction", "apiVersion": "policy/v1", **obj})
    pod = entry.obj
    options = dict(obj.get("deleteOptions") or {})
    phase = nested(pod, "status", "phase")
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in nested(pod, "status", "conditions") or ()
    )
    counted = phase not in ("Succeeded", "Failed", "Pending") and not pod["metadata"].get("deletionTimestamp")
    if counted:
        await _spend_budget(core, request, pod, ready)
    await delete.delete_one(core, request, pods, request.info.namespace, request.info.name, options)
    return Response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, code=201)


async def _spend_budget(core: Core, request: Request, pod: Obj, ready: bool) -> None:
    budgets_res = resource("poddisruptionbudgets.policy")
    collection = core.storage.collection(budgets_res)
    labels = pod["metadata"].get("labels") or {}
    matching = [
        (key, entry)
        for key, entry in collection.ordered(request.info.namespace)
        if selectors.from_label_selector(nested(entry.obj, "spec", "selector")).matches(labels)
    ]
    if not matching:
        return
    if len(matching) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise StatusError(500, "", text)
    key, entry = matching[0]
    budget = entry.obj
    status = budget.get("status") or {}
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if not ready:
        always = nested(budget, "spec", "unhealthyPodEvictionPolicy") == "AlwaysAllow"
        if always or (healthy >= desired and desired > 0):
            return
    stale = status.get("observedGeneration", 0) < budget["metadata"].get("generation", 1)
    allowed = status.get("disruptionsAllowed", 0)
    if stale or allowed <= 0:
        message = "Cannot evict pod as it would violate the pod's disruption budget."
        cause = (
            f"The disruption budget {key[1]} is still being processed by the server."
            if stale
            else f"The disruption budget {key[1]} needs {desired} healthy pods and has {healthy} currently"
        )
        raise StatusError(
            429, "TooManyRequests", message, {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
        )
    if write.dry_run(request):
        return
    new = copy_object(budget)
    new["status"]["disruptionsAllowed"] = allowed - 1
    new["status"].setdefault("disruptedPods", {})[pod["metadata"]["name"]] = format_time(core.clock())
    try:
        await core.storage.put(collection, key, new, entry.revision)
    except RevisionMismatch:
        raise StatusError(
            429,
            "TooManyRequests",
            "Cannot evict pod: the disruption budget changed meanwhile",
            {"retryAfterSeconds": 1},
        ) from None


# -- token


async def token(core: Core, request: Request) -> Answer:
    """POST serviceaccounts/<name>/token: a TokenRequest. The answer's token is bound to what the spec names."""
    accounts = resource("serviceaccounts")
    account = _entry(core, request, accounts).obj
    review = Resource("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests")
    obj = body_object(request, review)
    obj = await _admit(core, request, accounts, request.info.name, obj)
    spec = obj.setdefault("spec", {})
    seconds = spec.get("expirationSeconds") or DEFAULT_TOKEN
    if seconds < MIN_TOKEN or seconds > MAX_TOKEN:
        why = (
            "may not specify a duration less than 10 minutes"
            if seconds < MIN_TOKEN
            else "may not specify a duration larger than 2^32 seconds"
        )
        raise errors.invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            f'TokenRequest.authentication.k8s.io "" is invalid: '
            f"spec.expirationSeconds: Invalid value: {seconds}: {why}",
            [
                {
                    "reason": "FieldValueInvalid",
                    "message": f"Invalid value: {seconds}: {why}",
                    "field": "spec.expirationSeconds",
                }
            ],
        )
    bound: Obj | None = None
    reference = spec.get("boundObjectRef")
    if reference:
        bound = _bind_token(core, request, account, reference)
    audiences = spec.get("audiences") or [core.tokens.issuer]
    spec.update(audiences=audiences, expirationSeconds=seconds)
    now = core.clock()
    spec.setdefault("boundObjectRef", None)
    obj["status"] = {
        "token": core.tokens.issue(account, audiences=audiences, seconds=seconds, now=now, bound=bound),
        "expirationTimestamp": format_time(now + seconds),
    }
    meta = account["metadata"]
    obj["metadata"] = {"name": meta["name"], "namespace": meta["namespace"], "creationTimestamp": format_time(now)}
    return Response(obj, code=201)


def _bind_token(core: Core, request: Request, account: Obj, reference: Obj) -> Obj:
    kind = reference.get("kind")
    if kind not in ("Pod", "Secret", "Node"):
        raise errors.bad_request(f"cannot bind token for serviceaccount to object of type {kind!r}")
    res = resource(kind.lower() + "s")
    namespace = request.info.namespace if res.namespaced else ""
    found = core.storage.collection(res).get((namespace, reference.get("name", "")))
    if found is None:
        raise errors.not_found(res, reference.get("name", ""))
    meta = found.obj["metadata"]
    if reference.get("uid") and reference["uid"] != meta["uid"]:
        raise errors.conflict(
            res,
            meta["name"],
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in "
            f"record. The object might have been deleted and then recreated",
        )
    bound: Obj = {kind.lower(): {"name": meta["name"], "uid": meta["uid"]}}
    if kind == "Pod":
        if nested(found.obj, "spec", "serviceAccountName") != account["metadata"]["name"]:
            raise errors.bad_request(f"cannot bind token to pod {meta['name']!r}: it runs as another service account")
        node = nested(found.obj, "spec", "nodeName")
        node_entry = core.storage.collection(resource("nodes")).get(("", node)) if node else None
        if node_entry is not None:
            bound["node"] = {"name": node, "uid": node_entry.obj["metadata"]["uid"]}
    return bound


async def component_statuses(core: Core, request: Request) -> Answer:
    """The deprecated ComponentStatus kind: what answers this request is healthy."""
    res = request.info.resource
    assert res is not None
    request.warnings.append("v1 ComponentStatus is deprecated in v1.19+")
    items = [
        {
            "kind": "ComponentStatus",
            "apiVersion": "v1",
            "metadata": {"name": name, "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, name))},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        }
        for name in ("controller-manager", "etcd-0", "scheduler")
    ]
    entries = [Entry(o, Response(o).raw, 0) for o in items]
    if request.info.name:
        for entry in entries:
            if entry.obj["metadata"]["name"] == request.info.name:
                return present.one(core, request, res, entry)
        raise errors.not_found(res, request.info.name)
    from stablehand.apiserver.verbs.list import answer

    return answer(core, request, res, entries, {"resourceVersion": str(core.storage.revision)})
