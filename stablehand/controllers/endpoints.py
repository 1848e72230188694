"""Endpoints: for each Service with a selector, the addresses of the pods it selects."""

from __future__ import annotations

import logging

from stablehand.client import Client, NotFound
from stablehand.machinery import endpoints as rules
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, EventRecorder, Informers, Result, writes

log = logging.getLogger("stablehand.endpoints")

ENDPOINTS = resource("endpoints")
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_CAPACITY = 1000
_GATHER_PER_POD = 200e-6


class EndpointsController(Controller):
    name = "endpoints"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=5)
        self._client = client = client.with_manager("endpoint-controller")
        self._services = informers.get(resource("services"))
        self._pods = informers.get(resource("pods"))
        self._endpoints = informers.get(ENDPOINTS)
        self.wait_for = [self._services, self._pods, self._endpoints]
        self.events = EventRecorder(client, "endpoint-controller")
        self._sizes: dict[tuple[str, str], int] = {}
        self._times = rules.TriggerTimes()
        self._services.on_change(lambda event, old, new: self.enqueue(meta.key(new)))
        self._pods.on_change(self._pod_changed)
        self._endpoints.on_change(self._endpoints_changed)

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        for service in rules.affected(self._services.items(meta.namespace(new)), event, old, new):
            key = meta.key(service)
            self.enqueue_gathered(key, self._sizes.get(key, 0), _GATHER_PER_POD)

    def _endpoints_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        """Endpoints that someone deleted come back; those left behind without a Service go."""
        service = self._services.cached(*meta.key(new))
        if event == "DELETED" or (service is None and meta.labels(new).get(MANAGED_BY) == "endpoint-controller"):
            self.enqueue(meta.key(new))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        service = self._services.cached(*key)
        if service is None:
            self._sizes.pop(key, None)
            self._times.forget(key)
            existing = self._endpoints.cached(*key)
            if existing is not None and meta.labels(existing).get(MANAGED_BY) == "endpoint-controller":
                await writes.delete(self._client, self._endpoints, existing)
            return None
        if not rules.has_endpoints(service):
            return None
        selected = [p for p in self._pods.items(key[0]) if rules.selects(service, meta.labels(p))]
        self._sizes[key] = len(selected)
        trigger = self._times.next(service, selected)
        subsets, truncated = build(service, selected)
        labels = {k: v for k, v in meta.labels(service).items() if k != rules.HEADLESS_LABEL}
        if rules.is_headless(service):
            labels[rules.HEADLESS_LABEL] = ""
        labels[MANAGED_BY] = "endpoint-controller"
        existing = self._endpoints.cached(*key)
        notes = dict(meta.annotations(existing)) if existing is not None else {}
        notes.pop(OVER_CAPACITY, None)
        if truncated:
            notes[OVER_CAPACITY] = "truncated"
        if existing is not None:
            same = (existing.get("subsets") or []) == subsets and meta.labels(existing) == labels
            if same and meta.annotations(existing) == notes:
                return None
        notes = rules.with_trigger(notes, trigger)
        metadata: Obj = dict(existing["metadata"]) if existing is not None else {"name": key[1], "namespace": key[0]}
        metadata["labels"] = labels
        if notes:
            metadata["annotations"] = notes
        else:
            metadata.pop("annotations", None)
        wanted: Obj = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
        if subsets:
            wanted["subsets"] = subsets
        if existing is None:
            await writes.create(self._client, self._endpoints, wanted)
        else:
            try:
                await writes.update(self._client, self._endpoints, wanted)
            except NotFound:
                self._endpoints.observe_delete(existing)
                raise
        return None


def build(service: Obj, pods: list[Obj]) -> tuple[list[Obj], bool]:
    """The subsets, in canonical order, and whether addresses had to be left out."""
    family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
    groups: dict[tuple[rules.Port, ...], tuple[list[Obj], list[Obj]]] = {}
    for pod in pods:
        if not rules.is_candidate(pod, terminating=rules.publishes_unready(service)):
            continue
        ip, ports = rules.address(pod, family), rules.ports(service, pod)
        if ip is None or ports is None:
            continue
        entry: Obj = {"ip": ip, "targetRef": rules.target_reference(pod)}
        if pod["spec"].get("nodeName"):
            entry["nodeName"] = pod["spec"]["nodeName"]
        name = rules.hostname(service, pod)
        if name is not None:
            entry["hostname"] = name
        group = groups.setdefault(tuple(sorted(ports, key=repr)), ([], []))
        group[0 if rules.is_ready(service, pod) else 1].append(entry)
    room, truncated = _CAPACITY, False
    subsets: list[Obj] = []
    for ports in sorted(groups, key=repr):
        subset: Obj = {}
        for field, entries in zip(("addresses", "notReadyAddresses"), groups[ports]):
            entries.sort(key=lambda e: (e["ip"], e["targetRef"]["uid"]))
            kept = entries[:room]
            truncated = truncated or len(kept) < len(entries)
            room -= len(kept)
            if kept:
                subset[field] = kept
        if ports:
            subset["ports"] = [port.as_object(named=False) for port in ports]
        if "addresses" in subset or "notReadyAddresses" in subset:
            subsets.append(subset)
    return subsets, truncated
