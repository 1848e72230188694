"""What create, update and patch share: the way of an object from a body to the store.

    decode -> convert -> default -> admission (mutate) -> strategy (prepare, validate) -> admission (validate) -> store

Deletion has rules of its own (delete.py).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.contract import Request, Response, StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.decode import check_fields
from stablehand.apiserver.storage.collection import Collection, Key
from stablehand.apiserver.storage.watchers import Entry
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.verbs import present
from stablehand.machinery import ownership
from stablehand.machinery import schema as schemas
from stablehand.machinery.fielderrors import FieldError, invalid_message, quote
from stablehand.machinery.resources import Resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.store.contract import RevisionMismatch, WriteFailed

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
RETRIES = 8

# Kinds whose PUT makes the object when there is none (rest.RESTUpdateStrategy.AllowCreateOnUpdate).
CREATE_ON_UPDATE = {
    "endpoints", "events", "limitranges", "services", "podtemplates", "priorityclasses.scheduling.k8s.io",
    "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "leases.coordination.k8s.io",
    "clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io",
}  # fmt: skip


def storage_key(res: Resource, namespace: str, name: str) -> Key:
    return (namespace if res.namespaced else "", name)


def schema_of(core: Core, res: Resource) -> schemas.Schema | None:
    """The schema of the version that was asked for."""
    if res.custom:
        return getattr(core.registry.strategy(res), "schema", None)
    return schemas.schema_for(res.api_version, res.kind)


def stored_strategy(core: Core, res: Resource) -> tuple[Resource, Strategy]:
    """The row and the strategy of the stored version: rules are the same whichever version a client speaks."""
    if res.custom or not res.storage[1]:
        return res, core.registry.strategy(res)
    group, version = res.storage_gv
    row = core.registry.find(group, version, res.plural)
    assert row is not None
    return row, core.registry.strategy(row)


def manager_of(request: Request) -> str:
    """The field manager: fieldManager, else the User-Agent up to its first slash (upstream's rule)."""
    if len((asked := request.query.get("fieldManager", "")).encode()) > 128:
        raise _wrong_manager("Too long: may not be more than 128 bytes")
    if not asked.isprintable():
        raise _wrong_manager(f"Invalid value: {quote(asked)}: should only contain printable characters")
    return asked or request.headers.get("User-Agent", "").split("/")[0] or "unknown"


def _wrong_manager(why: str) -> StatusError:
    return StatusError(422, "Invalid", f'CreateOptions.meta.k8s.io "" is invalid: fieldManager: {why}')


def dry_run(request: Request) -> bool:
    value = request.query.get("dryRun", "")
    if not value:
        return False
    if value != "All":
        raise StatusError(
            422,
            "Invalid",
            f'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "{value}": supported values: "All"',
        )
    return True


def refuse(res: Resource, name: str, found: Sequence[FieldError]) -> None:
    """Raises StatusError 422 with a cause for each field error."""
    if not found:
        return
    kind = res.kind
    qualified = f"{kind}.{res.group}" if res.group else kind
    message = invalid_message(qualified, name, list(found))
    raise errors.invalid(res.group, kind, name, message, [e.cause() for e in found])


def decode_into_storage(core: Core, request: Request, res: Resource, obj: Obj) -> Obj:
    """Checks the body against its version's schema, converts and defaults it."""
    strategy = core.registry.strategy(res)
    check_fields(request, schema_of(core, res), obj, res)
    if res.storage[1] and not res.custom:
        from stablehand.apiserver import legacy

        obj = legacy.to_storage(res, obj)
        _, strategy = stored_strategy(core, res)
    elif res.custom and conversion.webhook(core, res) is None:
        obj["apiVersion"] = strategy.storage_api_version  # type: ignore[attr-defined]
    strategy.default(obj)
    return obj


def place(request: Request, res: Resource, obj: Obj) -> None:
    """Puts the object into the namespace of the path; cluster-scoped objects lose theirs, as upstream's do."""
    meta = obj["metadata"]
    if not res.namespaced:
        meta.pop("namespace", None)
        return
    namespace = request.info.namespace
    if not namespace:
        raise errors.bad_request("an empty namespace may not be set during creation")
    if meta.get("namespace") and meta["namespace"] != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    meta["namespace"] = namespace


def generate_name(base: str) -> str:
    return base[:58] + "".join(random.choices(_ALPHABET, k=5))


async def create_object(
    core: Core, request: Request, res: Resource, obj: Obj, *, applied: bool = False, options: Obj | None = None
) -> Entry:
    """Everything after decoding and defaulting. Raises StatusError."""
    row, strategy = stored_strategy(core, res)
    meta = obj["metadata"]
    place(request, res, obj)
    if meta.get("resourceVersion"):
        raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
    is_dry = dry_run(request)
    collection = core.storage.collection(res)
    generated = not meta.get("name") and meta.get("generateName")
    attributes = Attributes(
        request, row, "CREATE", meta.get("namespace", ""), meta.get("name", ""), obj, dry_run=is_dry
    )
    if not applied:
        # Before admission: what that adds is nobody's, so that no apply conflicts with it.
        meta.pop("managedFields", None)
        _own(core, request, res, row, None, obj)
    await core.admission.mutate(attributes)
    obj = attributes.obj or obj
    meta = obj["metadata"]
    place(request, res, obj)
    if generated and not meta.get("name"):
        attributes.name = meta["name"] = generate_name(meta["generateName"])
    # After admission, which may have changed anything: the system's own fields are the system's.
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = format_time(core.clock())
    for system in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(system, None)
    strategy.prepare_create(obj)
    found = strategy.validate_create(obj)
    if row is not res:
        found += core.registry.strategy(res).validate_asked(obj, None)
    refuse(row, meta.get("name", ""), found)
    request.warnings.extend(strategy.warnings(obj))
    await core.admission.validate(attributes)
    for attempt in range(RETRIES):
        key = storage_key(row, meta.get("namespace", ""), meta["name"])
        given = await core.allocator.allocate(row, obj, None, is_dry)
        try:
            if is_dry:
                if collection.get(key) is not None:
                    raise RevisionMismatch("", 1)
                return Entry(obj, Response(obj).raw, 0)
            stored = await conversion.to_storage(core, row, obj)
            entry = await core.storage.put(collection, key, stored, 0)
            conversion.remember(entry, obj)
        except RevisionMismatch:
            if given is not None:
                await given.undo()
            if not generated or attempt == RETRIES - 1:
                raise errors.already_exists(row, meta["name"]) from None
            meta["name"] = generate_name(meta["generateName"])
        except WriteFailed as e:
            if given is not None:
                await given.undo()
            raise errors.internal(str(e)) from e
        if given is not None:
            await given.keep()
        return entry
    raise AssertionError("unreachable")


async def update_object(
    core: Core,
    request: Request,
    res: Resource,
    old: Entry,
    obj: Obj,
    *,
    subresource: str = "",
    operation: str = "Update",
) -> Entry:
    """Stores `obj` over `old`. `obj` is decoded, defaulted and private. Raises StatusError; RevisionMismatch when
    another write came between (the caller knows whether that is a conflict or to be tried again).

    A scale has been admitted by the caller (what is admitted is the Scale); the rest is as for the object itself."""
    row, strategy = stored_strategy(core, res)
    meta, old_meta = obj["metadata"], old.obj["metadata"]
    is_dry = dry_run(request)
    if res.namespaced:
        meta["namespace"] = old_meta["namespace"]
    else:
        meta.pop("namespace", None)
    meta.setdefault("name", old_meta["name"])
    if meta.get("uid") and meta["uid"] != old_meta["uid"]:
        raise errors.conflict(
            row,
            old_meta["name"],
            f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old_meta['uid']}",
        )
    _keep_system_fields(meta, old_meta)
    if "managedFields" not in meta and "managedFields" in old_meta and operation != "Apply":
        meta["managedFields"] = old_meta["managedFields"]
    attributes = Attributes(
        request, row, "UPDATE", old_meta.get("namespace", ""), old_meta["name"], obj, old.obj, subresource, is_dry
    )
    whole = subresource in ("", "scale")
    if operation == "Update" and not subresource:
        _own(core, request, res, row, old.obj, obj)
    if subresource != "scale":
        await core.admission.mutate(attributes)
        if attributes.obj is not None and attributes.obj is not obj:
            obj = attributes.obj
            _keep_system_fields(obj["metadata"], old_meta)
    if subresource == "status":
        strategy.prepare_status_update(obj, old.obj)
    elif whole:
        strategy.prepare_update(obj, old.obj)
    else:
        strategy.prepare_subresource(obj, old.obj, subresource)
    if subresource == "status":
        refuse(row, old_meta["name"], strategy.validate_status_update(obj, old.obj))
    elif whole:
        found = strategy.validate_update(obj, old.obj)
        if row is not res:
            found += core.registry.strategy(res).validate_asked(obj, old.obj)
        refuse(row, old_meta["name"], found)
        request.warnings.extend(strategy.update_warnings(obj, old.obj))
    else:
        refuse(row, old_meta["name"], strategy.validate_subresource(obj, old.obj, subresource))
    if subresource != "scale":
        await core.admission.validate(attributes)
    if operation == "Update" and subresource:
        _own(core, request, res, row, old.obj, obj, subresource)
    return await store_update(core, row, old, obj, is_dry)


def _own(
    core: Core, request: Request, res: Resource, row: Resource, old: Obj | None, obj: Obj, subresource: str = ""
) -> None:
    """Records in metadata.managedFields what a create or an update changes."""
    ignore = unowned_fields(core, row, subresource)
    schema, now = schema_of(core, row), core.clock()
    ownership.update_managed_fields(
        old, obj, manager_of(request), "Update", res.api_version, subresource, now, schema=schema, ignore=ignore
    )


def unowned_fields(core: Core, row: Resource, subresource: str) -> frozenset[str] | None:
    """The top-level fields of a custom resource that a write to this endpoint resets; None for built-in kinds, of which
    ownership knows it."""
    if not row.custom or not core.registry.strategy(row).has_status:
        return None
    return frozenset({"spec"} if subresource == "status" else () if subresource else {"status"})


def _keep_system_fields(meta: Obj, old: Obj) -> None:
    """What nobody but the system changes in metadata stays as it is stored."""
    for kept in (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
    ):
        if kept in old:
            meta[kept] = old[kept]
        else:
            meta.pop(kept, None)


async def store_update(core: Core, row: Resource, old: Entry, obj: Obj, is_dry: bool = False) -> Entry:
    """Writes, skips a write that changes nothing, or deletes what has lost its last finalizer."""
    collection = core.storage.collection(row)
    meta, old_meta = obj["metadata"], old.obj["metadata"]
    key = storage_key(row, old_meta.get("namespace", ""), old_meta["name"])
    meta["resourceVersion"] = old_meta["resourceVersion"]
    if obj == old.obj:
        return old
    try:
        if may_vanish(row, obj):
            if is_dry:
                return Entry(obj, b"", 0)
            return await remove(core, row, collection, key, old, obj)
        given = await core.allocator.allocate(row, obj, old.obj, is_dry)
        if is_dry:
            return Entry(obj, Response(obj).raw, 0)
        try:
            stored = await conversion.to_storage(core, row, obj)
            entry = await core.storage.put(collection, key, stored, old.revision)
            conversion.remember(entry, obj)
        except BaseException:
            if given is not None:
                await given.undo()
            raise
        if given is not None:
            await given.keep()
        return entry
    except WriteFailed as e:
        raise errors.internal(str(e)) from e


def may_vanish(row: Resource, obj: Obj) -> bool:
    """A terminating object goes with its last finalizer, once its grace is over; a namespace with spec.finalizers."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return not (row.key == "namespaces" and (obj.get("spec") or {}).get("finalizers"))


async def remove(core: Core, row: Resource, collection: Collection, key: Key, old: Entry, last: Obj) -> Entry:
    """Deletes from the store; the answer is the last state. Raises RevisionMismatch, WriteFailed."""
    revision = await core.storage.delete(collection, key, old.revision)
    await core.allocator.release(row, old.obj)
    last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(revision)}}
    return Entry(last, Response(last).raw, revision)


async def respond(core: Core, request: Request, res: Resource, entry: Entry, code: int = 200) -> Response:
    if not entry.revision:  # a dry run: nothing was stored, so there is no shared encoding
        return present.shaped(core, request, res, present.to_version(res, entry.obj), code=code)
    await conversion.prepare(core, res, [entry])
    return present.one(core, request, res, entry, code)
