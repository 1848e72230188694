"""The OpenAPI documents of aggregated servers: their v3 documents are fetched when asked for, their v2 definitions are
merged into ours (kube-aggregator's openapi and openapiv3 aggregators).

A server that only knows v2 has a v3 document made of it. What changed is looked for whenever availability.py looks.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from stablehand.apiserver import openapi2
from stablehand.apiserver.aggregation import proxy
from stablehand.apiserver.aggregation.discovery import GroupVersion
from stablehand.apiserver.contract import Request, Response, StatusError, User
from stablehand.apiserver.core import Core
from stablehand.apiserver.outbound import CallFailed
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.aggregation")

_AGGREGATOR = User("system:aggregator")


class RemoteOpenApi:
    """`marks` names the content of each group version's v3 document; `generation` grows with every change."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.marks: dict[GroupVersion, str] = {}
        self.generation = 0
        self._services: dict[GroupVersion, Obj] = {}
        self._has_v3: set[GroupVersion] = set()
        self._v2: dict[GroupVersion, Obj] = {}

    async def look(self, service: Obj) -> None:
        """Finds out whether a server that answers has other documents than before."""
        spec = service["spec"]
        at: GroupVersion = (spec["group"], spec["version"])
        self._services[at] = service
        index = await self._get(service, "/openapi/v3")
        path = f"apis/{at[0]}/{at[1]}"
        mark = _mark(index, path)
        if mark and self.marks.get(at) == mark:
            return
        v2 = await self._get(service, "/openapi/v2") or {}
        has_v3 = bool(mark)
        if not mark and v2:
            mark = hashlib.sha256(orjson.dumps(v2, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32].upper()
        if not mark:
            self.forget(at)
            return
        if self.marks.get(at) == mark:
            return
        self.marks[at], self._v2[at] = mark, _readable(v2, at)
        (self._has_v3.add if has_v3 else self._has_v3.discard)(at)
        self.generation += 1

    def forget(self, at: GroupVersion) -> None:
        if self.marks.pop(at, None) is not None:
            self._v2.pop(at, None)
            self._has_v3.discard(at)
            self.generation += 1

    def keep_only(self, there: set[GroupVersion]) -> None:
        """Forgets group versions that no APIService sends elsewhere any longer."""
        for at in [at for at in self.marks if at not in there]:
            self.forget(at)

    async def document(self, at: GroupVersion) -> Obj | None:
        """The v3 document of a remote group version; None when there is none now."""
        if at not in self.marks:
            return None
        if at in self._has_v3:
            return await self._get(self._services[at], f"/openapi/v3/apis/{at[0]}/{at[1]}")
        return from_v2(self._v2[at], at)

    def merge(self, doc: Obj) -> None:
        """Adds the definitions and paths of remote servers to our v2 document; ours win."""
        for remote in self._v2.values():
            for name, definition in (remote.get("definitions") or {}).items():
                doc["definitions"].setdefault(name, definition)
            for path, item in (remote.get("paths") or {}).items():
                doc["paths"].setdefault(path, item)

    async def _get(self, service: Obj, path: str) -> Obj | None:
        try:
            to = proxy.destination(service, path)
            request = Request("GET", path, {}, user=_AGGREGATOR)
            answer: Response = await proxy.fetch(self._core, request, to, proxy.context(self._core, service, to))
            found = answer.obj if answer.code == 200 else None
        except (CallFailed, StatusError, ValueError) as e:
            log.debug("%s of APIService %s: %s", path, service["metadata"]["name"], e)
            return None
        return found if isinstance(found, dict) else None


_METHODS = ("get", "put", "post", "delete", "patch")
_OPERATION = ("description", "operationId", "consumes", "produces")


def _readable(doc: Obj, at: GroupVersion) -> Obj:
    """What of a server's v2 document ours can take in: its definitions, and the paths of its group version as far as
    clients of Kubernetes read them. Nothing of a document that cannot be told in the binary form too."""
    prefix = f"/apis/{at[0]}/{at[1]}"
    try:
        paths = {
            path: {method: _operation(item[method]) for method in _METHODS if method in item}
            for path, item in (doc.get("paths") or {}).items()
            if path == prefix or path.startswith(prefix + "/")
        }
        out = {"info": doc.get("info") or {}, "definitions": doc.get("definitions") or {}, "paths": paths}
        openapi2.to_protobuf(out)
    except (LookupError, TypeError, ValueError, AttributeError) as e:
        log.warning("the OpenAPI document of %s/%s is passed over: %r", *at, e)
        return {}
    return out


def _operation(operation: Obj) -> Obj:
    out = {k: v for k, v in operation.items() if k in _OPERATION or k.startswith("x-")}
    out["parameters"] = [
        p
        for p in operation.get("parameters") or ()
        if p.get("in") == "query" or (p.get("in") == "body" and p["schema"])
    ]
    out["responses"] = {
        code: {"description": answer.get("description") or "", "schema": answer.get("schema") or {}}
        for code, answer in (operation.get("responses") or {}).items()
    }
    return out


def _mark(index: Obj | None, path: str) -> str:
    """The hash in the address that a v3 index gives for a group version; without one, the address itself."""
    entry = ((index or {}).get("paths") or {}).get(path)
    if not isinstance(entry, dict):
        return ""
    url = str(entry.get("serverRelativeURL") or "")
    hashes = parse_qs(urlsplit(url).query).get("hash")
    return hashes[0] if hashes else hashlib.sha256(url.encode()).hexdigest()[:32].upper()


def from_v2(doc: Obj, at: GroupVersion) -> Obj:
    """A v3 document with the schemas of a v2 one."""
    group, version = at
    info = doc.get("info") or {"title": f"{group}/{version}", "version": "unversioned"}
    return {
        "openapi": "3.0.0",
        "info": info,
        "paths": {
            path: {method: {"operationId": op.get("operationId", ""), **_marks(op)} for method, op in item.items()}
            for path, item in (doc.get("paths") or {}).items()
        },
        "components": {"schemas": {k: _schema(v) for k, v in (doc.get("definitions") or {}).items()}},
    }


def _marks(operation: Obj) -> Obj:
    """What says of an operation which kind it is of, and its answers without their schemas."""
    marks = {k: v for k, v in operation.items() if k.startswith("x-kubernetes-")}
    answers = {code: {"description": answer["description"]} for code, answer in operation["responses"].items()}
    return {**marks, "responses": answers}


def _schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        k: v.replace("#/definitions/", "#/components/schemas/") if k == "$ref" and isinstance(v, str) else _schema(v)
        for k, v in node.items()
    }
