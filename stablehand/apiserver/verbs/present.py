"""The shape of an answer: the object itself, a server-side Table, or PartialObjectMetadata, in JSON or YAML.

Which one, the Accept header says. Also turns stored objects into the version that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from stablehand.apiserver import errors, protobuf
from stablehand.apiserver.contract import Request, Response
from stablehand.apiserver.core import Core
from stablehand.apiserver.storage.watchers import Entry
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

_OK = ("application/json", "*/*", "application/*", "application/yaml", "application/json;stream=watch")


def accepted(request: Request) -> tuple[str, str]:
    """(shape, media type): shape is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList"."""
    header = request.headers.get("Accept") or "*/*"
    if header in _OK:
        return "", "application/yaml" if header == "application/yaml" else "application/json"
    for clause in header.split(","):
        media, *parameters = (part.strip() for part in clause.split(";"))
        if media == protobuf.CONTENT_TYPE and protobuf.wanted(header):
            media = "application/json"  # the front turns the answer into protobuf
        if media not in ("application/json", "application/yaml", "*/*", "application/*"):
            continue
        wanted = dict(p.split("=", 1) for p in parameters if "=" in p)
        kind = wanted.get("as", "")
        if kind:
            if wanted.get("g") != "meta.k8s.io" or wanted.get("v") not in ("v1", "v1beta1"):
                continue
            if kind not in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
                continue
        return kind, "application/yaml" if media == "application/yaml" else "application/json"
    raise errors.not_acceptable()


def to_version(res: Resource, obj: Obj) -> Obj:
    """A stored object in the version of `res`."""
    if not res.storage[1] and not res.custom:
        return obj
    if res.custom:
        if obj.get("apiVersion") == res.api_version:
            return obj
        return {**obj, "apiVersion": res.api_version}
    from stablehand.apiserver import legacy

    return legacy.from_storage(res, obj)


def view(res: Resource, entry: Entry) -> Obj:
    """A stored object in the version of `res`; where a webhook converts, conversion.prepare comes first."""
    if res.custom and entry.forms is not None and (form := entry.forms.get(res.api_version)) is not None:
        return form
    return to_version(res, entry.obj)


def partial(obj: Obj) -> Obj:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(core: Core, request: Request, res: Resource, objects: list[Obj], meta: Obj) -> Obj:
    from stablehand.apiserver.tables import table_for

    include = request.query.get("includeObject", "") or "Metadata"
    custom = core.registry.strategy(res) if res.custom else None
    columns = getattr(custom, "columns", None)
    if columns is not None:
        from stablehand.apiserver.tables import custom_table

        out = custom_table(columns, objects, core.clock(), include)
    else:
        out = table_for(res, objects, core.clock(), include)
    out["metadata"] = meta
    return out


def one(core: Core, request: Request, res: Resource, entry: Entry, code: int = 200) -> Response:
    """The answer for a single stored object."""
    shape, media = accepted(request)
    if not shape and media == "application/json":
        if not res.storage[1] and not res.custom:
            return Response(entry.obj, raw=entry.raw, code=code)
        return Response(view(res, entry), code=code)
    return shaped(core, request, res, view(res, entry), shape, media, code)


def shaped(
    core: Core, request: Request, res: Resource, obj: Obj, shape: str = "", media: str = "", code: int = 200
) -> Response:
    """The answer for an object that is not (or not as such) stored."""
    if not media:
        shape, media = accepted(request)
    if shape == "Table":
        obj = table(core, request, res, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")})
    elif shape:
        obj = partial(obj)
    return yaml_or_json(obj, media, code)


def yaml_or_json(obj: Obj, media: str, code: int = 200) -> Response:
    if media == "application/yaml":
        import yaml

        text = yaml.dump(obj, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), default_flow_style=False)
        return Response(obj, raw=text.encode(), code=code, content_type="application/yaml")
    return Response(obj, code=code)


def shaper(core: Core, request: Request, res: Resource) -> Callable[[Entry], Obj] | None:
    """What a watch does to each object; None when the stored bytes can be sent as they are."""
    shape, _ = accepted(request)
    converted = bool(res.storage[1]) or res.custom
    if not shape:
        return (lambda entry: view(res, entry)) if converted else None
    if shape == "Table":
        first = True

        def as_table(entry: Entry) -> Obj:
            nonlocal first
            obj = view(res, entry)
            out = table(core, request, res, [obj], {"resourceVersion": obj["metadata"]["resourceVersion"]})
            if not first:
                out["columnDefinitions"] = None
            first = False
            return out

        return as_table
    return lambda entry: partial(entry.obj)
