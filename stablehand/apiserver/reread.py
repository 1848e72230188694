"""Stored custom resources as their definition's schema reads them now: pruned, and with its defaults filled in.

What is stored does not change by that, and a default that is taken back is gone from all that did not store it. In
memory an object is kept as it reads; here is remembered what is stored of those that read differently.
"""

from __future__ import annotations

import orjson

from stablehand.apiserver.core import Core
from stablehand.apiserver.storage.collection import Key
from stablehand.apiserver.storage.watchers import Entry
from stablehand.machinery import schema as schemas
from stablehand.machinery.resources import Resource
from stablehand.machinery.structural import apply_defaults, compile_structural
from stablehand.machinery.types import Obj, copy_object


class Rereading:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._marks: dict[str, bytes] = {}  # definition -> the schemas its objects were last read with
        self._stored: dict[str, dict[Key, tuple[int, Obj]]] = {}  # definition -> key -> (revision, what is stored)

    def forget(self, name: str) -> None:
        self._marks.pop(name, None)
        self._stored.pop(name, None)

    def definition(self, crd: Obj) -> None:
        """To be called when a definition is there for the first time, or has changed."""
        name, spec = crd["metadata"]["name"], crd["spec"]
        mark = orjson.dumps([spec.get("preserveUnknownFields"), [v.get("schema") for v in spec["versions"]]])
        if self._marks.get(name) == mark:
            return
        self._marks[name] = mark
        version = spec["versions"][0]["name"]
        namespaced = spec.get("scope") == "Namespaced"
        row = Resource(spec["group"], version, spec["names"]["kind"], spec["names"]["plural"], namespaced, custom=True)
        collection = self._core.storage.collection(row)
        before, now = self._stored.get(name, {}), {}
        readers: dict[str, schemas.Schema] = {}
        for each in spec["versions"]:
            source = (each.get("schema") or {}).get("openAPIV3Schema")
            preserved = bool(spec.get("preserveUnknownFields"))
            readers[f"{spec['group']}/{each['name']}"] = compile_structural(source, preserved)
        for key, entry in list(collection.entries.items()):
            revision, stored = before.get(key, (0, entry.obj))
            if revision != entry.revision:
                stored = entry.obj
            reader = readers.get(stored.get("apiVersion") or "")
            if reader is None:
                continue
            obj = copy_object(stored)
            schemas.decode(reader, obj)
            apply_defaults(reader, obj)
            if obj != stored:
                now[key] = (entry.revision, stored)
            if obj != entry.obj:
                collection.reread(key, Entry(obj, orjson.dumps(obj), entry.revision))
        self._stored[name] = now
