"""ResourceQuotas: what a namespace uses, counted anew whenever it changes. Refusing more is admission's."""

from __future__ import annotations

from stablehand.client import Client, NotFound
from stablehand.machinery import meta, quantity, volumes
from stablehand.machinery.podresources import amounts
from stablehand.machinery.pods import is_over
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result, writes
from stablehand.runtime.discovery import Catalog

_RESYNC = 300.0
_SOON = 0.2
_COUNTED = {
    "services": "services",
    "secrets": "secrets",
    "configmaps": "configmaps",
    "replicationcontrollers": "replicationcontrollers",
    "resourcequotas": "resourcequotas",
}
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"


class ResourceQuotaController(Controller):
    name = "resourcequota"

    def __init__(self, client: Client, informers: Informers, catalog: Catalog) -> None:
        super().__init__(workers=2)
        self._client = client.with_manager("resourcequota-controller")
        self._catalog = catalog
        self._quotas = informers.get(resource("resourcequotas"))
        self._pods = informers.get(resource("pods"))
        self._claims = informers.get(resource("persistentvolumeclaims"))
        self._services = informers.get(resource("services"))
        self.wait_for = [self._quotas, self._pods, self._claims, self._services]
        self._quotas.on_change(self._quota_changed)
        for informer in (self._pods, self._claims, self._services):
            informer.on_change(self._content_changed)

    def _quota_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED" and (old is None or old["spec"] != new["spec"] or old.get("status") != new.get("status")):
            self.enqueue(meta.key(new))

    def _content_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event == "MODIFIED" and old is not None and old["spec"] == new["spec"] and is_over(old) == is_over(new):
            return
        for quota in self._quotas.items(meta.namespace(new)):
            self.enqueue_after(meta.key(quota), _SOON)

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        quota = self._quotas.cached(*key)
        if quota is None:
            return None
        hard = quota["spec"].get("hard") or {}
        used = {name: await self._used(quota, name, key[0]) for name in hard}
        status = {"hard": dict(hard), "used": used}
        if status != (quota.get("status") or {}):
            try:
                await writes.update(self._client, self._quotas, {**quota, "status": status}, subresource="status")
            except NotFound:
                return None
        return Result(after=_RESYNC)

    async def _used(self, quota: Obj, name: str, namespace: str) -> str:
        pods = [p for p in self._pods.items(namespace) if not is_over(p) and in_scope(quota, p)]
        if name in ("pods", "count/pods"):
            counted = pods if name == "pods" else self._pods.items(namespace)
            return str(len(counted))
        what = name.removeprefix("requests.").removeprefix("limits.")
        claims = self._claims.items(namespace)
        if _CLASS_SUFFIX in name:
            chosen, _, what = name.partition(_CLASS_SUFFIX)
            claims = [c for c in claims if volumes.class_of(c) == chosen]
            name = what
        if name in ("persistentvolumeclaims", "count/persistentvolumeclaims"):
            return str(len(claims))
        if name == "requests.storage":
            return quantity.format_bytes(sum(volumes.request_of(c) for c in claims))
        if name in ("services.loadbalancers", "services.nodeports"):
            return str(self._service_use(name, namespace))
        if name in _COUNTED or name.startswith("count/"):
            return str(await self._count(name.removeprefix("count/"), namespace))
        total = sum(_pod_use(p, what, limits=name.startswith("limits.")) for p in pods)
        return quantity.format_milli(total) if what == "cpu" else quantity.format_bytes(total)

    def _service_use(self, name: str, namespace: str) -> int:
        services = self._services.items(namespace)
        if name == "services.loadbalancers":
            return sum(1 for s in services if s["spec"].get("type") == "LoadBalancer")
        exposed = [s for s in services if s["spec"].get("type") in ("NodePort", "LoadBalancer")]
        return sum(len(s["spec"].get("ports") or ()) for s in exposed)

    async def _count(self, key: str, namespace: str) -> int:
        row: Resource | None = next((r for r in self._catalog.rows() if r.key == key and r.namespaced), None)
        if row is None:
            return 0
        return len((await self._client.list(row, namespace)).get("items") or ())


def _pod_use(pod: Obj, name: str, *, limits: bool) -> int:
    """What the pod asks of one resource: the larger of its containers together and each init container."""
    field = "limits" if limits else "requests"

    def of(container: Obj) -> int:
        return amounts((container.get("resources") or {}).get(field)).get(name, 0)

    spec = pod["spec"]
    initial = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") != "Always"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    together = sum(of(c) for c in [*(spec.get("containers") or ()), *sidecars])
    return max([together, *(of(c) for c in initial)]) + amounts(spec.get("overhead")).get(name, 0)


def in_scope(quota: Obj, pod: Obj) -> bool:
    """Does the quota, by its scopes, count this pod?"""
    spec = quota["spec"]
    terms = [{"scopeName": s, "operator": "Exists"} for s in spec.get("scopes") or ()]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    for term in terms:
        match term.get("scopeName"):
            case "Terminating":
                if pod["spec"].get("activeDeadlineSeconds") is None:
                    return False
            case "NotTerminating":
                if pod["spec"].get("activeDeadlineSeconds") is not None:
                    return False
            case "BestEffort" | "NotBestEffort" as scope:
                best = all(
                    not (c.get("resources") or {}).get("requests") and not (c.get("resources") or {}).get("limits")
                    for c in [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]
                )
                if best != (scope == "BestEffort"):
                    return False
            case "PriorityClass":
                if not _in_priority(term, pod["spec"].get("priorityClassName") or ""):
                    return False
    return True


def _in_priority(term: Obj, name: str) -> bool:
    values = term.get("values") or ()
    match term.get("operator"):
        case "In":
            return name in values
        case "NotIn":
            return name not in values
        case "DoesNotExist":
            return not name
    return bool(name)
