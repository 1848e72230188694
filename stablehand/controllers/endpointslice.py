"""EndpointSlices: the addresses behind a Service in slices of at most a hundred, readiness spelled out.

Also mirrors hand-made Endpoints of Services without a selector (`EndpointSliceMirroringController`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from stablehand.client import AlreadyExists, Client, NotFound
from stablehand.machinery import endpoints as rules
from stablehand.machinery import meta
from stablehand.machinery.conditions import is_pod_ready
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informer, Informers, Result, writes

log = logging.getLogger("stablehand.endpointslice")

SLICES = resource("endpointslices.discovery.k8s.io")
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
MIRROR = "endpointslicemirroring-controller.k8s.io"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PER_SLICE = 100
_MIRRORED = 1000  # addresses of a subset that are mirrored at most
_GATHER_PER_POD = 200e-6
_ZONE = "topology.kubernetes.io/zone"

Group = tuple[str, tuple[rules.Port, ...]]  # (address type, ports)


def _index(obj: Obj) -> list[str]:
    name = meta.labels(obj).get(SERVICE_NAME)
    return [f"{meta.namespace(obj)}/{name}"] if name else []


class SliceWriter:
    """Brings a Service's slices in line with what they should hold, touching as few as possible."""

    def __init__(self, client: Client, slices: Informer, manager: str) -> None:
        self._client = client
        self._slices = slices
        self._manager = manager
        slices.add_index("service", _index)

    def existing(self, key: tuple[str, str]) -> list[Obj]:
        found = self._slices.by_index("service", f"{key[0]}/{key[1]}")
        return [s for s in found if meta.labels(s).get(MANAGED_BY) == self._manager and not meta.deletion_timestamp(s)]

    async def remove_all(self, key: tuple[str, str]) -> None:
        for old in self.existing(key):
            await writes.delete(self._client, self._slices, old)

    async def apply(
        self,
        owner: Obj,
        labels: dict[str, str],
        wanted: dict[Group, dict[str, Obj]],
        *,
        trigger: str = "",
        notes: dict[str, str] | None = None,
    ) -> None:
        """`wanted`: endpoints by a stable name, for each address type and set of ports. `trigger`: since when the
        change waits, told by what is written; `notes`: the annotations every slice shall have beside that."""
        labels = {**labels, SERVICE_NAME: meta.name(owner), MANAGED_BY: self._manager}
        unplaced = {group: dict(entries) for group, entries in wanted.items()}
        spare: list[Obj] = []
        for old in sorted(self.existing(meta.key(owner)), key=meta.name):
            group = _group_of(old)
            rest = unplaced.get(group)
            if rest is None:
                spare.append(old)
                continue
            kept = [rest.pop(_name_of(e)) for e in old.get("endpoints") or () if _name_of(e) in rest]
            while rest and len(kept) < _PER_SLICE:
                kept.append(rest.pop(next(iter(rest))))
            if not kept and wanted[group]:
                spare.append(old)
                continue
            if not rest and not wanted[group]:
                del unplaced[group]  # the placeholder of an empty group exists
            await self._write(old, labels, kept, trigger, notes)
        for group, rest in unplaced.items():
            entries = list(rest.values())
            if not entries and wanted[group]:
                continue
            for start in range(0, max(1, len(entries)), _PER_SLICE):
                piece = entries[start : start + _PER_SLICE]
                await self._create(owner, labels, group, piece, rules.with_trigger(notes or {}, trigger))
        for old in spare:
            await writes.delete(self._client, self._slices, old)

    async def _write(
        self, old: Obj, labels: dict[str, str], entries: list[Obj], trigger: str, notes: dict[str, str] | None
    ) -> None:
        have = meta.annotations(old)
        same = notes is None or rules.with_trigger(have, "") == rules.with_trigger(notes, "")
        if same and meta.labels(old) == labels and (old.get("endpoints") or []) == entries:
            return
        told = rules.with_trigger(have if notes is None else notes, trigger)
        metadata = {**old["metadata"], "labels": labels, "annotations": told}
        changed = {**old, "metadata": metadata, "endpoints": entries}
        try:
            await writes.update(self._client, self._slices, changed)
        except NotFound:
            self._slices.observe_delete(old)
            raise

    async def _create(
        self, owner: Obj, labels: dict[str, str], group: Group, entries: list[Obj], notes: dict[str, str]
    ) -> None:
        family, ports = group
        new: Obj = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": f"{meta.name(owner)}-",
                "namespace": meta.namespace(owner),
                "labels": labels,
                "ownerReferences": [meta.owner_reference(owner)],
                **({"annotations": notes} if notes else {}),
            },
            "addressType": family,
            "endpoints": entries,
            "ports": [port.as_object(named=True) for port in ports],
        }
        for _ in range(5):
            try:
                await writes.create(self._client, self._slices, new)
                return
            except AlreadyExists:
                continue


def _name_of(endpoint: Obj) -> str:
    return (endpoint.get("targetRef") or {}).get("uid") or (endpoint.get("addresses") or [""])[0]


def _group_of(found: Obj) -> Group:
    ports = [
        rules.Port(p.get("name") or "", int(p.get("port") or 0), p.get("protocol") or "TCP", p.get("appProtocol"))
        for p in found.get("ports") or ()
    ]
    return found.get("addressType") or "IPv4", tuple(sorted(ports, key=repr))


class EndpointSliceController(Controller):
    name = "endpointslice"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=5)
        client = client.with_manager("endpointslice-controller")
        self._services = informers.get(resource("services"))
        self._pods = informers.get(resource("pods"))
        self._nodes = informers.get(resource("nodes"))
        self._slices = informers.get(SLICES)
        self.wait_for = [self._services, self._pods, self._nodes, self._slices]
        self._writer = SliceWriter(client, self._slices, CONTROLLER)
        self._sizes: dict[tuple[str, str], int] = {}
        self._times = rules.TriggerTimes()
        self._services.on_change(lambda event, old, new: self.enqueue(meta.key(new)))
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(self._node_changed)
        self._slices.on_change(self._slice_changed)

    def _pod_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        for service in rules.affected(self._services.items(meta.namespace(new)), event, old, new):
            key = meta.key(service)
            self.enqueue_gathered(key, self._sizes.get(key, 0), _GATHER_PER_POD)

    def _node_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if old is not None and event == "MODIFIED" and meta.labels(old).get(_ZONE) == meta.labels(new).get(_ZONE):
            return
        for service in self._services.items():
            if rules.has_endpoints(service):
                self.enqueue(meta.key(service))

    def _slice_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        labels = meta.labels(new)
        if labels.get(MANAGED_BY) != CONTROLLER or not labels.get(SERVICE_NAME):
            return
        key = (meta.namespace(new), labels[SERVICE_NAME])
        if event == "DELETED" or self._services.cached(*key) is None:
            self.enqueue(key)

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        service = self._services.cached(*key)
        if service is None:
            self._sizes.pop(key, None)
            self._times.forget(key)
            await self._writer.remove_all(key)
            return None
        if not rules.has_endpoints(service):
            if service["spec"].get("type") == "ExternalName":
                await self._writer.remove_all(key)
            return None
        if meta.deletion_timestamp(service):
            return None
        selected = [p for p in self._pods.items(key[0]) if rules.selects(service, meta.labels(p))]
        self._sizes[key] = len(selected)
        wanted: dict[Group, dict[str, Obj]] = {}
        for family in service["spec"].get("ipFamilies") or ["IPv4"]:
            found = self._endpoints(service, selected, family)
            # Without endpoints there is still one slice, without ports, so that watchers know.
            wanted.update(found or {(family, ()): {}})
        labels = {k: v for k, v in meta.labels(service).items() if k not in (SERVICE_NAME, MANAGED_BY)}
        labels.pop(rules.HEADLESS_LABEL, None)
        if rules.is_headless(service):
            labels[rules.HEADLESS_LABEL] = ""
        await self._writer.apply(service, labels, wanted, trigger=self._times.next(service, selected))
        return None

    def _endpoints(self, service: Obj, pods: Iterable[Obj], family: str) -> dict[Group, dict[str, Obj]]:
        out: dict[Group, dict[str, Obj]] = {}
        for pod in pods:
            if not rules.is_candidate(pod, terminating=True):
                continue
            ip, ports = rules.address(pod, family), rules.ports(service, pod)
            if ip is None or ports is None:
                continue
            node_name = pod["spec"].get("nodeName") or ""
            node = self._nodes.cached("", node_name)
            if node is None and not rules.publishes_unready(service):
                continue
            serving = is_pod_ready(pod)
            entry: Obj = {
                "addresses": [ip],
                "conditions": {
                    "ready": rules.is_ready(service, pod),
                    "serving": serving,
                    "terminating": bool(meta.deletion_timestamp(pod)),
                },
                "targetRef": rules.target_reference(pod),
            }
            if node_name:
                entry["nodeName"] = node_name
            if node is not None and meta.labels(node).get(_ZONE):
                entry["zone"] = meta.labels(node)[_ZONE]
            name = rules.hostname(service, pod)
            if name is not None:
                entry["hostname"] = name
            if hints := rules.hints(service, entry):
                entry["hints"] = hints
            out.setdefault((family, tuple(sorted(ports, key=repr))), {})[meta.uid(pod)] = entry
        return out


class EndpointSliceMirroringController(Controller):
    """Slices for Endpoints that people or other software write for Services without a selector."""

    name = "endpointslicemirroring"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        client = client.with_manager("endpointslicemirroring-controller")
        self._services = informers.get(resource("services"))
        self._endpoints = informers.get(resource("endpoints"))
        self._slices = informers.get(SLICES)
        self.wait_for = [self._services, self._endpoints, self._slices]
        self._writer = SliceWriter(client, self._slices, MIRROR)
        self._services.on_change(lambda event, old, new: self.enqueue(meta.key(new)))
        self._endpoints.on_change(lambda event, old, new: self.enqueue(meta.key(new)))

    async def reconcile(self, key: tuple[str, str]) -> Result | None:
        service, endpoints = self._services.cached(*key), self._endpoints.cached(*key)
        mirrored = (
            service is not None
            and endpoints is not None
            and not service["spec"].get("selector")
            and meta.labels(endpoints).get(_SKIP_MIRROR) != "true"
            and _LEADER not in meta.annotations(endpoints)
        )
        if not mirrored or service is None or endpoints is None:
            await self._writer.remove_all(key)
            return None
        own = list(self._slices.by_index("service", f"{key[0]}/{key[1]}"))
        if any(meta.labels(s).get(MANAGED_BY) not in (MIRROR, CONTROLLER) for s in own):
            return None  # someone writes slices for it already (the API server does, for itself)
        wanted: dict[Group, dict[str, Obj]] = {}
        for subset in endpoints.get("subsets") or ():
            ports = _group_of({"ports": subset.get("ports") or []})[1]
            for ready, field in ((True, "addresses"), (False, "notReadyAddresses")):
                for address in (subset.get(field) or ())[:_MIRRORED]:
                    family = "IPv6" if ":" in address["ip"] else "IPv4"
                    entry: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
                    for name in ("hostname", "nodeName", "targetRef"):
                        if address.get(name):
                            entry[name] = address[name]
                    wanted.setdefault((family, ports), {})[_name_of(entry)] = entry
        labels = {k: v for k, v in meta.labels(endpoints).items() if k not in (SERVICE_NAME, MANAGED_BY)}
        notes = {k: v for k, v in meta.annotations(endpoints).items() if k != _LAST_APPLIED}
        await self._writer.apply(endpoints, labels, wanted, trigger=notes.get(rules.LAST_CHANGE, ""), notes=notes)
        return None
