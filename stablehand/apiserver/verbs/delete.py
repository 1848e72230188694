"""delete and deletecollection: grace, finalizers, preconditions and propagation (registry/rest/delete.go)."""

from __future__ import annotations

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.contract import Answer, Request, Response, StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.decode import body
from stablehand.apiserver.storage.watchers import Entry
from stablehand.apiserver.verbs import write
from stablehand.apiserver.verbs.list import answer
from stablehand.apiserver.verbs.select import matcher
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import Resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.store.contract import RevisionMismatch, WriteFailed

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
# Kinds whose dependents stay when nothing is said (rest.OrphanDependents).
_ORPHAN_BY_DEFAULT = {"replicationcontrollers"}
# Kinds whose answer to an immediate deletion is the object, not a Status (genericregistry ReturnDeletedObject).
_RETURNS_OBJECT = {
    "pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims", "resourcequotas",
    "podtemplates", "csinodes.storage.k8s.io", "csidrivers.storage.k8s.io", "storageclasses.storage.k8s.io",
    "volumeattachments.storage.k8s.io", "nodes",
}  # fmt: skip


def delete_options(request: Request) -> Obj:
    """DeleteOptions from the body, else from the query. Raises StatusError 400 or 422."""
    options = body(request) or {}
    if not isinstance(options, dict):
        raise errors.bad_request("DeleteOptions must be an object")
    if not options.get("kind") or not request.raw:
        for field in ("propagationPolicy",):
            if request.query.get(field):
                options.setdefault(field, request.query[field])
        text = request.query.get("gracePeriodSeconds", "")
        if text:
            try:
                options.setdefault("gracePeriodSeconds", int(text))
            except ValueError:
                raise errors.bad_request(f'gracePeriodSeconds: parsing "{text}": invalid syntax') from None
        if request.query.get("orphanDependents"):
            options.setdefault("orphanDependents", request.flag("orphanDependents"))
    if options.get("dryRun") not in (None, [], ["All"]):
        raise StatusError(
            422,
            "Invalid",
            'DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: supported values: "All"',
        )
    policy = options.get("propagationPolicy")
    if policy not in (None, "Orphan", "Background", "Foreground"):
        raise StatusError(
            422,
            "Invalid",
            f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "{policy}": '
            'supported values: "Foreground", "Background", "Orphan", "nil"',
        )
    if policy is not None and options.get("orphanDependents") is not None:
        raise StatusError(
            422,
            "Invalid",
            'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "'
            f'{policy}": orphanDependents and deletionPropagation cannot be both set',
        )
    return options


def _finalizers(res: Resource, meta: Obj, options: Obj) -> list[str]:
    """The object's finalizers after the propagation policy was taken in."""
    present_now = list(meta.get("finalizers") or [])
    policy = options.get("propagationPolicy")
    if options.get("orphanDependents") is not None:
        policy = "Orphan" if options["orphanDependents"] else "Background"
    if policy is None:
        if res.key in _ORPHAN_BY_DEFAULT and FOREGROUND not in present_now:
            policy = "Orphan"
        else:
            return present_now
    kept = [f for f in present_now if f not in (ORPHAN, FOREGROUND)]
    if policy == "Orphan":
        kept.append(ORPHAN)
    elif policy == "Foreground":
        kept.append(FOREGROUND)
    return kept


def _grace(res: Resource, obj: Obj, options: Obj) -> int:
    """Seconds the object is given; only pods have grace (podStrategy.CheckGracefulDelete)."""
    if res.key != "pods":
        return 0
    wanted = options.get("gracePeriodSeconds")
    if wanted is None:
        wanted = nested(obj, "spec", "terminationGracePeriodSeconds")
        wanted = 30 if wanted is None else wanted
    if wanted < 0:
        wanted = 1
    if not nested(obj, "spec", "nodeName"):
        return 0
    if nested(obj, "status", "phase") in ("Failed", "Succeeded"):
        return 0
    return int(wanted)


def _check_preconditions(res: Resource, name: str, entry: Entry, options: Obj) -> bool:
    """Raises StatusError 409; True when the client named a resourceVersion."""
    wanted = options.get("preconditions") or {}
    meta = entry.obj["metadata"]
    if wanted.get("uid") and wanted["uid"] != meta["uid"]:
        why = f"the UID in the precondition ({wanted['uid']}) does not match the UID in record ({meta['uid']}). "
        raise errors.conflict(res, name, why + "The object might have been deleted and then recreated")
    if wanted.get("resourceVersion") and wanted["resourceVersion"] != meta["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({wanted['resourceVersion']}) does not match the ResourceVersion "
        )
        raise errors.conflict(
            res, name, why + f"in record ({meta['resourceVersion']}). The object might have been modified"
        )
    return bool(wanted.get("resourceVersion"))


async def delete_one(
    core: Core, request: Request, res: Resource, namespace: str, name: str, options: Obj
) -> tuple[Entry, bool]:
    """Deletes, or begins to; the object as it then is, and whether it is gone. Raises StatusError."""
    row, _ = write.stored_strategy(core, res)
    collection = core.storage.collection(res)
    key = write.storage_key(res, namespace, name)
    is_dry = bool(options.get("dryRun")) or write.dry_run(request)
    for _ in range(write.RETRIES):
        entry = collection.get(key)
        if entry is None:
            raise errors.not_found(res, name)
        exact = _check_preconditions(res, name, entry, options)
        deletion = Attributes(request, row, "DELETE", namespace, name, None, entry.obj, dry_run=is_dry, options=options)
        await core.admission.mutate(deletion)
        await core.admission.validate(deletion)
        try:
            return await _delete(core, row, entry, options, is_dry)
        except RevisionMismatch:
            if exact:
                raise errors.conflict(res, name) from None
        except WriteFailed as e:
            raise errors.internal(str(e)) from e
    raise errors.conflict(res, name)


async def _delete(core: Core, row: Resource, entry: Entry, options: Obj, is_dry: bool) -> tuple[Entry, bool]:
    collection = core.storage.collection(row)
    meta = entry.obj["metadata"]
    key = write.storage_key(row, meta.get("namespace", ""), meta["name"])
    finalizers = _finalizers(row, meta, options)
    grace = _grace(row, entry.obj, options)
    holds = bool(finalizers) or (row.key == "namespaces" and bool(nested(entry.obj, "spec", "finalizers")))
    terminating = bool(meta.get("deletionTimestamp"))
    if terminating and grace:
        # A second deletion may only shorten the grace that was given.
        given = meta.get("deletionGracePeriodSeconds") or 0
        asked = options.get("gracePeriodSeconds")
        grace = min(given, int(asked)) if asked is not None else given
    if not holds and not grace:
        if is_dry:
            return entry, True
        if meta.get("deletionGracePeriodSeconds"):
            entry_obj = {**entry.obj, "metadata": {**meta, "deletionGracePeriodSeconds": 0}}
        else:
            entry_obj = entry.obj
        return await write.remove(core, row, collection, key, entry, entry_obj), True
    obj = copy_object(entry.obj)
    new = obj["metadata"]
    if finalizers:
        new["finalizers"] = finalizers
    else:
        new.pop("finalizers", None)
    if not terminating or grace < (meta.get("deletionGracePeriodSeconds") or 0):
        new["deletionTimestamp"] = format_time(core.clock() + grace)
        new["deletionGracePeriodSeconds"] = grace
        if not terminating and new.get("generation"):
            new["generation"] += 1
    if row.key == "namespaces":
        obj.setdefault("status", {})["phase"] = "Terminating"
    if obj == entry.obj or is_dry:
        return Entry(obj, Response(obj).raw, entry.revision), False
    return await core.storage.put(collection, key, obj, entry.revision), False


async def handle(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    options = delete_options(request)
    entry, gone = await delete_one(core, request, res, info.namespace, info.name, options)
    if gone and res.key not in _RETURNS_OBJECT:
        details = {"name": info.name, "group": res.group, "kind": res.plural, "uid": entry.obj["metadata"]["uid"]}
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {k: v for k, v in details.items() if v},
        }
        return Response(status)
    return await write.respond(core, request, res, entry)


async def handle_collection(core: Core, request: Request) -> Answer:
    info = request.info
    res = info.resource
    assert res is not None
    options = delete_options(request)
    match = matcher(request, res, getattr(core.registry.strategy(res), "selectable", ()) if res.custom else ())
    namespace = info.namespace if res.namespaced else ""
    deleted: list[Entry] = []
    for key, entry in list(core.storage.collection(res).ordered(namespace)):
        if match is not None and not match(entry.obj):
            continue
        try:
            last, _ = await delete_one(core, request, res, key[0], key[1], options)
        except StatusError as e:
            if e.code != 404:
                raise
            continue
        deleted.append(last)
    await conversion.prepare(core, res, deleted)
    return answer(core, request, res, deleted, {"resourceVersion": str(core.storage.revision)})
