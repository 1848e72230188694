"""The API metrics.k8s.io/v1beta1: virtual resources in discovery, get and list, Tables.

They are ours only as long as no APIService sends the group elsewhere (metrics-server installed by the user): its rows
leave the registry then, and return when it goes.
"""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Answer, Request
from stablehand.apiserver.core import Core
from stablehand.apiserver.metricsapi.points import node_metrics, pod_metrics
from stablehand.apiserver.metricsapi.scraping import Scraper
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.verbs import present
from stablehand.apiserver.verbs.select import matcher
from stablehand.machinery.meta import nested
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
_ROWS = (
    Resource(GROUP, VERSION, "NodeMetrics", "nodes", namespaced=False, verbs=("get", "list"), custom=True),
    Resource(GROUP, VERSION, "PodMetrics", "pods", verbs=("get", "list"), custom=True),
)
_OWNER = f"{VERSION}.{GROUP}"  # in the registry; no CustomResourceDefinition can be called that
_META = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NODES, _PODS = resource("nodes"), resource("pods")


def _text(description: str, **more: str) -> Obj:
    return {"type": "string", "description": description, **more}


_USAGE: Obj = {
    "type": "object",
    "description": "The resources used, in the window that ends at the timestamp: cpu and memory.",
    "additionalProperties": {"type": "string"},
}
_CONTAINER: Obj = {
    "type": "object",
    "description": "What one container uses.",
    "required": ["name", "usage"],
    "properties": {"name": _text("The container's name in the pod's spec."), "usage": _USAGE},
}


class _Rules(Strategy):
    """Nothing is stored; there is only what `kubectl explain` tells."""

    def __init__(self, res: Resource) -> None:
        super().__init__(res)
        own: Obj = {"usage": _USAGE}
        if res.namespaced:
            own = {"containers": {"type": "array", "description": "All running containers.", "items": _CONTAINER}}
        self.openapi: Obj = {
            "type": "object",
            "description": f"What a {res.plural[:-1]} uses, as its kubelet last told.",
            "required": ["timestamp", "window", *own],
            "properties": {
                "apiVersion": _text("The version of this representation."),
                "kind": _text("The kind of this object."),
                "metadata": {"allOf": [{"$ref": _META}], "default": {}, "description": "Standard object's metadata."},
                "timestamp": _text("When the figures are from.", format="date-time"),
                "window": _text("The time up to the timestamp over which use was measured."),
                **own,
            },
        }


class MetricsApi:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._scraper = Scraper(core)
        self._serving = False
        self._prefix = core.aggregation.services.collection.prefix

    def start(self) -> None:
        self._core.storage.on_change(self._changed)
        self._changed(self._prefix)

    def _changed(self, prefix: str) -> None:
        if prefix != self._prefix:
            return
        wanted = self._core.aggregation.services.remote(GROUP, VERSION) is None
        if wanted != self._serving:
            self._serving = wanted
            self._core.registry.set_custom(_OWNER, [(row, _Rules(row)) for row in _ROWS] if wanted else [])

    async def handle(self, request: Request) -> Answer:
        """Raises StatusError."""
        info = request.info
        res = info.resource
        assert res is not None
        if info.subresource:
            raise errors.no_such_path()
        if info.verb not in res.verbs:
            raise errors.method_not_allowed(info.verb)
        if info.verb == "get":
            return await self._one(request, res)
        return await self._list(request, res)

    async def _one(self, request: Request, res: Resource) -> Answer:
        info, of = request.info, _NODES if res.plural == "nodes" else _PODS
        if res.namespaced and not info.namespace:
            raise errors.no_such_path()
        entry = self._core.storage.collection(of).get((info.namespace if of.namespaced else "", info.name))
        found = await self._metrics(of, [entry.obj]) if entry is not None else []
        if not found:
            shown = f"{info.namespace}/{info.name}" if of.namespaced else info.name
            named = Resource(GROUP, VERSION, res.kind, res.kind.lower())
            raise errors.not_found(named, shown)
        return present.shaped(self._core, request, res, found[0])

    async def _list(self, request: Request, res: Resource) -> Answer:
        of = _NODES if res.plural == "nodes" else _PODS
        match = matcher(request, of)
        namespace = request.info.namespace if of.namespaced else ""
        rows = self._core.storage.collection(of).ordered(namespace)
        objects = [entry.obj for _, entry in rows if match is None or match(entry.obj)]
        items = await self._metrics(of, objects)
        shape, media = present.accepted(request)
        if shape == "Table":
            return present.yaml_or_json(present.table(self._core, request, res, items, {}), media)
        if shape:
            partial = [present.partial(item) for item in items]
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}}
            return present.yaml_or_json({**head, "items": partial}, media)
        listed = {"kind": res.list_kind, "apiVersion": res.api_version, "metadata": {}, "items": items}
        return present.yaml_or_json(listed, media)

    async def _metrics(self, of: Resource, objects: list[Obj]) -> list[Obj]:
        """The metrics of Nodes, or of Pods; what is not known is left out."""
        nodes = self._core.storage.collection(_NODES)
        where = [o["metadata"]["name"] if of is _NODES else nested(o, "spec", "nodeName") for o in objects]
        uids = {name: entry.obj["metadata"]["uid"] for name in where if name and (entry := nodes.get(("", name)))}
        pairs = await self._scraper.pairs(uids)
        make = node_metrics if of is _NODES else pod_metrics
        made = (make(o, *pairs[name]) for o, name in zip(objects, where, strict=True) if name in pairs)
        return [m for m in made if m is not None]
