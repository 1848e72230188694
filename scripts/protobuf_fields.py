"""Makes stablehand/apiserver/protobuf_fields.json: the field numbers of Kubernetes' API messages.

The OpenAPI definitions have no field numbers. A kubectl program has: Go keeps every struct's field names, types and
tags (`json:"replicas,omitempty" protobuf:"varint,1,opt,name=replicas"`) for reflection. This reads them out of the
kubectl and (for CustomResourceDefinition, which kubectl does not know) the Helm of a PyPI package, so the table is
exactly that release's API. Run it when the definitions change version:

    .venv/bin/python scripts/protobuf_fields.py [PROGRAM...]

The file holds {"roots": {"apps/v1/Deployment": "apps.v1.Deployment", …}, "messages": {name: "number:field:type …"}}.
A type is s (string), i (integer), b (boolean), d (double), y (bytes), t (Time), u (MicroTime),
Q (Quantity), I (IntOrString), R (RawExtension, JSON), F (FieldsV1), A, B and X (a schema, or an array, a boolean, an
array of strings, as JSONSchemaProps has them) or a message's name; "*" before it makes a list,
"%" a map of strings to it, "+" a message that only wraps a list (ExtraValue). An empty field is an inlined message.
"?" at the end: a pointer in Go, where zero differs from absent; "!": never omitted in JSON.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = "1.36"
_OLD = {"extensions.v1beta1": "extensions/v1beta1", "apps.v1beta1": "apps/v1beta1", "apps.v1beta2": "apps/v1beta2"}
_PREFIXES = ("k8s.io/api/", "k8s.io/apimachinery/pkg/", "k8s.io/apiextensions-apiserver/pkg/apis/")
_DEFINITIONS = ("io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s.apiextensions-apiserver.pkg.apis.")
_SPECIAL = {
    "meta.v1.Time": "t",
    "meta.v1.MicroTime": "u",
    "meta.v1.FieldsV1": "F",
    "api.resource.Quantity": "Q",
    "util.intstr.IntOrString": "I",
    "runtime.RawExtension": "R",
    "apiextensions.v1.JSON": "R",
    "apiextensions.v1.JSONSchemaPropsOrArray": "A",
    "apiextensions.v1.JSONSchemaPropsOrBool": "B",
    "apiextensions.v1.JSONSchemaPropsOrStringArray": "X",
}
# What no program of those packages holds with its tags: the aggregator's kind, and the metadata-only forms.
_APISERVICE = "apiregistration.v1.APIService"
_MORE = {
    _APISERVICE: f"1:metadata:meta.v1.ObjectMeta 2:spec:{_APISERVICE}Spec 3:status:{_APISERVICE}Status",
    f"{_APISERVICE}List": f"1:metadata:meta.v1.ListMeta 2:items:*{_APISERVICE}!",
    f"{_APISERVICE}Spec": "1:service:apiregistration.v1.ServiceReference? 2:group:s 3:version:s "
    "4:insecureSkipTLSVerify:b 5:caBundle:y 7:groupPriorityMinimum:i! 8:versionPriority:i!",
    f"{_APISERVICE}Status": f"1:conditions:*{_APISERVICE}Condition",
    f"{_APISERVICE}Condition": "1:type:s! 2:status:s! 3:lastTransitionTime:t 4:reason:s 5:message:s",
    "apiregistration.v1.ServiceReference": "1:namespace:s 2:name:s 3:port:i?",
    "meta.v1.PartialObjectMetadata": "1:metadata:meta.v1.ObjectMeta",
    "meta.v1.PartialObjectMetadataList": "1:metadata:meta.v1.ListMeta 2:items:*meta.v1.PartialObjectMetadata!",
}
_MORE_ROOTS = {
    "apiregistration.k8s.io/v1/APIService": _APISERVICE,
    "apiregistration.k8s.io/v1/APIServiceList": f"{_APISERVICE}List",
}
_POINTER, _MAP, _SLICE, _STRING, _STRUCT, _INTERFACE = 22, 21, 23, 24, 25, 20


class Types:
    """Go's type descriptors in an ELF program that is linked to fixed addresses (internal/abi.Type)."""

    def __init__(self, program: Path) -> None:
        data = program.read_bytes()
        sections = {}
        for line in subprocess.run(
            ["readelf", "-SW", program], capture_output=True, text=True, check=True
        ).stdout.split("\n"):
            found = re.match(r"\s*\[ *\d+] (\S+)\s+PROGBITS\s+(\w+) (\w+) (\w+)", line)
            if found:
                sections[found[1]] = tuple(int(x, 16) for x in found.groups()[1:])
        self._base, offset, size = sections[".rodata"]
        self._data = data[offset : offset + size]
        _, offset, size = sections[".typelink"]
        self._links = struct.unpack(f"<{size // 4}i", data[offset : offset + size])

    def _u64(self, address: int) -> int:
        return int(struct.unpack_from("<Q", self._data, address - self._base)[0])

    def _i32(self, address: int) -> int:
        return int(struct.unpack_from("<i", self._data, address - self._base)[0])

    def _text(self, at: int) -> tuple[str, int]:
        size = shift = 0
        while True:
            byte = self._data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return self._data[at : at + size].decode(), at + size

    def _name(self, address: int) -> tuple[str, str]:
        """(name, tag)"""
        at = address - self._base
        name, after = self._text(at + 1)
        return name, self._text(after)[0] if self._data[at] & 2 else ""

    def kind(self, type_: int) -> int:
        return self._data[type_ - self._base + 23] & 31

    def element(self, type_: int) -> int:
        """What a pointer, slice or map (its values) holds."""
        return self._u64(type_ + (56 if self.kind(type_) == _MAP else 48))

    def name(self, type_: int) -> str:
        """The type's name with its package, as "core.v1.Pod"; "" for one outside the API's packages."""
        if not self._data[type_ - self._base + 20] & 1:
            return ""
        size = {_STRUCT: 80, _POINTER: 56, _SLICE: 56, _MAP: 0}.get(self.kind(type_), 48)
        if not size:
            return ""
        package, _ = self._name(self._base + self._i32(type_ + size))
        prefix = next((p for p in _PREFIXES if package.startswith(p)), None)
        if prefix is None:
            return ""
        name = self._name(self._base + self._i32(type_ + 40))[0].rpartition(".")[2]
        return package.removeprefix(prefix).removeprefix("apis/").replace("/", ".") + "." + name

    def fields(self, type_: int) -> list[tuple[str, str, int]]:
        """(name, tag, type) of a struct's fields."""
        first, count = self._u64(type_ + 56), self._u64(type_ + 64)
        out = []
        for i in range(count):
            name, tag = self._name(self._u64(first + 24 * i))
            out.append((name, tag, self._u64(first + 24 * i + 8)))
        return out

    def structs(self) -> dict[str, int]:
        """Every named struct of the API's packages."""
        out = {}
        for link in self._links:
            type_ = self._base + link
            if self.kind(type_) == _POINTER and self.kind(self.element(type_)) == _STRUCT:
                name = self.name(self.element(type_))
                if name:
                    out[name] = self.element(type_)
        return out


class Table:
    def __init__(self, types: Types) -> None:
        self._types = types
        self._todo: list[tuple[str, int]] = []
        self.messages: dict[str, str] = {}

    def add(self, name: str, type_: int) -> None:
        self._todo.append((name, type_))
        while self._todo:
            name, type_ = self._todo.pop()
            if name not in self.messages:
                self.messages[name] = ""
                self.messages[name] = " ".join(
                    self._field(*f) for f in self._types.fields(type_) if "protobuf:" in f[1]
                )

    def _field(self, name: str, tag: str, type_: int) -> str:
        proto = re.search(r'protobuf:"([^"]*)"', tag)[1].split(",")  # type: ignore[index]
        field, *options = re.search(r'json:"([^"]*)"', tag)[1].split(",")  # type: ignore[index]
        mark = "" if {"omitempty", "omitzero"} & set(options) else "!"
        if self._types.kind(type_) == _POINTER:
            type_, mark = self._types.element(type_), "?"
        code = self._code(type_)
        if "inline" in options or not field:
            return f"{proto[1]}::{code}"
        return f"{proto[1]}:{field}:{code}{mark}"

    def _code(self, type_: int) -> str:
        kind, name = self._types.kind(type_), self._types.name(type_)
        if name in _SPECIAL:
            return _SPECIAL[name]
        if kind == _STRING:
            return "s"
        if kind == 1:
            return "b"
        if 2 <= kind <= 11:
            return "i"
        if kind in (13, 14):
            return "d"
        if kind == _POINTER:
            return self._code(self._types.element(type_))
        if kind == _MAP:
            return "%" + self._code(self._types.element(type_))
        if kind == _SLICE:
            inner = self._types.element(type_)
            if self._types.kind(inner) == 8:
                return "y"
            # Tags say "opt" of some plain lists; only a slice type of its own (ExtraValue, Verbs) is a message.
            return ("+" if name else "*") + self._code(inner)
        if kind == _STRUCT and name:
            self._todo.append((name, type_))
            return name
        raise SystemExit(f"a field of kind {kind} ({name or 'no name'}) has no place in the table")


def _api_versions() -> dict[str, list[tuple[str, str]]]:
    """Definition name, without its prefix -> the (apiVersion, kind) it stands for."""
    from stablehand.machinery.schema import definitions_path

    out: dict[str, list[tuple[str, str]]] = {}
    for name, schema in json.loads(definitions_path().read_bytes())["$defs"].items():
        short = name
        for prefix in _DEFINITIONS:
            short = short.removeprefix(prefix)
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            version = f"{gvk['group']}/{gvk['version']}" if gvk["group"] else gvk["version"]
            out.setdefault(short, []).append((version, gvk["kind"]))
    return out


def main() -> None:
    programs = [Path(arg) for arg in sys.argv[1:]]
    if not programs:
        from kubectl import packaged  # type: ignore[import-not-found]

        programs = [packaged(VERSION, ROOT / ".cache" / "bin", name) for name in ("kubectl", "helm")]
    messages: dict[str, str] = {}
    roots: dict[str, str] = {}
    kinds_of = _api_versions()
    for program in programs:
        types = Types(program)
        structs, table = types.structs(), Table(types)
        for name, type_ in structs.items():
            first, *rest = types.fields(type_) or [("", "", 0)]
            package, _, kind = name.rpartition(".")
            if not any("protobuf:" in tag for _, tag, _ in rest) or name in messages:
                continue
            if package in _OLD and first[0] == "TypeMeta":
                roots[f"{_OLD[package]}/{kind}"] = name
            elif name in kinds_of:
                if package != "meta.v1":
                    roots.update({f"{version}/{kind}": name for version, kind in kinds_of[name]})
            else:
                continue
            table.add(name, type_)
        messages = {**table.messages, **messages}
    messages.update(_MORE)
    roots.update(_MORE_ROOTS)
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(messages.items()))
    kinds = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(roots.items()))
    target = ROOT / "stablehand" / "apiserver" / "protobuf_fields.json"
    target.write_text(f'{{"roots": {{\n{kinds}\n}},\n"messages": {{\n{lines}\n}}}}\n')
    print(f"{target}: {len(roots)} kinds, {len(messages)} messages")


if __name__ == "__main__":
    main()
