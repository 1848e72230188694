"""An API server small enough to read: objects in a dict, one revision counter, watches.

For tests of the node alone; everything that has to be right about an API server is tested against the real one.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from stablehand.client import Client, Request, WatchEvent, error_for
from stablehand.machinery.patch import merge_patch
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object

_BY_TYPE = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip", "addresses": "type"}


def status_error(code: int, reason: str, message: str) -> Exception:
    return error_for({"kind": "Status", "code": code, "reason": reason, "message": message}, code)


def strategic(old: Any, new: Any, field: str = "") -> Any:
    """Strategic merge, for the lists that node patches."""
    if isinstance(new, dict):
        result = dict(old) if isinstance(old, dict) else {}
        for key, value in new.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = strategic(result.get(key), value, key)
        return result
    if isinstance(new, list) and field in _BY_TYPE:
        if new and new[0].get("$patch") == "replace":
            return new[1:]
        key = _BY_TYPE[field]
        merged = {item[key]: item for item in old or []}
        for item in new:
            merged[item[key]] = strategic(merged.get(item[key]), item)
        return list(merged.values())
    return new


class FakeApi:
    """Is a client's Transport. `writes` lists (method, path, body) of every write."""

    def __init__(self) -> None:
        self.objects: dict[str, Obj] = {}
        self.revision = 10
        self.writes: list[tuple[str, str, Any]] = []
        self._watchers: set[asyncio.Queue[tuple[str, Obj]]] = set()

    def client(self) -> Client:
        return Client(self)

    # -- for tests

    def put(self, path: str, obj: Obj) -> Obj:
        """Creates or replaces an object at its path."""
        kind = "MODIFIED" if path in self.objects else "ADDED"
        obj = copy_object(obj)
        meta = obj.setdefault("metadata", {})
        meta.setdefault("name", path.rsplit("/", 1)[1])
        parts = path.split("/")
        if "namespaces" in parts and parts[-2] != "namespaces":
            meta.setdefault("namespace", parts[parts.index("namespaces") + 1])
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", format_time(time.time()))
        self.revision += 1
        meta["resourceVersion"] = str(self.revision)
        self.objects[path] = obj
        self._publish(kind, obj, path)
        return obj

    def drop(self, path: str) -> None:
        obj = copy_object(self.objects.pop(path))
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        self._publish("DELETED", obj, path)

    def _publish(self, kind: str, obj: Obj, path: str) -> None:
        for queue in self._watchers:
            queue.put_nowait((kind, {"path": path, "object": obj}))

    def delete_pod(self, path: str, grace: int = 30) -> None:
        """As the API server marks a pod for graceful deletion."""
        pod = copy_object(self.objects[path])
        pod["metadata"]["deletionTimestamp"] = format_time(time.time() + grace)
        pod["metadata"]["deletionGracePeriodSeconds"] = grace
        self.put(path, pod)

    def events(self, reason: str = "") -> list[Obj]:
        found = [o for p, o in self.objects.items() if "/events/" in p]
        return [e for e in found if not reason or e["reason"] == reason]

    async def until(self, condition: Any, seconds: float = 20.0) -> Any:
        """Waits for `condition()` to be true, looking at every change."""
        queue: asyncio.Queue[tuple[str, Obj]] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            async with asyncio.timeout(seconds):
                while not (result := condition()):
                    await queue.get()
                return result
        finally:
            self._watchers.discard(queue)

    # -- Transport

    async def send(self, request: Request) -> Obj:
        await asyncio.sleep(0)
        path = request.path
        if request.method == "GET":
            if path in self.objects:
                return self.objects[path]
            if self._is_collection(path):
                items = [o for p, o in self.objects.items() if self._matches(p, o, path, request.query)]
                return {"kind": "List", "metadata": {"resourceVersion": str(self.revision)}, "items": items}
            raise status_error(404, "NotFound", f"{path} not found")
        self.writes.append((request.method, path, request.body))
        if path.endswith("/token"):
            expires = format_time(time.time() + request.body["spec"]["expirationSeconds"])
            return {**request.body, "status": {"token": f"token-{self.revision}", "expirationTimestamp": expires}}
        if request.method == "POST" and "metadata" not in request.body:
            raise status_error(404, "NotFound", f"{path} is not served")
        if request.method == "POST":
            path = f"{path}/{request.body['metadata']['name']}"
            if path in self.objects:
                raise status_error(409, "AlreadyExists", f"{path} already exists")
            return self.put(path, request.body)
        base = path.removesuffix("/status")
        if base not in self.objects:
            raise status_error(404, "NotFound", f"{base} not found")
        if request.method == "PATCH":
            old = self.objects[base]
            uid = (request.body.get("metadata") or {}).get("uid")
            if uid and uid != old["metadata"]["uid"]:
                raise status_error(409, "Conflict", "the uid in the precondition does not match")
            if "strategic" in request.content_type:
                return self.put(base, strategic(old, request.body))
            return self.put(base, merge_patch(old, request.body))
        if request.method == "DELETE":
            uid = ((request.body or {}).get("preconditions") or {}).get("uid")
            if uid and uid != self.objects[base]["metadata"]["uid"]:
                raise status_error(409, "Conflict", "uid")
            obj = self.objects[base]
            self.drop(base)
            return obj
        raise status_error(405, "MethodNotAllowed", request.method)

    async def watch(self, request: Request) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[tuple[str, Obj]] = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or 0)
        for path, obj in self.objects.items():
            if int(obj["metadata"]["resourceVersion"]) > since and self._matches(
                path, obj, request.path, request.query
            ):
                queue.put_nowait(("ADDED", {"path": path, "object": obj}))
        self._watchers.add(queue)
        try:
            while True:
                kind, event = await queue.get()
                if self._matches(event["path"], event["object"], request.path, request.query):
                    yield WatchEvent(kind, event["object"])
        finally:
            self._watchers.discard(queue)

    @staticmethod
    def _is_collection(path: str) -> bool:
        return path.rsplit("/", 1)[1] in ("pods", "services", "configmaps", "secrets", "nodes", "events") or path in (
            "/api/v1/persistentvolumes",
        )

    @staticmethod
    def _matches(path: str, obj: Obj, collection: str, query: dict[str, str]) -> bool:
        parent, _, kind = collection.rpartition("/")
        own, _, name = path.rpartition("/")
        if own != collection and not (
            own.endswith("/" + kind) and own.startswith(f"{parent}/namespaces/") and "/namespaces/" not in collection
        ):
            return False
        for part in filter(None, query.get("fieldSelector", "").split(",")):
            field, _, value = part.partition("=")
            actual = name if field == "metadata.name" else obj.get("spec", {}).get(field.removeprefix("spec."))
            if actual != value.lstrip("="):
                return False
        return True

    async def close(self) -> None:
        return None
