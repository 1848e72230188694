"""Who owns which field: managedFields and server-side apply.

`update_managed_fields` records what an ordinary write changed; `apply` merges an applied configuration into the
live object, refuses conflicts, and removes what the manager stopped applying. Sets of fields and their algebra are
in machinery.fieldsets. Neither function defaults or validates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from stablehand.machinery import fieldsets
from stablehand.machinery.fieldsets import FieldSet, SetError, child_schema
from stablehand.machinery.ownershipmerge import merge, prune
from stablehand.machinery.schema import OBJECT, Schema, schema_for
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj

MAX_UPDATE_MANAGERS = 10
ANCIENT = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_SYSTEM = ("f:name", "f:namespace", "f:creationTimestamp", "f:selfLink", "f:uid", "f:clusterName", "f:generation")
_SYSTEM_METADATA = frozenset(
    (*_SYSTEM, "f:managedFields", "f:resourceVersion", "f:deletionTimestamp", "f:deletionGracePeriodSeconds")
)
_SKIP_ROOT = frozenset(("apiVersion", "kind"))
_SYSTEM_KEYS = frozenset(
    name[2:] for name in _SYSTEM_METADATA - {"f:deletionTimestamp", "f:deletionGracePeriodSeconds"}
)
_DEDUCED_ROOT = Schema(OBJECT)
_DEDUCED_ROOT.custom = True
_DEDUCED_ROOT.preserve = True


class ApplyError(Exception):
    """An applied configuration that cannot be used; `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ApplyConflict(Exception):
    """Fields that others own with other values: [(manager as upstream prints it, path), …]."""

    def __init__(self, conflicts: list[tuple[str, str]]) -> None:
        self.conflicts = conflicts
        super().__init__(self.message)

    @property
    def message(self) -> str:
        if len(self.conflicts) == 1:
            manager, path = self.conflicts[0]
            return f"Apply failed with 1 conflict: conflict with {manager}: {path}"
        by_manager: dict[str, list[str]] = {}
        for manager, path in self.conflicts:
            by_manager.setdefault(manager, []).append(path)
        parts = [f"conflicts with {m}:\n" + "\n".join(f"- {p}" for p in by_manager[m]) for m in sorted(by_manager)]
        return f"Apply failed with {len(self.conflicts)} conflicts: " + "\n".join(parts)

    @property
    def causes(self) -> list[tuple[str, str]]:
        """(message, path) of each cause; their reason is FieldManagerConflict."""
        return [(f"conflict with {manager}", path) for manager, path in self.conflicts]


@dataclass(slots=True)
class _Entry:
    """One entry of managedFields."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""
    time: str = ""
    fields: FieldSet = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, str, str, str]:
        version = "" if self.operation == "Apply" else self.api_version
        return (self.manager, self.operation, version, self.subresource)

    def describe(self) -> str:
        text = orjson.dumps(self.manager).decode()
        if self.subresource:
            text += f" with subresource {orjson.dumps(self.subresource).decode()}"
        return f"{text} using {self.api_version}" if self.operation == "Update" else text

    def encode(self) -> Obj:
        encoded: Obj = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields,
        }
        if self.subresource:
            encoded["subresource"] = self.subresource
        return encoded


def _decode(raw: list[Obj] | None, root: Schema) -> list[_Entry]:
    """The entries that an object has, as they are under the schema of today."""
    found: list[_Entry] = []
    for item in raw or ():
        fields = item.get("fieldsV1")
        if not isinstance(fields, dict) or not fields:
            continue
        found.append(
            _Entry(
                item.get("manager", ""),
                item.get("operation", "Update"),
                item.get("apiVersion", ""),
                item.get("subresource", ""),
                item.get("time") or "",
                fieldsets.collapse(root, fields) if root.custom else fields,
            )
        )
    return found


def _encode(entries: list[_Entry]) -> list[Obj]:
    entries = _capped(entries)
    if len(entries) > 1:
        entries.sort(key=lambda e: (e.operation, e.time, e.manager, e.api_version, e.subresource))
    return [entry.encode() for entry in entries]


def _capped(entries: list[_Entry]) -> list[_Entry]:
    updates = [e for e in entries if e.operation != "Apply"]
    excess = len(updates) - MAX_UPDATE_MANAGERS
    if excess <= 0:
        return entries
    buckets: dict[str, _Entry] = {}
    kept = [e for e in entries if e.operation == "Apply"]
    updates.sort(key=lambda e: (e.manager != ANCIENT, e.time))
    for entry in updates:
        bucket = buckets.get(entry.api_version)
        if excess > 0 and bucket is not None:
            bucket.fields = fieldsets.union(bucket.fields, entry.fields)
            bucket.time = max(bucket.time, entry.time)
            bucket.manager, bucket.subresource = ANCIENT, ""
            excess -= 1
        else:
            if excess > 0:
                buckets[entry.api_version] = entry
            kept.append(entry)
    return kept


def _stamp(now: float | str) -> str:
    return now if isinstance(now, str) else format_time(now)


def _set(obj: Obj, entries: list[Obj]) -> None:
    metadata = obj.setdefault("metadata", {})
    if entries:
        metadata["managedFields"] = entries
    else:
        metadata.pop("managedFields", None)


def _schema_of(obj: Obj, schema: Schema | None) -> Schema:
    found = schema or schema_for(obj.get("apiVersion", ""), obj.get("kind", ""))
    return found or _DEDUCED_ROOT


def _changes(schema: Schema, old: Obj, new: Obj, ignore: frozenset[str]) -> tuple[FieldSet, FieldSet]:
    """(added or modified, removed) between two objects, system fields left out."""
    changed: FieldSet = {}
    removed: FieldSet = {}
    fieldsets.compare(schema, old, new, changed, removed, ignore | _SKIP_ROOT | {"metadata"})
    before, after = old.get("metadata") or {}, new.get("metadata") or {}
    if before != after:
        meta = schema.props.get("metadata") or child_schema(schema, "metadata")
        sub: FieldSet = {}
        gone: FieldSet = {}
        fieldsets.compare(meta, before, after, sub, gone, _SYSTEM_KEYS)
        if sub:
            changed["f:metadata"] = sub
        if gone:
            removed["f:metadata"] = gone
    return changed, removed


def default_ignore(schema: Schema, subresource: str) -> frozenset[str]:
    """Top-level fields that a write to this endpoint resets, so no one comes to own them by it."""
    if schema.custom:
        return frozenset()
    if not subresource and "status" in schema.props:
        return frozenset(("status",))
    if subresource == "status":
        return frozenset(("spec",))
    return frozenset()


def update_managed_fields(
    old: Obj | None,
    new: Obj,
    manager: str,
    operation: str = "Update",
    api_version: str = "",
    subresource: str = "",
    now: float | str = 0.0,
    *,
    schema: Schema | None = None,
    ignore: frozenset[str] | None = None,
) -> None:
    """Sets `new.metadata.managedFields` after a create (`old` None) or an update. Only that key of new changes."""
    root = _schema_of(new, schema)
    api_version = api_version or new.get("apiVersion", "")
    if ignore is None:
        ignore = default_ignore(root, subresource)
    metadata = new.setdefault("metadata", {})
    sent = metadata.get("managedFields")
    if old is None:
        entries = _decode(sent, root)
        base: Obj = {}
    else:
        live = old.get("metadata", {}).get("managedFields")
        if sent == [{}] and not subresource:
            live, sent = [], None  # asked to forget everything
        if sent is live or sent == live or not sent or subresource:
            sent = live
        entries = _decode(sent, root)
        if not entries and not (live or ()):
            _set(new, [])  # not tracked: upstream starts again at the first apply
            return
        base = old
    try:
        changed, removed = _changes(root, base, new, ignore)
    except SetError:
        _set(new, sent or [])
        return
    if not changed and not removed:
        _set(new, sent or [])
        return
    _set(new, _encode(_after_update(entries, changed, removed, manager, operation, api_version, subresource, now)))


def _after_update(
    entries: list[_Entry],
    changed: FieldSet,
    removed: FieldSet,
    manager: str,
    operation: str,
    api_version: str,
    subresource: str,
    now: float | str,
) -> list[_Entry]:
    mine = _Entry(manager, operation, api_version, subresource, _stamp(now), changed)
    kept: list[_Entry] = []
    for entry in entries:
        if changed:
            if entry.identity == mine.identity:
                mine.fields = fieldsets.difference(fieldsets.union(entry.fields, changed), removed)
                continue
            entry.fields = fieldsets.difference(entry.fields, changed)
        if removed:
            entry.fields = fieldsets.difference(entry.fields, removed)
        if entry.fields:
            kept.append(entry)
    if changed:
        kept.append(mine)
    return kept


# --- apply ------------------------------------------------------------------------------------------------------


def apply(
    live: Obj | None,
    applied: Obj,
    manager: str,
    force: bool,
    api_version: str,
    subresource: str,
    now: float | str,
    schema: Schema | None = None,
    *,
    ignore: frozenset[str] | None = None,
) -> Obj:
    """The object after a server-side apply; `live` itself when nothing changes. Inputs are not changed.
    Raises ApplyConflict, ApplyError."""
    root = _schema_of(applied, schema)
    if ignore is None:
        ignore = default_ignore(root, subresource)
    if applied.get("metadata", {}).get("managedFields"):
        raise ApplyError(400, "metadata.managedFields must be nil")
    current = live or {"apiVersion": applied.get("apiVersion"), "kind": applied.get("kind")}
    entries = _decode(current.get("metadata", {}).get("managedFields"), root)
    if live is not None and not entries:
        first, _ = _changes(root, {}, current, frozenset())
        if first:
            stamp = _stamp(now)
            entries = [_Entry(BEFORE_FIRST_APPLY, "Update", current.get("apiVersion", ""), "", stamp, first)]
    new_set = _applied_set(root, applied, ignore)
    mine = _Entry(manager, "Apply", api_version, subresource, _stamp(now), new_set)
    last = next((e for e in entries if e.identity == mine.identity), None)
    others = [e for e in entries if e.identity != mine.identity]
    trimmed = {k: v for k, v in applied.items() if k not in ignore}
    merged = merge(root, current, trimmed)
    if last is not None:
        owned = new_set
        for entry in others:
            owned = fieldsets.union(owned, entry.fields)
        merged = prune(root, merged, last.fields, owned)
    changed, removed = _changes(root, current, merged, frozenset())
    conflicts = _conflicts(others, changed)
    if conflicts and not force:
        allowed = _last_applied_set(root, live) if manager == "kubectl" and live is not None else {}
        refused = [
            (entry.describe(), path)
            for entry, found in conflicts
            for path in fieldsets.paths(fieldsets.difference(found, allowed))
        ]
        if refused:
            raise ApplyConflict(refused)
    for entry, found in conflicts:
        entry.fields = fieldsets.difference(entry.fields, found)
    if removed:
        for entry in others:
            entry.fields = fieldsets.difference(entry.fields, removed)
    if live is not None and not changed and not removed:
        same_set = last.fields == new_set and last.api_version == api_version if last is not None else not new_set
        if same_set:
            return live
    kept = [entry for entry in others if entry.fields]
    if new_set:
        kept.append(mine)
    if manager == "kubectl" and live is not None:
        merged = _refresh_last_applied(live, merged, applied)
    result = dict(merged)
    result["metadata"] = dict(merged.get("metadata") or {})
    _set(result, _encode(kept))
    return result


def _applied_set(root: Schema, applied: Obj, ignore: frozenset[str]) -> FieldSet:
    try:
        found = fieldsets.full_set(root, applied, containers=False)
    except SetError as error:
        meta = applied.get("metadata", {})
        api, kind = applied.get("apiVersion", ""), applied.get("kind", "")
        where = f"{meta.get('namespace', '')}/{meta.get('name', '')}; {api}, Kind={kind}"
        raise ApplyError(500, f"failed to create typed patch object ({where}): {error}") from None
    for key in ("apiVersion", "kind", *ignore):
        found.pop("f:" + key, None)
    meta_set = found.get("f:metadata")
    if meta_set is not None:
        for element in _SYSTEM_METADATA:
            meta_set.pop(element, None)
        if not meta_set:
            del found["f:metadata"]
    return found


def _conflicts(others: list[_Entry], changed: FieldSet) -> list[tuple[_Entry, FieldSet]]:
    found = []
    for entry in others:
        both = fieldsets.intersection(entry.fields, changed)
        if both:
            found.append((entry, both))
    return found


def _refresh_last_applied(live: Obj, merged: Obj, applied: Obj) -> Obj:
    """kubectl's own annotation follows its server-side applies, so that client-side apply still works afterwards."""
    if LAST_APPLIED not in (live.get("metadata", {}).get("annotations") or {}):
        return merged
    meta = dict(merged["metadata"])
    notes = dict(meta.get("annotations") or {})
    config = dict(applied)
    config["metadata"] = dict(applied.get("metadata") or {})
    own_notes = {k: v for k, v in (config["metadata"].get("annotations") or {}).items() if k != LAST_APPLIED}
    config["metadata"]["annotations"] = own_notes
    notes[LAST_APPLIED] = orjson.dumps(config, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    meta["annotations"] = notes
    return {**merged, "metadata": meta}


def _last_applied_set(root: Schema, live: Obj) -> FieldSet:
    """Fields whose live value is what kubectl's client-side apply last wrote: kubectl may take these over."""
    text = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return {}
    try:
        config = orjson.loads(text)
        found = fieldsets.full_set(root, config, containers=False)
        changed, _ = _changes(root, live, config, frozenset())
    except (ValueError, AttributeError):
        return {}
    found.setdefault("f:metadata", {}).setdefault("f:annotations", {})["f:" + LAST_APPLIED] = {}
    return fieldsets.difference(found, changed)
