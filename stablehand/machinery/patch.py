"""JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch.

Each function answers a new object and never changes its inputs; unchanged subtrees are shared with them.
Server-side apply is not here: see machinery.ownership.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from stablehand.machinery.schema import ANY, ARRAY, MAP, OBJECT, S_ANY, Schema
from stablehand.machinery.types import Obj

MAX_JSON_PATCH_OPERATIONS = 10000


class PatchError(Exception):
    """A patch that cannot be applied: `code` is the HTTP status (400, 413, 422), `message` upstream's text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# --- JSON patch -------------------------------------------------------------------------------------------------


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(422, f"operation does not apply: doc is missing path: {text!r}: missing value")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(part: str, length: int, path: str, *, adding: bool = False) -> int:
    if adding and part == "-":
        return length
    try:
        index = int(part)
    except ValueError:
        raise PatchError(422, f'value was not a proper array index: "{part}"') from None
    if index < 0:
        index += length + (1 if adding else 0)
    if not 0 <= index < length + (1 if adding else 0):
        raise PatchError(422, f"Unable to access invalid index: {part}: invalid index referenced")
    return index


def _missing(op: str, path: str) -> PatchError:
    return PatchError(422, f'{op} operation does not apply: doc is missing path: "{path}": missing value')


def _get(doc: Any, parts: list[str], op: str, path: str) -> Any:
    for part in parts:
        if isinstance(doc, dict):
            if part not in doc:
                raise _missing(op, path)
            doc = doc[part]
        elif isinstance(doc, list):
            doc = doc[_index(part, len(doc), path)]
        else:
            raise _missing(op, path)
    return doc


def _edit(doc: Any, parts: list[str], op: str, path: str, value: Any) -> Any:
    """A copy of doc with the value at `parts` added, replaced or removed; only the way there is copied."""
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if isinstance(doc, dict):
        new = dict(doc)
        if rest:
            if head not in doc:
                raise _missing(op, path)
            new[head] = _edit(doc[head], rest, op, path, value)
        elif op == "add":
            new[head] = value
        elif head not in doc:
            if op == "remove":
                raise PatchError(
                    422, f"remove operation does not apply: unable to remove nonexistent key: {head}: missing value"
                )
            raise PatchError(422, f"replace operation does not apply: doc is missing key: {path}: missing value")
        elif op == "remove":
            del new[head]
        else:
            new[head] = value
        return new
    if isinstance(doc, list):
        items = list(doc)
        if rest:
            index = _index(head, len(doc), path)
            items[index] = _edit(doc[index], rest, op, path, value)
        elif op == "add":
            items.insert(_index(head, len(doc), path, adding=True), value)
        elif op == "remove":
            del items[_index(head, len(doc), path)]
        else:
            items[_index(head, len(doc), path)] = value
        return items
    raise _missing(op, path)


def _same(a: Any, b: Any) -> bool:
    """JSON equality: 1 equals 1.0, but true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    return bool(a == b)


def json_patch(obj: Obj, operations: Any) -> Obj:
    """Applies a JSON patch document (already parsed)."""
    if not isinstance(operations, list) or not all(isinstance(op, dict) for op in operations):
        raise PatchError(400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_JSON_PATCH_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {len(operations)}"
        raise PatchError(413, text)
    doc: Any = obj
    for operation in operations:
        op, path = operation.get("op"), operation.get("path")
        if not isinstance(path, str):
            raise PatchError(422, f"{op} operation does not apply: error in decode path: missing value")
        parts = _pointer(path)
        if op in ("add", "replace"):
            if op == "add" or parts:
                doc = _edit(doc, parts, op, path, operation.get("value"))
            else:
                doc = operation.get("value")
        elif op == "remove":
            doc = _edit(doc, parts, op, path, None)
        elif op in ("move", "copy"):
            source = operation.get("from")
            value = _get(doc, _pointer(source), op, str(source))
            if op == "move":
                doc = _edit(doc, _pointer(source), "remove", str(source), None)
            doc = _edit(doc, parts, "add", path, value)
        elif op == "test":
            try:
                found: Any = _get(doc, parts, op, path)
            except PatchError:
                if operation.get("value") is None:
                    continue
                raise PatchError(422, f"testing path {path} failed: test failed") from None
            if not _same(found, operation.get("value")):
                raise PatchError(422, f"testing value {path} failed: test failed")
        else:
            raise PatchError(422, f"Unexpected kind: {op or 'unknown'}")
    if not isinstance(doc, dict):
        raise PatchError(422, "the patched document is not an object")
    return doc


# --- merge patch ------------------------------------------------------------------------------------------------


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


def merge_patch(obj: Obj, patch: Any) -> Obj:
    """Applies a JSON merge patch."""
    if not isinstance(patch, dict):
        raise PatchError(400, "error decoding patch: json: cannot unmarshal non-object into a merge patch")
    return _merge(obj, patch)


def _merge(obj: Obj, patch: Obj) -> Obj:
    result = dict(obj)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            current = result.get(key)
            result[key] = _merge(current, value) if isinstance(current, dict) else _without_nulls(value)
        else:
            result[key] = value
    return result


# --- strategic merge patch --------------------------------------------------------------------------------------

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_LIST = "$deleteFromPrimitiveList/"


def strategic_merge_patch(obj: Obj, patch: Any, schema: Schema) -> Obj:
    """Applies a strategic merge patch; merge keys and strategies come from the kind's schema."""
    if not isinstance(patch, dict):
        raise PatchError(400, "invalid JSON document")
    return _merge_map(obj, patch, schema)


def _child(schema: Schema, key: str) -> Schema:
    if schema.kind == OBJECT:
        return schema.props.get(key, S_ANY)
    if schema.kind == MAP and schema.item is not None:
        return schema.item
    return S_ANY


def _strategies(schema: Schema) -> str:
    """The strategy without retainKeys: "merge", "replace" or ""."""
    return schema.patch_strategy.replace("merge,retainKeys", "merge").replace("retainKeys", "")


def _merge_map(original: Obj, patch: Obj, schema: Schema) -> Obj:
    directive = patch.get(_DIRECTIVE)
    if directive is not None:
        if directive == "replace":
            return {k: v for k, v in patch.items() if k != _DIRECTIVE}
        if directive == "delete":
            return {}
        if directive != "merge":
            raise _unknown_directive(directive, patch)
    result = dict(original)
    retained = patch.get(_RETAIN)
    if retained is not None:
        _check_retained(retained, patch)
        result = {k: v for k, v in result.items() if k in retained}
    done: set[str] = {_DIRECTIVE, _RETAIN}
    for key in patch:
        if key.startswith(_ORDER):
            field = key[len(_ORDER) :]
            done.update((key, field))
            _merge_ordered(result, patch, field, patch[key], _child(schema, field))
    for key, value in patch.items():
        if key in done:
            continue
        if key.startswith(_DELETE_LIST):
            field = key[len(_DELETE_LIST) :]
            if isinstance(result.get(field), list) and isinstance(value, list):
                result[field] = [item for item in result[field] if item not in value]
            continue
        if value is None:
            result.pop(key, None)
            continue
        child = _child(schema, key)
        current = result.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            if _strategies(child) == "replace":
                result[key] = _clean(value)
            else:
                result[key] = _merge_map(current, value, child)
        elif isinstance(current, list) and isinstance(value, list):
            result[key] = _merge_list(current, value, child)
        else:
            result[key] = _clean(value)
    return result


def _check_retained(retained: Any, patch: Obj) -> None:
    if not isinstance(retained, list):
        raise PatchError(400, "invalid patch format of retainKeys")
    for key in patch:
        if not key.startswith("$") and patch[key] is not None and key not in retained:
            raise PatchError(422, "patch content doesn't match retainKeys list")


def _merge_ordered(result: Obj, patch: Obj, field: str, order: Any, schema: Schema) -> None:
    """A list with its $setElementOrder: merge, then arrange."""
    current, patched = result.get(field), patch.get(field)
    for value in (order, current, patched):
        if value is not None and not isinstance(value, list):
            raise PatchError(400, "invalid patch format of setElementOrder list")
    if current is None and patched is None:
        return
    key = schema.patch_merge_key
    keys_of = {_identity(item, key) for item in order}
    for item in patched or ():
        if not (isinstance(item, dict) and _DIRECTIVE in item) and _identity(item, key) not in keys_of:
            raise PatchError(
                500, f"The order in patch list:\n{_go(patched)}\n doesn't match {_ORDER[:-1]} list:\n{_go(order)}\n"
            )
    if current is None:
        merged = _clean(patched)
    elif patched is None:
        merged = list(current)
    else:
        merged = _merge_list(current, patched, schema)
    result[field] = _arrange(merged, order, current or [], key)


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _go(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown_directive(directive: Any, within: Obj) -> PatchError:
    return PatchError(500, f"unknown patch type: {directive} in map: {_go(within)}")


def _identity(item: Any, key: str) -> Any:
    if not key:
        return _text(item) if isinstance(item, dict | list) else item
    if not isinstance(item, dict):
        raise PatchError(400, f"invalid JSON document: expected an object with key {key}")
    if key not in item:
        raise PatchError(500, f"map: {_go(item)} does not contain declared merge key: {key}")
    return item[key]


def _merge_list(original: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    if schema.kind not in (ARRAY, ANY) or _strategies(schema) != "merge":
        return _clean(patch)
    if not original and not patch:
        return original
    key = schema.patch_merge_key
    first = (original or patch)[0]
    if not isinstance(first, dict):
        merged = list(dict.fromkeys([*original, *patch]))
        return _arrange(merged, patch, original, "")
    if not key:
        raise PatchError(400, "cannot merge lists without merge key for " + (schema.go_type or "list"))
    item_schema = schema.item or S_ANY
    plain: list[Obj] = []
    replace = False
    merged = list(original)
    for item in patch:
        directive = item.get(_DIRECTIVE) if isinstance(item, dict) else None
        if directive is None:
            plain.append(item)
        elif directive == "delete":
            wanted = _identity(item, key)
            merged = [have for have in merged if have.get(key) != wanted]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise PatchError(400, "merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive, item)
    if replace:
        return [_clean(item) for item in plain]
    at = {have.get(key): index for index, have in enumerate(merged)}
    for item in plain:
        wanted = _identity(item, key)
        index = at.get(wanted)
        if index is None:
            at[wanted] = len(merged)
            merged.append(_clean(item))
        else:
            merged[index] = _merge_map(merged[index], item, item_schema)
    return _arrange(merged, plain, original, key)


def _arrange(merged: list[Any], order: Iterable[Any], server: list[Any], key: str) -> list[Any]:
    """Upstream's normalizeElementOrder: the patch's items in the patch's order, woven into the server's order."""
    wanted: dict[Any, int] = {}
    for item in order:
        wanted.setdefault(_identity(item, key), len(wanted))
    position: dict[Any, int] = {}
    for item in server:
        position.setdefault(_identity(item, key), len(position))
    ours = sorted((item for item in merged if _identity(item, key) in wanted), key=lambda i: wanted[_identity(i, key)])
    theirs = [item for item in merged if _identity(item, key) not in wanted]
    result: list[Any] = []
    i = j = 0
    while i < len(theirs) and j < len(ours):
        left, right = position.get(_identity(theirs[i], key)), position.get(_identity(ours[j], key))
        if left is not None and right is not None and left < right:
            result.append(theirs[i])
            i += 1
        else:
            result.append(ours[j])
            j += 1
    return result + theirs[i:] + ours[j:]


def _clean(value: Any) -> Any:
    """What remains of a patch value where there was nothing to merge with: no nulls in maps, no directives."""
    if isinstance(value, dict):
        result = {}
        for key, child in value.items():
            if child is None or key.startswith((_ORDER, _DELETE_LIST)) or key in (_DIRECTIVE, _RETAIN):
                continue
            result[key] = _clean(child)
        return result
    if isinstance(value, list):
        return [_clean(item) for item in value if not (isinstance(item, dict) and item.get(_DIRECTIVE) == "delete")]
    return value
