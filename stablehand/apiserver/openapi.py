"""/openapi/v3: the OpenAPI documents that kubectl explain and clients' validation read.

Made on demand from the definitions file and not kept: they are large and asked for rarely. Custom resources add theirs.
"""

from __future__ import annotations

import hashlib
import re
from email.utils import formatdate
from typing import Any

import orjson

from stablehand import __version__
from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request, Response
from stablehand.apiserver.core import Core
from stablehand.apiserver.discovery import KUBERNETES
from stablehand.machinery.resources import Resource
from stablehand.machinery.schema import definitions_path
from stablehand.machinery.types import Obj

_REF = re.compile(r"#/\$defs/([A-Za-z0-9_.\-]+)")
_SHARED_META = ("ObjectMeta", "ListMeta", "DeleteOptions", "Status")
_LEGACY = {"extensions/v1beta1", "apps/v1beta1", "apps/v1beta2"}


def definitions() -> dict[str, Obj]:
    return orjson.loads(definitions_path().read_bytes())["$defs"]


def _clean(node: Any) -> Any:
    """The file's JSON Schema as OpenAPI v3: no null types, references under components."""
    if isinstance(node, list):
        return [_clean(v) for v in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        ref = {"$ref": node["$ref"].replace("#/$defs/", "#/components/schemas/")}
        rest = {k: _clean(v) for k, v in node.items() if k != "$ref"}
        return {"allOf": [ref], "default": {}, **rest} if rest else ref
    out: Obj = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _clean(v) for name, v in value.items()}  # a property may be called "type" or "enum"
        elif key == "type" and isinstance(value, list):
            out[key] = next((v for v in value if v != "null"), "object")
        elif key == "enum" and value and isinstance(value[0], str) and len(value) == 1:
            continue  # the file pins apiVersion and kind; upstream's documents do not
        else:
            out[key] = _clean(value)
    return out


def _group_kinds(rows: list[Resource]) -> set[tuple[str, str]]:
    return {(r.api_version if r.api_version not in _LEGACY else "apps/v1", r.kind) for r in rows}


def _path_items(rows: list[Resource], schema_of: dict[str, str]) -> Obj:
    paths: Obj = {}
    for res in rows:
        name = schema_of.get(res.kind)
        ref: Obj = {"$ref": f"#/components/schemas/{name}"} if name else {}
        gvk = {"group": res.group, "version": res.version, "kind": res.kind}
        body = {"content": {"application/json": {"schema": ref}}}
        ok = {"200": {"description": "OK", "content": {"application/json": {"schema": ref}}}}

        def op(
            verb: str,
            action: str,
            gvk: Obj = gvk,
            body: Obj = body,
            ok: Obj = ok,
            with_body: bool = False,
            res: Resource = res,
        ) -> Obj:
            out: Obj = {
                "operationId": f"{verb}{res.version.capitalize()}{res.kind}",
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
                "responses": ok,
                "parameters": [
                    {"name": p, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
                    for p in ("dryRun", "fieldManager", "fieldValidation")
                ]
                if with_body
                else [],
            }
            if with_body:
                out["requestBody"] = body
            return out

        root = res.path("{namespace}" if res.namespaced else None)
        item: Obj = {}
        if "list" in res.verbs:
            item["get"] = op("list", "list")
        if "create" in res.verbs:
            item["post"] = op("create", "post", with_body=True)
        paths[root] = item
        if "get" in res.verbs:
            paths[root + "/{name}"] = {
                "get": op("read", "get"),
                "put": op("replace", "put", with_body=True),
                "patch": op("patch", "patch", with_body=True),
                "delete": op("delete", "delete"),
            }
    return paths


def _add_referenced(schemas: Obj, raw: dict[str, Obj], todo: list[str]) -> None:
    """Adds these definitions, and what they refer to, to `schemas`."""
    while todo:
        name = todo.pop()
        if name in schemas or name not in raw:
            continue
        todo.extend(_REF.findall(orjson.dumps(raw[name]).decode()))
        schemas[name] = _clean(raw[name])


def _list_schema(group: str, version: str, kind: str, item: str) -> Obj:
    meta = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
    return {
        "description": f"{kind}List is a list of {kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": meta},
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}},
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": f"{kind}List"}],
    }


def _rename_legacy(schemas: Obj, names: dict[str, str], group: str, version: str) -> None:
    """Removed versions go by the definitions of apps/v1, whose fields they have, under names and kinds of their own."""
    for kind, old in list(names.items()):
        new = f"io.k8s.api.{group}.{version}.{kind}"
        gvk = [{"group": group, "version": version, "kind": kind}]
        schemas[new] = {**schemas.pop(old), "x-kubernetes-group-version-kind": gvk}
        schemas.pop(old + "List", None)
        schemas[new + "List"] = _list_schema(group, version, kind, new)
        names[kind] = new


def document(core: Core, group: str, version: str, raw: dict[str, Obj] | None = None) -> Obj | None:
    """The OpenAPI v3 document of one group and version, or None. `raw` is `definitions()` when the caller has it."""
    rows = core.registry.resources(group, version)
    if not rows:
        return None
    schemas: Obj = {}
    names: dict[str, str] = {}
    raw = raw or definitions()
    if not rows[0].custom:
        kinds = _group_kinds(rows)
        todo: list[str] = []
        for name, definition in raw.items():
            for gvk in definition.get("x-kubernetes-group-version-kind", ()):
                api_version = f"{gvk['group']}/{gvk['version']}" if gvk["group"] else gvk["version"]
                kind = gvk["kind"].removesuffix("List") if gvk["kind"].endswith("List") else gvk["kind"]
                if (api_version, kind) in kinds or (api_version, gvk["kind"]) in kinds:
                    todo.append(name)
                    if (api_version, gvk["kind"]) in kinds:
                        names[gvk["kind"]] = name
        todo += ["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"]
        if any("scale" in r.subresources for r in rows):
            todo.append("io.k8s.api.autoscaling.v1.Scale")
        _add_referenced(schemas, raw, todo)
        if f"{group}/{version}" in _LEGACY:
            _rename_legacy(schemas, names, group, version)
    else:
        for res in rows:
            strategy = core.registry.strategy(res)
            name = ".".join([*reversed(group.split(".")), version, res.kind])
            schema = dict(getattr(strategy, "openapi", None) or {"type": "object"})
            schema["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": res.kind}]
            schemas[name], names[res.kind] = schema, name
            schemas[name + "List"] = _list_schema(group, version, res.kind, name)
        _add_referenced(schemas, raw, ["io.k8s.apimachinery.pkg.apis.meta.v1." + k for k in _SHARED_META])
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES},
        "paths": _path_items(rows, names),
        "components": {"schemas": schemas},
    }


def _group_path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def stamp(core: Core, group: str, version: str) -> str:
    """Names the content of a document without making it: the same stamp, the same bytes."""
    rows = core.registry.resources(group, version)
    parts: list[Any] = [KUBERNETES, __version__, group, version]
    parts.extend([r.plural, r.kind, r.namespaced, r.verbs, r.subresources] for r in rows)
    if rows and rows[0].custom:
        parts.extend(getattr(core.registry.strategy(r), "openapi", None) for r in rows)
    else:
        parts.append(definitions_path().stat().st_size)
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:32].upper()


def _index(core: Core) -> Obj:
    paths = {}
    for group in ["", *core.registry.groups()]:
        for version in core.registry.versions(group):
            where = _group_path(group, version)
            paths[where] = {"serverRelativeURL": f"/openapi/v3/{where}?hash={stamp(core, group, version)}"}
    for (group, version), mark in core.aggregation.openapi.marks.items():
        where = _group_path(group, version)
        paths[where] = {"serverRelativeURL": f"/openapi/v3/{where}?hash={mark}"}
    return {"paths": paths}


async def handle(core: Core, request: Request) -> Response:
    """/openapi/v3 and its documents. A document asked for by its stamp may be kept for ever. Raises StatusError 404."""
    path = request.path.rstrip("/")
    if path == "/openapi/v3":
        return Response(_index(core))
    parts = path.removeprefix("/openapi/v3/").split("/")
    if parts[0] == "api" and len(parts) == 2:
        group, version = "", parts[1]
    elif parts[0] == "apis" and len(parts) == 3:
        group, version = parts[1], parts[2]
    else:
        raise errors.no_such_path()
    elsewhere = core.aggregation.openapi
    remote = elsewhere.marks.get((group, version))
    if remote is None and not core.registry.resources(group, version):
        raise errors.no_such_path()
    mark = remote or stamp(core, group, version)
    asked = request.query.get("hash", "")
    if asked and asked != mark:
        where = f"/openapi/v3/{_group_path(group, version)}?hash={mark}"
        return Response({}, raw=b"", code=301, headers={"Location": where})
    headers = {"Etag": f'"{mark}"', "Vary": "Accept"}
    if asked:
        headers["Cache-Control"] = "public, immutable"
        headers["Expires"] = formatdate(core.clock() + 365 * 86400, usegmt=True)
    if request.headers.get("If-None-Match") == f'"{mark}"':
        return Response({}, raw=b"", code=304, headers=headers)
    if remote is None:
        return Response(document(core, group, version), headers=headers)
    found = await elsewhere.document((group, version))
    if found is None:
        raise errors.unavailable("service unavailable")
    return Response(found, headers=headers)
