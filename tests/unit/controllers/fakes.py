"""A small API server in memory behind the client's Transport: enough for controllers, with failure at the Nth write.

Semantics that matter to controllers are kept (resourceVersion conflicts, generations, status split, finalizers,
graceful deletion of bound pods, watches); validation, defaults and authorization are not here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from stablehand.client import Client, Request, WatchEvent, error_for
from stablehand.machinery.hashing import random_suffix
from stablehand.machinery.resources import RESOURCES, Resource
from stablehand.machinery.selectors import parse_field_selector, parse_selector
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object

_MERGE_KEYS = {"ownerReferences": "uid", "conditions": "type", "containers": "name", "volumes": "name"}


def _error(code: int, reason: str, message: str) -> Exception:
    return error_for({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}, code)


def merge(target: Any, patch: Any, strategic: bool, field: str = "") -> Any:
    if isinstance(patch, dict):
        out = dict(target) if isinstance(target, dict) else {}
        for key, value in patch.items():
            if key.startswith("$deleteFromPrimitiveList/"):
                field = key.partition("/")[2]
                out[field] = [v for v in out.get(field) or () if v not in value]
            elif value is None:
                out.pop(key, None)
            else:
                out[key] = merge(out.get(key), value, strategic, key)
        return out
    if strategic and isinstance(patch, list) and field == "finalizers":
        return [*(target or []), *(f for f in patch if f not in (target or []))]
    if strategic and isinstance(patch, list) and field in _MERGE_KEYS:
        key = _MERGE_KEYS[field]
        out_list = list(target or [])
        for item in patch:
            same = [i for i in out_list if i.get(key) == item.get(key)]
            if item.get("$patch") == "delete":
                out_list = [i for i in out_list if i.get(key) != item.get(key)]
            elif same:
                out_list[out_list.index(same[0])] = merge(same[0], item, True)
            else:
                out_list.append(item)
        return out_list
    return patch


class FakeServer:
    """Implements client.Transport. `on_write` hooks see (method, resource key, name) and may raise."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self.revision = itertools.count(1)
        self.last = 0
        self.watchers: list[tuple[str, str | None, Callable[[Obj], bool], asyncio.Queue[WatchEvent]]] = []
        self.on_write: list[Callable[[str, str, str], None]] = []
        self.writes: list[tuple[str, str, str]] = []
        self.paths = {r.path(): r for r in reversed(RESOURCES)}
        self.now: Callable[[], float] = time.time

    def client(self) -> Client:
        return Client(self)

    # -- addressing

    def _resolve(self, path: str) -> tuple[Resource, str, str, str]:
        parts = path.strip("/").split("/")
        root, rest = (parts[:2], parts[2:]) if parts[0] == "api" else (parts[:3], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        res = self.paths.get("/" + "/".join([*root, rest[0]]))
        if res is None:
            raise _error(404, "NotFound", f"no such resource {path}")
        return res, namespace, rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else ""

    def _table(self, res: Resource) -> dict[tuple[str, str], Obj]:
        return self.objects.setdefault(res.key, {})

    def _get(self, res: Resource, namespace: str, name: str) -> Obj:
        found = self._table(res).get((namespace, name))
        if found is None:
            raise _error(404, "NotFound", f'{res.key} "{name}" not found')
        return found

    def _publish(self, kind: str, res: Resource, obj: Obj) -> None:
        for key, namespace, match, queue in self.watchers:
            if key == res.key and (not namespace or namespace == obj["metadata"].get("namespace")) and match(obj):
                queue.put_nowait(WatchEvent(kind, obj))

    def _store(self, kind: str, res: Resource, obj: Obj) -> Obj:
        self.last = next(self.revision)
        obj["metadata"]["resourceVersion"] = str(self.last)
        self._table(res)[(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])] = obj
        self._publish(kind, res, obj)
        return obj

    # -- Transport

    async def send(self, request: Request) -> Obj:
        await asyncio.sleep(0)
        if request.method == "GET" and request.path.count("/") <= 3 and request.path not in self.paths:
            return self._discovery(request.path)
        res, namespace, name, sub = self._resolve(request.path)
        if request.method == "GET":
            return self._get(res, namespace, name) if name else self._list(res, namespace, request.query)
        body = copy_object(request.body) if request.body else {}
        target = (
            name or (body.get("metadata") or {}).get("name") or (body.get("metadata") or {}).get("generateName", "")
        )
        if res.key != "events":
            for hook in list(self.on_write):
                hook(request.method, res.key + ("/" + sub if sub else ""), target)
            self.writes.append((request.method, res.key + ("/" + sub if sub else ""), target))
        if request.method == "POST":
            return self._bind(res, namespace, name, body) if sub == "binding" else self._create(res, namespace, body)
        if request.method == "DELETE" and not name:
            for ns, each in list(self._table(res)):
                if ns == namespace:
                    self._delete(res, ns, each, body)
            return {"kind": "Status", "status": "Success"}
        if request.method == "DELETE":
            return self._delete(res, namespace, name, body)
        old = self._get(res, namespace, name)
        if request.method == "PATCH":
            strategic = "strategic" in request.content_type
            wanted = (body.get("metadata") or {}).get("uid")
            if wanted and wanted != old["metadata"]["uid"]:
                raise _error(409, "Conflict", "uid precondition")
            body = merge(old, body, strategic)
        return self._update(res, old, copy_object(body), sub)

    def _discovery(self, path: str) -> Obj:
        gvs = {r.api_version: r.group for r in RESOURCES}
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            groups: dict[str, list[str]] = {}
            for gv, group in gvs.items():
                if group:
                    groups.setdefault(group, []).append(gv)
            return {
                "groups": [
                    {"preferredVersion": {"groupVersion": v[0]}, "versions": [{"groupVersion": gv} for gv in v]}
                    for v in groups.values()
                ]
            }
        gv = path.removeprefix("/apis/").removeprefix("/api/")
        rows = [r for r in RESOURCES if r.api_version == gv]
        return {
            "resources": [
                {"name": r.plural, "kind": r.kind, "namespaced": r.namespaced, "verbs": list(r.verbs)} for r in rows
            ]
        }

    def _list(self, res: Resource, namespace: str, query: dict[str, str]) -> Obj:
        match = self._matcher(query)
        items = [o for (ns, _), o in self._table(res).items() if (not namespace or ns == namespace) and match(o)]
        return {"kind": res.list_kind, "metadata": {"resourceVersion": str(self.last)}, "items": items}

    @staticmethod
    def _matcher(query: dict[str, str]) -> Callable[[Obj], bool]:
        labels = parse_selector(query.get("labelSelector", ""))
        fields = parse_field_selector(query.get("fieldSelector", ""))

        def field(obj: Obj, path: str) -> str:
            value: Any = obj
            for step in path.split("."):
                value = (value or {}).get(step)
            return str(value or "")

        return lambda o: (
            labels.matches(o["metadata"].get("labels"))
            and all((field(o, path) == value) == (op != "!=") for path, op, value in fields)
        )

    def _create(self, res: Resource, namespace: str, obj: Obj) -> Obj:
        metadata = obj["metadata"]
        if res.namespaced:
            metadata["namespace"] = namespace
        if not metadata.get("name"):
            metadata["name"] = metadata["generateName"] + random_suffix()
        if (namespace, metadata["name"]) in self._table(res):
            raise _error(409, "AlreadyExists", f'{res.key} "{metadata["name"]}" already exists')
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=format_time(self.now()), generation=1)
        if res.key == "pods":
            obj["status"] = {"phase": "Pending"}
        if res.key == "persistentvolumeclaims":
            obj.setdefault("status", {"phase": "Pending"})
        obj.setdefault("apiVersion", res.api_version)
        obj.setdefault("kind", res.kind)
        return self._store("ADDED", res, obj)

    def _bind(self, res: Resource, namespace: str, name: str, body: Obj) -> Obj:
        pod = copy_object(self._get(res, namespace, name))
        if pod["spec"].get("nodeName"):
            raise _error(409, "Conflict", f"pod {name} is already assigned to node")
        pod["spec"]["nodeName"] = body["target"]["name"]
        self._store("MODIFIED", res, pod)
        return {"kind": "Status", "status": "Success"}

    def _update(self, res: Resource, old: Obj, new: Obj, sub: str) -> Obj:
        sent = (new.get("metadata") or {}).get("resourceVersion")
        if sent and sent != old["metadata"]["resourceVersion"]:
            raise _error(409, "Conflict", "the object has been modified")
        if sub == "status":
            notes = new["metadata"].get("annotations")
            new = {**copy_object(old), "status": new.get("status")}
            if notes:
                new["metadata"]["annotations"] = notes  # a status write may change those, unlike labels
        elif sub == "finalize":
            new = {**copy_object(old), "spec": new.get("spec")}
        elif "status" in res.subresources and "status" in old:
            new["status"] = old["status"]
        for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
            if field in old["metadata"]:
                new["metadata"][field] = old["metadata"][field]
        changed = sub != "status" and new.get("spec") != old.get("spec")
        new["metadata"]["generation"] = old["metadata"].get("generation", 1) + (1 if changed else 0)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return old
        if new["metadata"].get("deletionTimestamp") and self._may_go(res, new):
            return self._remove(res, new)
        return self._store("MODIFIED", res, new)

    @staticmethod
    def _may_go(res: Resource, obj: Obj) -> bool:
        if obj["metadata"].get("finalizers") or obj["metadata"].get("deletionGracePeriodSeconds"):
            return False
        return res.key != "namespaces" or not (obj.get("spec") or {}).get("finalizers")

    def _remove(self, res: Resource, obj: Obj) -> Obj:
        del self._table(res)[(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])]
        self.last = next(self.revision)
        gone = copy_object(obj)
        gone["metadata"]["resourceVersion"] = str(self.last)
        self._publish("DELETED", res, gone)
        return gone

    def _delete(self, res: Resource, namespace: str, name: str, options: Obj) -> Obj:
        old = self._get(res, namespace, name)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != old["metadata"]["uid"]:
            raise _error(409, "Conflict", "uid precondition")
        grace = options.get("gracePeriodSeconds")
        if res.key == "pods":
            if grace is None:
                grace = old["spec"].get("terminationGracePeriodSeconds", 30)
            if not old["spec"].get("nodeName"):
                grace = 0
        else:
            grace = 0
        new = copy_object(old)
        finalizers = new["metadata"].setdefault("finalizers", [])
        policy = options.get("propagationPolicy")
        for value, finalizer in (("Orphan", "orphan"), ("Foreground", "foregroundDeletion")):
            if policy == value and finalizer not in finalizers:
                finalizers.append(finalizer)
        if not finalizers:
            del new["metadata"]["finalizers"]
        new["metadata"].setdefault("deletionTimestamp", format_time(self.now()))
        new["metadata"]["deletionGracePeriodSeconds"] = grace
        if res.key == "namespaces":
            new.setdefault("status", {})["phase"] = "Terminating"
        if new == old:
            return old  # on its way out already, held by a finalizer
        if self._may_go(res, new):
            return self._remove(res, new)
        return self._store("MODIFIED", res, new)

    async def watch(self, request: Request) -> AsyncIterator[WatchEvent]:
        res, namespace, _, _ = self._resolve(request.path)
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        match = self._matcher(request.query)
        entry = (res.key, namespace or None, match, queue)
        since = int(request.query.get("resourceVersion") or 0)
        for obj in list(self._table(res).values()):
            rv = int(obj["metadata"]["resourceVersion"])
            if rv > since and (not namespace or obj["metadata"].get("namespace") == namespace) and match(obj):
                queue.put_nowait(WatchEvent("ADDED", obj))
        self.watchers.append(entry)
        try:
            while True:
                yield await queue.get()
        finally:
            self.watchers.remove(entry)

    async def close(self) -> None: ...


class Kubelet:
    """Answers for every pod at once: bound, Running and Ready; deleted when asked. `hold` names pods left alone."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.hold: set[str] = set()
        self.seen: list[tuple[str, str]] = []  # (what, pod name) in order

    async def run(self) -> None:
        client = self.server.client()
        pods = next(r for r in RESOURCES if r.key == "pods")
        async for event in client.watch(pods, resource_version="0"):
            pod = event.object
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            self.seen.append((event.type, name))
            if event.type == "DELETED" or name in self.hold or (namespace, name) not in self.server.objects["pods"]:
                continue
            if pod["metadata"].get("deletionTimestamp"):
                self.server._delete(pods, namespace, name, {"gracePeriodSeconds": 0})
            elif (pod.get("status") or {}).get("phase") == "Pending":
                self.make_ready(namespace, name)

    def node_for(self, pod: Obj) -> str:
        return "node"

    def make_ready(self, namespace: str, name: str, *, ready: bool = True, phase: str = "Running") -> None:
        pods = next(r for r in RESOURCES if r.key == "pods")
        pod = copy_object(self.server.objects["pods"][(namespace, name)])
        pod["spec"]["nodeName"] = self.node_for(pod)
        condition = {
            "type": "Ready",
            "status": "True" if ready else "False",
            "lastTransitionTime": format_time(self.server.now()),
        }
        pod["status"] = {"phase": phase, "podIP": "10.0.0.1", "conditions": [condition]}
        self.server._store("MODIFIED", pods, pod)


async def settle(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Lets the loop turn until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("not reached in time")
        await asyncio.sleep(0)
