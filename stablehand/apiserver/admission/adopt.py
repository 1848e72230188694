"""Takes in an object that something outside the server's own code made of a write: a webhook's patch, a policy's."""

from __future__ import annotations

from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import schema as schemas
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj


class Unfit(Exception):
    """The object is none of its kind; str() says why."""


def schema_of(core: Core, row: Resource, obj: Obj) -> schemas.Schema | None:
    """The schema of what a write of `row` carries: the resource's own kind, or a subresource's (Scale, Binding)."""
    if row.custom and obj.get("kind") == row.kind:
        return getattr(core.registry.strategy(row), "schema", None)
    return schemas.schema_for(obj.get("apiVersion") or "", obj.get("kind") or "")


def adopt(core: Core, a: Attributes, row: Resource, out: Obj, *, strict: bool = False) -> None:
    """Makes `out`, an object in the version of `row`, the object of the write: converted, decoded, defaulted.
    `strict`: fields that the schema does not know are an error, not dropped. Raises Unfit."""
    whole = out.get("kind") == a.resource.kind
    if whole and a.resource.custom:
        assert a.obj is not None
        out["apiVersion"] = a.obj["apiVersion"]
    elif whole and row != a.resource:
        from stablehand.apiserver import legacy

        out = legacy.to_storage(row, out)
    schema = schema_of(core, a.resource, out)
    if schema is not None:
        wrong, unknown = schemas.decode(schema, out)
        if wrong:
            raise Unfit(wrong[0])
        if strict and unknown and not a.resource.custom:
            raise Unfit(schemas.strict_error(unknown))
    if whole:
        core.registry.strategy(a.resource).default(out)
    a.obj, a.changed = out, True
