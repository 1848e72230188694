"""Writes whose answers go straight into the cache, so that nobody acts on a cache older than its own last write."""

from __future__ import annotations

from stablehand.client import Client, NotFound
from stablehand.machinery import meta
from stablehand.machinery.types import Obj
from stablehand.runtime.informer import Informer


async def create(client: Client, informer: Informer, obj: Obj) -> Obj:
    """Creates the object; the cache knows it when this returns."""
    created = await client.create(informer.resource, obj)
    informer.observe(created)
    return created


async def update(client: Client, informer: Informer, obj: Obj, *, subresource: str | None = None) -> Obj:
    """Replaces the object (or its status); the cache knows it when this returns."""
    changed = await client.update(informer.resource, obj, subresource=subresource)
    informer.observe(changed)
    return changed


async def delete(client: Client, informer: Informer, obj: Obj, *, propagation: str | None = None) -> None:
    """Deletes this very object (by uid); one that is gone already counts as deleted. The cache shows the outcome:
    terminating, or gone."""
    name, namespace, uid = meta.name(obj), meta.namespace(obj), meta.uid(obj)
    try:
        answer = await client.delete(informer.resource, name, namespace or None, uid=uid, propagation=propagation)
    except NotFound:
        informer.observe_delete(obj)
        return
    metadata = answer.get("metadata") or {}
    lingers = metadata.get("finalizers") or (metadata.get("deletionGracePeriodSeconds") or 0) > 0
    if answer.get("kind") != "Status" and lingers:
        informer.observe(answer)
    elif answer.get("kind") == "Status" or not lingers:
        informer.observe_delete(obj)
