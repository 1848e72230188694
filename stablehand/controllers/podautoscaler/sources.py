"""The metrics APIs that autoscalers ask: metrics.k8s.io, custom.metrics.k8s.io, external.metrics.k8s.io."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from stablehand.client import ApiError, Client, NotFound, Unavailable
from stablehand.controllers.podautoscaler.replicas import Measured, Measures, Uncountable
from stablehand.machinery import quantity
from stablehand.machinery.resources import Resource
from stablehand.machinery.selectors import from_label_selector
from stablehand.machinery.times import parse_time
from stablehand.machinery.types import Obj

_CUSTOM, _EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
_PART = re.compile(r"([\d.]+)(h|ms|m|s|us|µs|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class Sources:
    """Every method raises Uncountable with upstream's text."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def resource(self, name: str, namespace: str, selector: str, container: str = "") -> Measures:
        """A resource's use by pod: of all containers together, or of the one of that name."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
        try:
            listed = await self._client.request("GET", path, {"labelSelector": selector})
        except (ApiError, Unavailable) as e:
            raise Uncountable(f"unable to fetch metrics from resource metrics API: {e}") from e
        items = listed.get("items") or ()
        if not items:
            raise Uncountable("no metrics returned from resource metrics API")
        out: Measures = {}
        for item in items:
            used = [c for c in item.get("containers") or () if not container or c.get("name") == container]
            values = [(c.get("usage") or {}).get(name) for c in used]
            if not values or None in values:
                continue  # counts as missing
            value = sum(quantity.milli(v) for v in values if v is not None)
            out[item["metadata"]["name"]] = Measured(value, *_when(item))
        return out

    async def pods(self, metric: Obj, namespace: str, selector: str) -> Measures:
        """A custom metric by pod."""
        items = await self._custom(f"namespaces/{namespace}/pods/*", metric, {"labelSelector": selector})
        return {
            item["describedObject"]["name"]: Measured(
                quantity.milli(item["value"]), _time(item), float(item.get("windowSeconds") or 60)
            )
            for item in items
        }

    async def object(self, metric: Obj, of: Resource, name: str, namespace: str) -> int:
        """A custom metric of one object, in thousandths."""
        if of.kind == "Namespace":
            where = f"namespaces/{name}/metrics"
        else:
            where = f"namespaces/{namespace}/{of.key}/{name}" if of.namespaced else f"{of.key}/{name}"
        items = await self._custom(where, metric, {})
        return quantity.milli(items[0]["value"])

    async def external(self, metric: Obj, namespace: str) -> int:
        """The sum of an external metric's values, in thousandths."""
        version = await self._version(_EXTERNAL, "external")
        path = f"/apis/{version}/namespaces/{namespace}/{quote(metric['name'], safe='')}"
        items = await self._items(path, {"labelSelector": selector_text(metric)}, "external")
        return sum(quantity.milli(item["value"]) for item in items)

    async def _custom(self, where: str, metric: Obj, params: dict[str, str]) -> list[Obj]:
        version = await self._version(_CUSTOM, "custom")
        selected = selector_text(metric)
        query = {**params, "metricLabelSelector": selected} if selected else params
        return await self._items(f"/apis/{version}/{where}/{quote(metric['name'], safe='')}", query, "custom")

    async def _version(self, group: str, what: str) -> str:
        """The group's preferred version, asked for each time: such APIs come and go."""
        try:
            found = await self._client.request("GET", f"/apis/{group}")
            return str(found["preferredVersion"]["groupVersion"])
        except (NotFound, KeyError) as e:
            text = f"unable to fetch metrics from {what} metrics API: no known available metric versions found"
            raise Uncountable(text) from e
        except (ApiError, Unavailable) as e:
            raise Uncountable(f"unable to fetch metrics from {what} metrics API: {e}") from e

    async def _items(self, path: str, params: dict[str, str], what: str) -> list[Obj]:
        try:
            listed = await self._client.request("GET", path, {k: v for k, v in params.items() if v})
        except (ApiError, Unavailable) as e:
            raise Uncountable(f"unable to fetch metrics from {what} metrics API: {e}") from e
        items: list[Obj] = listed.get("items") or []
        if not items:
            raise Uncountable(f"no metrics returned from {what} metrics API")
        return items


def selector_text(metric: Obj) -> str:
    """A metric identifier's label selector as text; "" for none."""
    found = metric.get("selector")
    return str(from_label_selector(found)) if found else ""


def _time(item: Any) -> float:
    return parse_time(item["timestamp"]) if item.get("timestamp") else 0.0


def _when(item: Obj) -> tuple[float, float]:
    """(time, window in seconds) of a PodMetrics."""
    window = sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(item.get("window") or ""))
    return _time(item), window or 60.0
