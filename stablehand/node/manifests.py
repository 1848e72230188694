"""Static pods: those that files of a folder describe, one each, for as long as the file is there.

Kubelet runs them by itself and shows them to the API as mirror pods. Here the mirror pod is the pod: it is made through
the API, run like any other, made again when somebody deletes it, and replaced when its file changes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path

from stablehand.client import AlreadyExists, ApiError, Client, NotFound, Unavailable
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.node.logs import FolderWatch
from stablehand.runtime import Informer

log = logging.getLogger("stablehand.node.manifests")

_PODS = resource("pods")
MIRROR, _HASH, _SOURCE, _SEEN = (f"kubernetes.io/config.{word}" for word in ("mirror", "hash", "source", "seen"))
_RETRY = 10.0
_SUFFIXES = (".yaml", ".yml", ".json")


class ManifestError(Exception):
    """A file does not describe a pod."""


def static_pod(data: bytes, node: str) -> Obj:
    """The pod of a file, bound to the node and marked. Raises ManifestError."""
    import yaml

    try:
        pod = yaml.safe_load(data)
    except yaml.YAMLError as e:
        raise ManifestError(str(e)) from None
    if not isinstance(pod, dict) or (pod.get("apiVersion"), pod.get("kind")) != ("v1", "Pod"):
        raise ManifestError("it is no v1 Pod")
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if not meta.get("name"):
        raise ManifestError("the pod has no name")
    mark = hashlib.md5(data, usedforsecurity=False).hexdigest()
    notes = {_HASH: mark, MIRROR: mark, _SOURCE: "file", _SEEN: format_time(time.time())}
    always = {"operator": "Exists", "effect": "NoExecute"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **meta,
            "name": f"{meta['name']}-{node}",
            "namespace": meta.get("namespace") or "default",
            "annotations": {**(meta.get("annotations") or {}), **notes},
        },
        "spec": {**spec, "nodeName": node, "tolerations": [*(spec.get("tolerations") or ()), always]},
    }


def read_folder(folder: Path, node: str) -> Iterator[Obj]:
    """The pods of all files; what is none is logged."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix not in _SUFFIXES or path.name.startswith("."):
            continue
        try:
            yield static_pod(path.read_bytes(), node)
        except (ManifestError, OSError) as e:
            log.error("static pod %s: %s", path, e)


def _mark(pod: Obj) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(MIRROR, ""))


class StaticPods:
    def __init__(self, client: Client, folder: Path, node: str, pods: Informer, nodes: Informer) -> None:
        self._client = client
        self._folder = folder
        self._node = node
        self._pods = pods
        self._nodes = nodes
        self._changed = asyncio.Event()

    async def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        watch = FolderWatch(self._folder / "any")
        watch.event = self._changed
        self._pods.on_change(lambda kind, old, pod: self._changed.set() if kind == "DELETED" and _mark(pod) else None)
        await self._nodes.synced()
        try:
            while True:
                self._changed.clear()
                done = await self._sync()
                try:
                    await asyncio.wait_for(self._changed.wait(), None if done else _RETRY)
                except TimeoutError:
                    continue
        finally:
            watch.close()

    async def _sync(self) -> bool:
        """Deletes what no file describes (any more, or in this way), makes what is missing. False: try again."""
        wanted = {(p["metadata"]["namespace"], p["metadata"]["name"]): p for p in read_folder(self._folder, self._node)}
        done = True
        there = set()
        for pod in self._pods.items():
            key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
            there.add(key)
            if not _mark(pod) or pod["metadata"].get("deletionTimestamp"):
                continue
            if key not in wanted or _mark(wanted[key]) != _mark(pod):
                log.info("ending static pod %s/%s: its file is gone or changed", *key)
                done = await self._try(self._client.delete(_PODS, key[1], key[0], uid=pod["metadata"]["uid"])) and done
        for key, pod in wanted.items():
            if key not in there:
                done = await self._create(pod) and done
        return done

    async def _create(self, pod: Obj) -> bool:
        node = self._nodes.cached("", self._node)
        if node is None:
            return False
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node["metadata"]["uid"]}
        pod["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
        return await self._try(self._client.create(_PODS, pod))

    @staticmethod
    async def _try(call: Coroutine[object, object, Obj]) -> bool:
        try:
            await call
        except (NotFound, AlreadyExists):
            pass  # the watch will say so
        except (ApiError, Unavailable) as e:
            log.warning("static pods: %s", e)
            return False
        return True
