"""Which pods stand behind a Service, at which addresses and ports. Pure; Endpoints and EndpointSlices build on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition, is_pod_ready
from stablehand.machinery.pods import is_over
from stablehand.machinery.types import Obj

HEADLESS_LABEL = "service.kubernetes.io/headless"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True, slots=True)
class Port:
    """One resolved port of a Service, as a given pod offers it."""

    name: str
    port: int
    protocol: str
    app_protocol: str | None

    def as_object(self, *, named: bool) -> Obj:
        """`named` writes the name even when it is empty (EndpointSlices do)."""
        out: Obj = {"port": self.port, "protocol": self.protocol}
        if self.name or named:
            out["name"] = self.name
        if self.app_protocol:
            out["appProtocol"] = self.app_protocol
        return out


def selects(service: Obj, labels: dict[str, str]) -> bool:
    """Does the Service's (non-empty) selector match?"""
    selector = service["spec"].get("selector")
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


def has_endpoints(service: Obj) -> bool:
    """Is it a Service for whose endpoints a controller cares?"""
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def publishes_unready(service: Obj) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses"))


def is_headless(service: Obj) -> bool:
    return service["spec"].get("clusterIP") in (None, "", "None")


def address(pod: Obj, family: str) -> str | None:
    """The pod's address of a family ("IPv4" or "IPv6")."""
    status = pod.get("status") or {}
    for entry in [*(status.get("podIPs") or ()), {"ip": status.get("podIP")}]:
        ip = entry.get("ip")
        if ip and (":" in ip) == (family == "IPv6"):
            return str(ip)
    return None


def is_candidate(pod: Obj, *, terminating: bool) -> bool:
    """Has the pod an address, and does it still run?"""
    if is_over(pod) or not (pod.get("status") or {}).get("podIP"):
        return False
    return terminating or not meta.deletion_timestamp(pod)


def is_ready(service: Obj, pod: Obj) -> bool:
    return publishes_unready(service) or (is_pod_ready(pod) and not meta.deletion_timestamp(pod))


def hostname(service: Obj, pod: Obj) -> str | None:
    """The pod's own name under the Service: only where its subdomain is the Service's name."""
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == meta.name(service):
        if meta.namespace(pod) == meta.namespace(service):
            return str(spec["hostname"])
    return None


def hints(service: Obj, endpoint: Obj) -> Obj:
    """For which zone and node a ready endpoint is meant (spec.trafficDistribution); {}: for all."""
    wanted = service["spec"].get("trafficDistribution")
    if wanted not in ("PreferClose", "PreferSameZone", "PreferSameNode") or not endpoint["conditions"]["ready"]:
        return {}
    out: Obj = {}
    if endpoint.get("zone"):
        out["forZones"] = [{"name": endpoint["zone"]}]
    if endpoint.get("nodeName") and wanted == "PreferSameNode":
        out["forNodes"] = [{"name": endpoint["nodeName"]}]
    return out


def ports(service: Obj, pod: Obj) -> tuple[Port, ...] | None:
    """The Service's ports on this pod; those that the pod does not have are left out. () for a headless Service
    without ports; None where ports are wanted and the pod has none of them."""
    wanted = service["spec"].get("ports") or ()
    if not wanted:
        return () if is_headless(service) else None
    found = []
    for port in wanted:
        number = _number(port, pod)
        if number is not None:
            protocol = port.get("protocol") or "TCP"
            found.append(Port(port.get("name") or "", number, protocol, port.get("appProtocol")))
    return tuple(found) or None


def _number(port: Obj, pod: Obj) -> int | None:
    target = port.get("targetPort") or port.get("port")
    if isinstance(target, int):
        return target
    if str(target).isdigit():
        return int(str(target))
    return next(named_ports(pod, str(target), port.get("protocol") or "TCP"), None)


def named_ports(pod: Obj, name: str, protocol: str) -> Iterator[int]:
    """The numbers of a pod's ports of a name and protocol ("TCP", ...): its containers' and its sidecars'."""
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == name and (port.get("protocol") or "TCP") == protocol:
                yield int(port["containerPort"])


def target_reference(pod: Obj) -> Obj:
    return {"kind": "Pod", "namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod)}


def affected(services: Iterable[Obj], event: str, old: Obj | None, pod: Obj) -> list[Obj]:
    """The Services (of the pod's namespace) whose endpoints a change of the pod may concern."""
    if event == "MODIFIED" and old is not None and not change_matters(old, pod):
        return []
    if event == "ADDED" and not (pod.get("status") or {}).get("podIP"):
        return []
    now, before = meta.labels(pod), meta.labels(old) if old is not None else None
    return [s for s in services if selects(s, now) or (before is not None and selects(s, before))]


def change_matters(old: Obj, new: Obj) -> bool:
    """Does the change of a pod concern the Services that select it?"""
    before, after = old["metadata"], new["metadata"]
    if before.get("labels") != after.get("labels"):
        return True
    if before.get("deletionTimestamp") != after.get("deletionTimestamp"):
        return True
    was, is_ = old.get("status") or {}, new.get("status") or {}
    if was.get("podIP") != is_.get("podIP") or was.get("podIPs") != is_.get("podIPs"):
        return True
    if is_over(old) != is_over(new) or is_pod_ready(old) != is_pod_ready(new):
        return True
    return bool(old["spec"].get("nodeName") != new["spec"].get("nodeName") and is_.get("podIP"))


class TriggerTimes:
    """Since when a Service's endpoints wait to be written: what annotation LAST_CHANGE tells (upstream's
    TriggerTimeTracker). Times are the API's own texts, which sort as they pass."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}

    def next(self, service: Obj, pods: Iterable[Obj]) -> str:
        """The earliest change not told before, of the Service's making and its pods' readiness; "" for none."""
        made_before, ready_before = self._seen.get(meta.key(service), ("", {}))
        made = service["metadata"].get("creationTimestamp") or ""
        news = [made] if made > made_before else []
        ready: dict[str, str] = {}
        for pod in pods:
            since = (get_condition(pod.get("status"), "Ready") or {}).get("lastTransitionTime") or ""
            before = ready_before.get(meta.name(pod), "")
            if since > before:
                news.append(since)
            ready[meta.name(pod)] = max(since, before)
        self._seen[meta.key(service)] = (made, ready)
        return min(news, default="")

    def forget(self, key: tuple[str, str]) -> None:
        self._seen.pop(key, None)


def with_trigger(annotations: dict[str, str], time: str) -> dict[str, str]:
    """Annotations that tell this time, or none."""
    out = {k: v for k, v in annotations.items() if k != LAST_CHANGE}
    return {**out, LAST_CHANGE: time} if time else out
