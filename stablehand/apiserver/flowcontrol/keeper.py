"""Keeps the cluster's own FlowSchemas and levels as they must be, and says of each FlowSchema whether its level exists.

Mandatory ones and, unless their annotation says otherwise, the suggested ones come back when they are deleted or
changed (apiserver/pkg/util/flowcontrol/apf_controller.go and registry/flowcontrol/ensurer).
"""

from __future__ import annotations

import asyncio
import logging
import uuid

from stablehand.apiserver.core import Core
from stablehand.apiserver.flowcontrol import objects
from stablehand.machinery.resources import Resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj, copy_object
from stablehand.store.contract import RevisionMismatch, WriteFailed

log = logging.getLogger("stablehand.apiserver")

_PREFIX = f"{objects.GROUP}/"


class Keeper:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._task: asyncio.Task[None] | None = None
        self._again = False
        core.stopping.append(self.stop)

    def start(self) -> None:
        self._core.storage.on_change(self._changed)
        self._changed(_PREFIX)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _changed(self, prefix: str) -> None:
        if not prefix.startswith(_PREFIX):
            return
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._again:
            self._again = False
            try:
                for res in (objects.LEVELS, objects.SCHEMAS):
                    for name in objects.specs(res):
                        await self._keep(res, name)
                await self._conditions()
            except RevisionMismatch:
                self._again = True
            except WriteFailed as e:
                log.warning("flow control's objects cannot be written: %s", e)

    async def _keep(self, res: Resource, name: str) -> None:
        storage = self._core.storage
        collection = storage.collection(res)
        entry = collection.get(("", name))
        if entry is None:
            obj = copy_object(objects.made(res, name))
            obj["metadata"].update(uid=str(uuid.uuid4()), creationTimestamp=format_time(self._core.clock()))
            await storage.put(collection, ("", name), obj, 0)
            return
        meta = entry.obj["metadata"]
        ours = name in objects.MANDATORY or (meta.get("annotations") or {}).get(objects.AUTO_UPDATE) == "true"
        if not ours or meta.get("deletionTimestamp") or entry.obj.get("spec") == objects.specs(res)[name]:
            return
        obj = copy_object(entry.obj)
        obj["spec"] = copy_object(objects.specs(res)[name])
        obj["metadata"]["generation"] = (meta.get("generation") or 0) + 1
        await storage.put(collection, ("", name), obj, entry.revision)

    async def _conditions(self) -> None:
        storage = self._core.storage
        collection = storage.collection(objects.SCHEMAS)
        levels = storage.collection(objects.LEVELS)
        for key, entry in list(collection.ordered()):
            level = (entry.obj["spec"].get("priorityLevelConfiguration") or {}).get("name") or ""
            condition = objects.dangling(level, levels.get(("", level)) is not None)
            before = (entry.obj.get("status") or {}).get("conditions") or []
            old: Obj = next((c for c in before if c.get("type") == objects.DANGLING), {})
            if all(old.get(k) == v for k, v in condition.items()):
                continue
            same = old.get("status") == condition["status"]
            since = old["lastTransitionTime"] if same else format_time(self._core.clock())
            obj = copy_object(entry.obj)
            others = [c for c in before if c.get("type") != objects.DANGLING]
            obj["status"] = {**(obj.get("status") or {})}
            obj["status"]["conditions"] = [*others, {**condition, "lastTransitionTime": since}]
            await storage.put(collection, key, obj, entry.revision)
