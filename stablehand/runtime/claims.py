"""Which objects belong to an owner: those it controls, orphans it adopts, and those it lets go.

Upstream's ControllerRefManager. Adoption happens only after a live look at the owner, because a cache may still
show an owner that has been deleted and made anew under the same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from stablehand.client import Client, Invalid, NotFound
from stablehand.machinery import meta
from stablehand.machinery.resources import Resource
from stablehand.machinery.selectors import Selector
from stablehand.machinery.types import Obj
from stablehand.runtime.informer import Informer

_INDEX = "controller"
Match = Callable[[Obj], bool]


class CannotAdopt(Exception):
    """The owner is gone, was made anew or is being deleted: it may not adopt."""


def _index(obj: Obj) -> tuple[str]:
    ref = meta.controller_of(obj)
    return (ref["uid"],) if ref else ("orphan/" + meta.namespace(obj),)


def index_by_controller(informer: Informer) -> None:
    """Makes `controlled_by` and `orphans` cheap; call once per informer, before it runs."""
    informer.add_index(_INDEX, _index)


def controlled_by(informer: Informer, owner: Obj) -> list[Obj]:
    """The owner's own objects in its namespace."""
    namespace = meta.namespace(owner)
    return [o for o in informer.by_index(_INDEX, meta.uid(owner)) if meta.namespace(o) == namespace]


def orphans(informer: Informer, namespace: str) -> list[Obj]:
    """Objects of the namespace without a controller."""
    return informer.by_index(_INDEX, "orphan/" + namespace)


async def claim(
    client: Client,
    owner_resource: Resource,
    owner: Obj,
    informer: Informer,
    selector: Selector,
    *,
    match: Match | None = None,
    finalizers: Iterable[str] = (),
) -> list[Obj]:
    """The owner's objects after adopting matching orphans and releasing its own that no longer match.

    `match` narrows the selector. An owner on its way out neither adopts nor releases. Raises ApiError or CannotAdopt.
    """

    def wanted(obj: Obj) -> bool:
        return selector.matches(meta.labels(obj)) and (match is None or match(obj))

    claimed: list[Obj] = []
    release: list[Obj] = []
    for obj in controlled_by(informer, owner):
        (claimed if wanted(obj) else release).append(obj)
    if meta.deletion_timestamp(owner):
        return claimed
    adopt = [o for o in orphans(informer, meta.namespace(owner)) if not meta.deletion_timestamp(o) and wanted(o)]
    if release:
        await asyncio.gather(*(_release(client, informer, owner, obj) for obj in release))
    if adopt:
        await check_live(client, owner_resource, owner)
        adopted = await asyncio.gather(*(_adopt(client, informer, owner, obj, list(finalizers)) for obj in adopt))
        claimed.extend(o for o in adopted if o is not None)
    return claimed


async def check_live(client: Client, res: Resource, owner: Obj) -> None:
    """Raises CannotAdopt unless the server still has this very owner, not being deleted."""
    try:
        live = await client.get(res, meta.name(owner), meta.namespace(owner))
    except NotFound as e:
        raise CannotAdopt(f"{res.kind} {meta.name(owner)} is gone") from e
    if meta.uid(live) != meta.uid(owner):
        raise CannotAdopt(
            f"original {res.kind} {meta.namespace(owner)}/{meta.name(owner)} is gone: "
            f"got uid {meta.uid(live)}, wanted {meta.uid(owner)}"
        )
    if meta.deletion_timestamp(live):
        raise CannotAdopt(f"{res.kind} {meta.namespace(owner)}/{meta.name(owner)} has just been deleted")


async def _adopt(client: Client, informer: Informer, owner: Obj, obj: Obj, finalizers: list[str]) -> Obj | None:
    metadata: Obj = {"ownerReferences": [meta.owner_reference(owner)], "uid": meta.uid(obj)}
    if finalizers:
        metadata["finalizers"] = finalizers
    return await _patch(client, informer, obj, {"metadata": metadata})


async def _release(client: Client, informer: Informer, owner: Obj, obj: Obj) -> None:
    gone = [{"$patch": "delete", "uid": meta.uid(owner)}]
    try:
        await _patch(client, informer, obj, {"metadata": {"ownerReferences": gone, "uid": meta.uid(obj)}})
    except Invalid:
        return  # the object has no such reference any more, or another uid: nothing to release


async def _patch(client: Client, informer: Informer, obj: Obj, patch: Obj) -> Obj | None:
    try:
        new = await client.patch(informer.resource, meta.name(obj), patch, meta.namespace(obj), kind="strategic")
    except NotFound:
        return None
    informer.observe(new)
    return new
