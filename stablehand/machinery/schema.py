"""What fields the built-in kinds have: the OpenAPI definitions of Kubernetes, compiled into small nodes.

Loads the definitions of the PyPI package kubernetes-validate once, on the first question, and keeps only what
decoding, patches and field ownership need (no descriptions: openapi and explain read the file again). `decode`
does what Go's decoder does to a typed object, in place, in one walk. Custom resources' schemas are compiled to
the same nodes in machinery.structural; defaults and validation of built-in kinds live in the strategies.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from stablehand.machinery import quantity
from stablehand.machinery.types import Obj

VERSION = "v1.36.0"

# Kinds of node.
OBJECT, MAP, ARRAY, STRING, BOOLEAN, INTEGER, NUMBER, ANY, INT_OR_STRING, QUANTITY, TIME, MICRO_TIME, BYTES = range(13)

_ZERO: dict[int, Any] = {STRING: "", BOOLEAN: False, INTEGER: 0, NUMBER: 0, INT_OR_STRING: 0, QUANTITY: "0", BYTES: ""}


class Schema:
    """One node. `exact` is the Python type that needs no further look; `go_type` is for error messages."""

    __slots__ = (
        "custom",
        "exact",
        "format",
        "go_type",
        "item",
        "key_defaults",
        "kind",
        "list_type",
        "map_keys",
        "map_type",
        "name",
        "nullable",
        "patch_merge_key",
        "patch_strategy",
        "preserve",
        "props",
        "raw",
        "required",
    )

    def __init__(self, kind: int, go_type: str = "", exact: type | None = None, format: str = "") -> None:
        self.kind = kind
        self.go_type = go_type
        self.exact = exact
        self.format = format
        self.name = ""  # of a struct: "PodSpec"
        self.props: dict[str, Schema] = {}
        self.item: Schema | None = None  # of an array or a map
        self.list_type = ""  # "atomic" "set" "map"
        self.map_keys: tuple[str, ...] = ()
        self.key_defaults: dict[str, Any] = {}  # of map_keys that items may leave out
        self.map_type = ""  # "atomic" "granular"
        self.patch_strategy = ""  # "merge" "replace" "retainKeys" "merge,retainKeys"
        self.patch_merge_key = ""
        self.required: frozenset[str] = frozenset()
        self.preserve = False  # keeps unknown fields
        self.nullable = False
        self.custom = False  # from a CustomResourceDefinition: wrong types are for validation, not decoding
        self.raw: Obj | None = None  # of a custom root: the slim OpenAPI schema that validation walks

    def clone(self) -> Schema:
        other = Schema(self.kind)
        for slot in Schema.__slots__:
            setattr(other, slot, getattr(self, slot))
        return other

    @property
    def atomic(self) -> bool:
        """Owned and applied as one value (server-side apply)."""
        if self.kind in (OBJECT, MAP):
            return self.map_type == "atomic"
        if self.kind == ARRAY:
            return self.list_type not in ("set", "map")
        return True

    def __repr__(self) -> str:
        return f"Schema({self.name or self.go_type or self.kind})"


S_STRING = Schema(STRING, "string", str)
S_BOOLEAN = Schema(BOOLEAN, "bool", bool)
S_INT32 = Schema(INTEGER, "int32", None, "int32")
S_INT64 = Schema(INTEGER, "int64", int, "int64")
S_NUMBER = Schema(NUMBER, "float64")
S_BYTES = Schema(BYTES, "[]uint8", None, "byte")
S_ANY = Schema(ANY)
S_ANY.preserve = True
S_INT_OR_STRING = Schema(INT_OR_STRING, "intstr.IntOrString")
S_QUANTITY = Schema(QUANTITY, "resource.Quantity")
S_TIME = Schema(TIME, "v1.Time", None, "date-time")
S_MICRO_TIME = Schema(MICRO_TIME, "v1.MicroTime", None, "date-time")

_PREFIX = "#/$defs/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_SPECIAL: dict[str, Schema] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": S_QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": S_INT_OR_STRING,
    _META + "Time": S_TIME,
    _META + "MicroTime": S_MICRO_TIME,
    _META + "FieldsV1": S_ANY,
    _META + "Patch": S_ANY,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": S_ANY,
}
_SCALARS: dict[str, Schema] = {"string": S_STRING, "boolean": S_BOOLEAN, "number": S_NUMBER}


EITHER = "v1.JSONSchemaPropsOrElse"


def definitions_path(version: str = VERSION) -> Path:
    """The file of OpenAPI definitions (key "$defs"), for those who want the descriptions too."""
    spec = find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package kubernetes-validate is not installed")
    root = Path(next(iter(spec.submodule_search_locations)))
    return root / "kubernetes-json-schema" / f"{version}-local" / "_definitions.json"


class Definitions:
    """All definitions of one version, compiled."""

    def __init__(self, raw: Mapping[str, Obj]) -> None:
        self.nodes: dict[str, Schema] = dict(_SPECIAL)
        self.kinds: dict[tuple[str, str], Schema] = {}
        self._raw = raw
        for name, definition in raw.items():
            node = self._definition(name)
            for gvk in definition.get("x-kubernetes-group-version-kind", ()):
                group = gvk["group"]
                api_version = f"{group}/{gvk['version']}" if group else gvk["version"]
                self.kinds[(api_version, gvk["kind"])] = node
        self._raw = {}
        self._legacy()

    def _definition(self, name: str) -> Schema:
        node = self.nodes.get(name)
        if node is not None:
            return node
        raw = self._raw[name]
        if name.endswith(("JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool")):
            return self._either(name)
        if "type" not in raw and "properties" not in raw:
            self.nodes[name] = S_ANY
            return S_ANY
        parts = name.split(".")
        node = Schema(OBJECT, f"{parts[-2]}.{parts[-1]}")
        node.name = parts[-1]
        self.nodes[name] = node
        self._fill(node, raw)
        return node

    def _either(self, name: str) -> Schema:
        """A JSONSchemaProps or something else; owned as one value, as what OpenAPI gives no type is."""
        whole, node = self._definition(name[: name.rindex("Or")]), Schema(OBJECT, EITHER)
        node.name, node.props, node.map_type = whole.name, whole.props, "atomic"  # the props may still be on their way
        return self.nodes.setdefault(name, node)

    def _fill(self, node: Schema, raw: Obj) -> None:
        node.props.update({key: self._node(child) for key, child in raw.get("properties", {}).items()})
        node.required = frozenset(raw.get("required", ()))
        node.map_type = raw.get("x-kubernetes-map-type", "")

    def _node(self, raw: Obj) -> Schema:
        ref = raw.get("$ref")
        if ref is not None:
            node = self._definition(ref[len(_PREFIX) :])
            strategy, map_type = raw.get("x-kubernetes-patch-strategy"), raw.get("x-kubernetes-map-type")
            if strategy or map_type:
                node = node.clone()
                node.patch_strategy = strategy or ""
                node.map_type = map_type or node.map_type
            return node
        declared = raw.get("type")
        kind = declared if isinstance(declared, str) else declared[0] if declared else ""
        if kind == "string":
            return S_BYTES if raw.get("format") == "byte" else S_STRING
        if kind == "integer":
            return S_INT32 if raw.get("format") == "int32" else S_INT64
        if kind == "array":
            node = Schema(ARRAY)
            node.item = item = self._node(raw["items"])
            node.go_type = "[]" + item.go_type
            node.list_type = raw.get("x-kubernetes-list-type", "")
            node.map_keys = tuple(raw.get("x-kubernetes-list-map-keys", ()))
            node.patch_strategy = raw.get("x-kubernetes-patch-strategy", "")
            node.patch_merge_key = raw.get("x-kubernetes-patch-merge-key", "")
            return node
        if kind == "object":
            values = raw.get("additionalProperties")
            if isinstance(values, dict):
                node = Schema(MAP)
                node.item = item = self._node(values)
                node.go_type = "map[string]" + item.go_type
                node.map_type = raw.get("x-kubernetes-map-type", "")
                return node
            return S_ANY
        return _SCALARS.get(kind, S_ANY)

    def _legacy(self) -> None:
        """Workloads of the versions that upstream removed have the fields of apps/v1, and two of their own."""
        extra = {"Deployment": ("rollbackTo", S_ANY), "DaemonSet": ("templateGeneration", S_INT64)}
        kinds = {
            "extensions/v1beta1": ("Deployment", "ReplicaSet", "DaemonSet"),
            "apps/v1beta1": ("Deployment", "StatefulSet", "ControllerRevision"),
            "apps/v1beta2": ("Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "ControllerRevision"),
        }
        for api_version, names in kinds.items():
            for name in names:
                node = self.kinds[("apps/v1", name)]
                if name in extra:
                    node, spec = node.clone(), node.props["spec"].clone()
                    spec.required = spec.required - {"selector"}
                    spec.props = {**spec.props, extra[name][0]: extra[name][1]}
                    node.props = {**node.props, "spec": spec}
                self.kinds[(api_version, name)] = node


_definitions: Definitions | None = None


def definitions() -> Definitions:
    global _definitions
    if _definitions is None:
        _definitions = Definitions(orjson.loads(definitions_path().read_bytes())["$defs"])
    return _definitions


def schema_for(api_version: str, kind: str) -> Schema | None:
    """The schema of a built-in kind (also of removed API versions that Stablehand serves), or None."""
    return definitions().kinds.get((api_version, kind))


def definition(name: str) -> Schema:
    """A definition by its OpenAPI name: "io.k8s.api.core.v1.PodSpec". Raises KeyError."""
    return definitions().nodes[name]


def object_meta() -> Schema:
    return definition(_META + "ObjectMeta")


# --- decoding ---------------------------------------------------------------------------------------------------

_GO_KIND = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_RFC3339_MICRO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_RFC3339_ANY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)")


def _normal_time(text: str, micro: bool) -> str | None:
    found = _RFC3339_ANY.fullmatch(text)
    if found is None:
        return None
    try:
        moment = datetime.fromisoformat(found.group(1) + found.group(3).replace("Z", "+00:00")).astimezone(UTC)
    except ValueError:
        return None
    base = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{base}.{(found.group(2) or '')[:6].ljust(6, '0')}Z" if micro else base + "Z"


def path_text(path: list[Any]) -> str:
    """A path as the strict decoder prints it: spec.containers[0].foo"""
    text = ""
    for part in path:
        if type(part) is int:
            text += f"[{part}]"
        else:
            key = part if type(part) is str else part[0]
            text += f".{key}" if text else key
    return text


class _Walk:
    """One decoding: drops nulls and unknown fields in place, collects what is wrong."""

    __slots__ = ("drop_empty", "errors", "path", "struct", "unknown")

    def __init__(self, drop_empty: bool) -> None:
        self.path: list[Any] = []  # str: struct field; int: index; (str,): map key
        self.struct = ""
        self.errors: list[str] = []
        self.unknown: list[str] = []
        self.drop_empty = drop_empty

    def object(self, schema: Schema, obj: Obj) -> None:
        props = schema.props
        drop: list[str] | None = None
        path = self.path
        outer, self.struct = self.struct, schema.name
        for key, value in obj.items():
            node = props.get(key)
            if node is None:
                if not schema.preserve:
                    self.unknown.append(path_text([*path, key]))
                    drop = [key] if drop is None else [*drop, key]
                continue
            if type(value) is node.exact or node.kind == ANY:
                continue
            if value is None:
                if not node.custom:
                    drop = [key] if drop is None else [*drop, key]
                continue
            if node.kind == OBJECT and type(value) is dict:
                path.append(key)
                self.object(node, value)
                path.pop()
                continue
            path.append(key)
            result = self.value(node, value)
            path.pop()
            if result is not value:
                obj[key] = result
            elif not result and self.drop_empty and not node.custom and node.kind in (MAP, ARRAY):
                if key not in schema.required and type(result) in (dict, list):
                    drop = [key] if drop is None else [*drop, key]
        self.struct = outer
        if drop is not None:
            for key in drop:
                del obj[key]

    def value(self, node: Schema, value: Any) -> Any:
        """Checks a value that is not null; answers what to store in its place."""
        kind = node.kind
        if type(value) is node.exact or kind == ANY:
            return value
        if kind == OBJECT:
            if type(value) is dict:
                self.object(node, value)
            if type(value) is dict or node.go_type == EITHER:
                return value
        elif kind == ARRAY:
            if type(value) is list:
                self.array(node, value)
                return value
        elif kind == MAP:
            if type(value) is dict:
                self.map(node, value)
                return value
        elif node.custom:
            return value
        elif kind == INTEGER:
            if type(value) is int:
                if node.format == "int32" and not -0x80000000 <= value <= 0x7FFFFFFF:
                    self.mismatch(f"number {value}", node)
                return value
            if type(value) is float:
                self.mismatch(f"number {value}", node)
                return value
        elif kind == NUMBER:
            if type(value) is int or type(value) is float:
                return value
        elif kind == INT_OR_STRING:
            if type(value) is str or type(value) is int:
                return value
            self.errors.append(f"json: cannot unmarshal {_go_kind(value)} into Go value of type int32")
            return value
        elif kind == QUANTITY:
            return self.quantity(value)
        elif kind in (TIME, MICRO_TIME):
            return self.time(node, value)
        elif kind == BYTES and type(value) is str:
            return self.base64(value)
        if not node.custom:
            self.mismatch(_go_kind(value), node)
        return value

    def array(self, schema: Schema, values: list[Any]) -> None:
        node = schema.item or S_ANY
        exact, path = node.exact, self.path
        for index, value in enumerate(values):
            if type(value) is exact:
                continue
            if value is None:
                if not node.custom and node.kind != ANY:
                    values[index] = _zero(node)
                continue
            path.append(index)
            result = self.value(node, value)
            path.pop()
            if result is not value:
                values[index] = result

    def map(self, schema: Schema, values: Obj) -> None:
        node = schema.item or S_ANY
        exact, path = node.exact, self.path
        for key, value in values.items():
            if type(value) is exact:
                continue
            if value is None:
                if not node.custom and node.kind != ANY:
                    values[key] = _zero(node)
                continue
            path.append((key,))
            result = self.value(node, value)
            path.pop()
            if result is not value:
                values[key] = result

    def mismatch(self, got: str, node: Schema) -> None:
        fields = ".".join(part for part in self.path if type(part) is str)
        where = f"Go struct field {self.struct}.{fields}" if fields else "Go value"
        self.errors.append(f"json: cannot unmarshal {got} into {where} of type {node.go_type}")

    def quantity(self, value: Any) -> Any:
        if type(value) is str or ((type(value) is int or type(value) is float) and value is not True):
            try:
                return quantity.canonical(value.strip() if type(value) is str else repr(value))
            except quantity.QuantityError as error:
                self.errors.append(str(error))
                return value
        self.errors.append(quantity.FORMAT_ERROR)
        return value

    def time(self, node: Schema, value: Any) -> Any:
        micro = node.kind == MICRO_TIME
        if type(value) is str:
            if (_RFC3339_MICRO if micro else _RFC3339).fullmatch(value):
                return value
            if text := _normal_time(value, micro):
                return text
            layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
            self.errors.append(f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"')
            return value
        self.errors.append(f"json: cannot unmarshal {_go_kind(value)} into Go value of type string")
        return value

    def base64(self, value: str) -> Any:
        try:
            binascii.a2b_base64(value.encode(), strict_mode=True)
            return value
        except (binascii.Error, UnicodeEncodeError):
            text = value.replace("\n", "").replace("\r", "")
        try:
            binascii.a2b_base64(text.encode(), strict_mode=True)
            return text
        except (binascii.Error, UnicodeEncodeError):
            found = re.match(r"[A-Za-z0-9+/]*", value)
            at = found.end() if found else 0
            self.errors.append(f"illegal base64 data at input byte {at if at < len(value) else len(value) // 4 * 4}")
            return value


def _go_kind(value: Any) -> str:
    return _GO_KIND.get(type(value), "value")


def _zero(node: Schema) -> Any:
    """What Go makes of null as an element of a list or a map."""
    if node.kind == OBJECT or node.kind == MAP:
        return {}
    if node.kind == ARRAY:
        return []
    return _ZERO.get(node.kind)


def decode(schema: Schema, obj: Obj, *, drop_empty: bool = True) -> tuple[list[str], list[str]]:
    """Decodes as Go would, in place: drops nulls, unknown fields and (`drop_empty`) empty optional lists and maps of
    built-in kinds, normalises quantities and times. Answers (type errors worded as upstream's decoder words them,
    unknown field paths). The API server answers the first type error as
    `Deployment in version "v1" cannot be handled as a Deployment: <error>`; see `strict_error` for the second.
    """
    walk = _Walk(drop_empty)
    walk.object(schema, obj)
    return walk.errors, walk.unknown


def strict_error(unknown: list[str]) -> str:
    """The text of a strict decoding failure."""
    return "strict decoding error: " + ", ".join(f'unknown field "{path}"' for path in unknown)


def unknown_fields(schema: Schema, obj: Obj) -> list[str]:
    """Paths that the schema does not know; leaves the object alone."""
    walk = _Walk(False)
    walk.object(schema, orjson.loads(orjson.dumps(obj)))
    return walk.unknown


def validate(schema: Schema, obj: Obj) -> list[str]:
    """Type errors only; leaves the object alone."""
    walk = _Walk(False)
    walk.object(schema, orjson.loads(orjson.dumps(obj)))
    return walk.errors
