"""pods/log: the kubelet's container log, streamed through."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Answer, Request, Response, Upgrade
from stablehand.apiserver.core import Core
from stablehand.apiserver.streams import kubelet, pipe, targets
from stablehand.machinery.meta import nested
from stablehand.machinery.types import Obj

_FLAGS = ("follow", "previous", "timestamps")
_LEAST = {"tailLines": 0, "limitBytes": 1, "sinceSeconds": 1}


def _options(request: Request) -> dict[str, str]:
    """The kubelet's query. Raises StatusError for values that are none."""
    query = {name: "true" for name in _FLAGS if request.flag(name)}
    causes: list[Obj] = []
    for name, least in _LEAST.items():
        if not (text := request.query.get(name, "")):
            continue
        try:
            value = int(text)
        except ValueError:
            raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
        if value < least:
            why = f"must be greater than or equal to {least}" if name == "tailLines" else "must be greater than 0"
            message = f"Invalid value: {value}: {why}"
            causes.append({"reason": "FieldValueInvalid", "message": message, "field": name})
        query[name] = text
    if since := request.query.get("sinceTime"):
        query["sinceTime"] = since
        if "sinceSeconds" in query:
            message = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
            causes.append({"reason": "FieldValueForbidden", "message": message, "field": ""})
    if stream := request.query.get("stream"):
        query["stream"] = stream
    if causes:
        text = "; ".join(f"{c['field']}: {c['message']}" for c in causes)
        text = f"[{text}]" if len(causes) > 1 else text
        name = request.info.name
        raise errors.invalid("", "PodLogOptions", name, f'PodLogOptions "{name}" is invalid: {text}', causes)
    return query


async def handle(core: Core, request: Request) -> Answer:
    info = request.info
    pod = targets.find(core, "pods", info.namespace, info.name)
    query = _options(request)
    container = targets.container_of(pod, request.query.get("container", ""))
    node = nested(pod, "spec", "nodeName")
    if not node:  # upstream answers an empty log
        return Response(raw=b"", content_type="text/plain")
    address, port = targets.kubelet_address(core, node)
    path = f"/containerLogs/{quote(info.namespace)}/{quote(info.name)}/{quote(container)}"
    url = URL(f"https://{kubelet.host(address, port)}{path}", encoded=True).with_query(query)
    try:
        answer = await kubelet.session(core).get(url, ssl=kubelet.context(core))
    except (aiohttp.ClientError, OSError, TimeoutError) as e:
        raise errors.internal(f'Get "{url}": {e or "i/o timeout"}') from None
    if answer.status != 200:
        text = await answer.text()
        raise kubelet.refusal(answer.status, text)
    if request.http is None:
        return Response(raw=await answer.read(), content_type="text/plain")

    async def run(http: Any) -> web.StreamResponse:
        return await _stream(http, answer)

    return Upgrade(run)


async def _stream(http: Any, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    try:
        with pipe.ended_by_client(http):
            await response.prepare(http)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
    except (aiohttp.ClientError, ConnectionError):
        response.force_close()
    finally:
        answer.close()
    with contextlib.suppress(ConnectionError):
        await response.write_eof()
    return response
