"""ResourceQuota: a write that would pass a hard limit of its namespace is refused, and one that does not is added to
status.used before it is stored, so that two at a time cannot both have the last of it. What counts is machinery.quota's;
the quota controller counts anew when objects go.
"""

from __future__ import annotations

from decimal import Decimal

from stablehand.apiserver import errors
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery import quantity, quota
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.store.contract import RevisionMismatch, WriteFailed

_QUOTAS = resource("resourcequotas")
_RETRIES = 16
# Kinds whose updates may use more (others only count when they are made).
_GROWING = frozenset({"pods", "services", "persistentvolumeclaims"})


async def check(core: Core, a: Attributes) -> None:
    if a.operation not in ("CREATE", "UPDATE") or not a.namespace or a.obj is None:
        return
    collection = core.storage.collection(_QUOTAS)
    quotas = collection.namespaces.get(a.namespace)
    if not quotas or a.subresource not in ("", "resize"):
        return
    if a.operation == "UPDATE" and a.resource.key not in _GROWING:
        return
    now = core.clock()
    new = quota.usage(a.resource, a.obj, now)
    before = quota.usage(a.resource, a.old, now) if a.old is not None else {}
    more = {n: v - before.get(n, Decimal(0)) for n, v in new.items() if v > before.get(n, Decimal(0))}
    if not more:
        return
    for name in sorted(quotas):
        await _spend(core, a, name, more)


async def _spend(core: Core, a: Attributes, name: str, more: quota.Usage) -> None:
    """Takes `more` from one quota. Raises StatusError 403 when it is not there."""
    collection, key = core.storage.collection(_QUOTAS), (a.namespace, name)
    assert a.obj is not None
    for _ in range(_RETRIES):
        entry = collection.get(key)
        if entry is None or not quota.in_scope(entry.obj, a.resource, a.obj):
            return
        spec_hard, status = entry.obj["spec"].get("hard") or {}, entry.obj.get("status") or {}
        if a.resource.key == "pods" and a.operation == "CREATE" and not a.subresource:
            if lacking := quota.unset(spec_hard, a.obj):
                said = "; ".join(f"{what} for: {','.join(containers)}" for what, containers in lacking.items())
                raise errors.forbidden(a.resource, a.name, f"failed quota: {name}: must specify {said}")
        asked = {n: v for n, v in more.items() if n in spec_hard}
        if not asked:
            return
        hard, used = status.get("hard") or {}, status.get("used") or {}
        unknown = sorted(n for n in asked if n not in hard or n not in used)
        if unknown:
            why = f"status unknown for quota: {name}, resources: {','.join(unknown)}"
            raise errors.forbidden(a.resource, a.name, why)
        after = {n: quantity.parse(used[n]) + v for n, v in asked.items()}
        over = sorted(n for n in asked if after[n] > quantity.parse(hard[n]))
        if over:
            said = ",".join(f"{n}={quota.text(n, asked[n])}" for n in over)
            have = ",".join(f"{n}={used[n]}" for n in over)
            limit = ",".join(f"{n}={hard[n]}" for n in over)
            why = f"exceeded quota: {name}, requested: {said}, used: {have}, limited: {limit}"
            raise errors.forbidden(a.resource, a.name, why)
        if a.dry_run:
            return
        new: Obj = {
            **entry.obj,
            "metadata": dict(entry.obj["metadata"]),
            "status": {**status, "used": {**used, **{n: quota.text(n, v) for n, v in after.items()}}},
        }
        try:
            await core.storage.put(collection, key, new, entry.revision)
            return
        except RevisionMismatch:
            continue
        except WriteFailed as e:
            raise errors.internal(str(e)) from e
    raise errors.conflict(_QUOTAS, name)
