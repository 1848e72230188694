"""Tells of each remote APIService whether it can be reached: the condition Available (kube-aggregator's
available_controller). Looks when an APIService, its Service or its Endpoints change, and every half minute.
"""

from __future__ import annotations

import asyncio
import logging

from stablehand.aiokit.tasks import TaskSet
from stablehand.apiserver.aggregation import proxy
from stablehand.apiserver.aggregation.discovery import RemoteDiscovery
from stablehand.apiserver.aggregation.openapi import RemoteOpenApi
from stablehand.apiserver.aggregation.services import ApiServices
from stablehand.apiserver.contract import Request, StatusError, User
from stablehand.apiserver.core import Core
from stablehand.apiserver.outbound import CallFailed
from stablehand.machinery.conditions import set_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object
from stablehand.store.contract import RevisionMismatch, StoreError

log = logging.getLogger("stablehand.aggregation")

_EVERY = 30.0
_SERVICES, _ENDPOINTS = resource("services"), resource("endpoints")
_CHECKER = User("system:kube-aggregator", ("system:masters",))

Verdict = tuple[bool, str, str]  # available, reason, message


class Availability:
    def __init__(self, core: Core, services: ApiServices, discovery: RemoteDiscovery, openapi: RemoteOpenApi) -> None:
        self._core = core
        self._services = services
        self._discovery = discovery
        self._openapi = openapi
        self._changed = asyncio.Event()
        self._tasks = TaskSet("aggregation")
        self._collection = services.collection
        self._prefixes = {
            self._collection.prefix,
            *(core.storage.collection(r).prefix for r in (_SERVICES, _ENDPOINTS)),
        }

    def start(self) -> None:
        self._core.storage.on_change(self._on_change)
        self._tasks.spawn(self._run(), "availability")

    async def stop(self) -> None:
        await self._tasks.close()

    def _on_change(self, prefix: str) -> None:
        if prefix in self._prefixes and self._services.all_remote():
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._openapi.keep_only(set(self._services.all_remote()))
            await asyncio.gather(*(self._look(o) for o in list(self._services.all_remote().values())))
            try:
                async with asyncio.timeout(_EVERY if self._services.all_remote() else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _look(self, service: Obj) -> None:
        available, reason, message = await self._verdict(service)
        key = ("", service["metadata"]["name"])
        entry = self._collection.get(key)
        if entry is None or not entry.obj["spec"].get("service"):
            return
        new = copy_object(entry.obj)
        status = new.setdefault("status", {})
        if not set_condition(
            status, "Available", "True" if available else "False", reason, message, self._core.clock()
        ):
            return
        try:
            await self._core.storage.put(self._collection, key, new, entry.revision)
        except RevisionMismatch:
            self._changed.set()
        except StoreError as e:
            log.error("the condition of APIService %s: %s", key[1], e)

    async def _verdict(self, service: Obj) -> Verdict:
        core, reference = self._core, service["spec"]["service"]
        name, namespace, port = reference["name"], reference["namespace"], reference.get("port") or 443
        entry = core.storage.collection(_SERVICES).get((namespace, name))
        if entry is None:
            return False, "ServiceNotFound", f'service/{name} in "{namespace}" is not present'
        if entry.obj["spec"].get("type", "ClusterIP") in ("ClusterIP", "NodePort", "LoadBalancer"):
            chosen = next((p for p in entry.obj["spec"].get("ports") or () if p["port"] == port), None)
            if chosen is None:
                text = f'service/{name} in "{namespace}" is not listening on port {port}'
                return False, "ServicePortError", text
            endpoints = core.storage.collection(_ENDPOINTS).get((namespace, name))
            if endpoints is None:
                return False, "EndpointsNotFound", f'cannot find endpoints for service/{name} in "{namespace}"'
            subsets = endpoints.obj.get("subsets") or ()
            wanted = chosen.get("name") or ""
            if not any(
                s.get("addresses") and any((p.get("name") or "") == wanted for p in s.get("ports") or ())
                for s in subsets
            ):
                text = f'endpoints for service/{name} in "{namespace}" have no addresses with port name "{wanted}"'
                return False, "MissingEndpoints", text
        spec = service["spec"]
        path = f"/apis/{spec['group']}/{spec['version']}"
        try:
            to = proxy.destination(service, path)
            request = Request("GET", path, {}, user=_CHECKER)
            answer = await proxy.fetch(core, request, to, proxy.context(core, service, to))
        except CallFailed as e:
            return False, "FailedDiscoveryCheck", f"failing or missing response from {path}: {e}"
        except StatusError as e:
            return False, "FailedDiscoveryCheck", f"failing or missing response from {to.url}: {e.message}"
        if not 200 <= answer.code < 300:
            text = f"failing or missing response from {to.url}: bad status from {to.url}: {answer.code}"
            return False, "FailedDiscoveryCheck", text
        if isinstance(answer.obj, dict) and answer.obj.get("kind") == "APIResourceList":
            self._discovery.lists[spec["group"], spec["version"]] = answer.obj
        await self._openapi.look(service)
        return True, "Passed", "all checks passed"
