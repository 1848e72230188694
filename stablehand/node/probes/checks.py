"""One probe or hook action against a container: exec, httpGet, tcpSocket, grpc. Answers (succeeded, output).

When to ask and what follows is prober's (probes) and hooks' (lifecycle).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from stablehand.machinery.types import Obj
from stablehand.node.cri.client import CriError, Runtime

_LIMIT = 10 * 1024
_REDIRECTS, _REDIRECTING = 10, (301, 302, 303, 307, 308)
PLAIN_ANSWER = "http: server gave HTTP response to HTTPS client"
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_STATUS_TEXT = "HTTP probe failed with statuscode: "


class Doubt(str):
    """The output of a check that succeeded, but should not pass without a warning."""


class Unknown(str):
    """Why a check could not be made: that says nothing about the container."""


def resolve_port(container: Obj, port: int | str) -> int:
    """A number, or the container's port of that name. Raises ValueError."""
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    for entry in container.get("ports") or ():
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ValueError(f"couldn't find port: {port} for container {container['name']}")


def _words(error: OSError) -> str:
    """As Go words it; asyncio puts its own text into strerror."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


async def run_check(
    runtime: Runtime, container: Obj, container_id: str, address: str, action: Obj, timeout: float
) -> tuple[bool, str]:
    """Never raises for a failing check."""
    try:
        if inner := action.get("exec"):
            return await check_exec(runtime, container_id, inner.get("command") or [], timeout)
        if inner := action.get("httpGet"):
            return await check_http(container, address, inner, timeout)
        if inner := action.get("tcpSocket"):
            host = inner.get("host") or address
            return await check_tcp(host, resolve_port(container, inner["port"]), timeout)
        if inner := action.get("grpc"):
            return await check_grpc(address, inner["port"], inner.get("service") or "", timeout)
    except ValueError as e:
        return False, Unknown(e)
    return False, Unknown("missing probe handler")


async def check_exec(runtime: Runtime, container_id: str, command: list[str], timeout: float) -> tuple[bool, str]:
    try:
        answer = await runtime.exec_sync(container_id, command, timeout)
    except CriError as e:
        if e.code == "DEADLINE_EXCEEDED" and not e.no_answer:
            return False, f"command timed out: {' '.join(map(repr, command))} timed out after {timeout:g}s"
        return False, Unknown(e.message)
    output = (answer.stdout + answer.stderr)[:_LIMIT].decode(errors="replace")
    return answer.exit_code == 0, output


async def check_tcp(host: str, port: int, timeout: float) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return False, f"dial tcp {host}:{port}: i/o timeout"
    except OSError as e:
        return False, f"dial tcp {host}:{port}: connect: {_words(e)}"
    writer.close()
    return True, ""


async def check_http(container: Obj, address: str, action: Obj, timeout: float) -> tuple[bool, str]:
    """GET; 200 to 399 is success. Redirects are followed on the same host; one that leads elsewhere is a Doubt.
    Certificates are not verified."""
    scheme = (action.get("scheme") or "HTTP").lower()
    host, port = action.get("host") or address, resolve_port(container, action["port"])
    path = action.get("path") or "/"
    url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
    headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}
    for header in action.get("httpHeaders") or ():
        headers[header["name"]] = header.get("value") or ""
    first = url
    try:
        async with asyncio.timeout(timeout):
            for _ in range(_REDIRECTS + 1):
                status, location, body = await http_get(url, headers)
                if status not in _REDIRECTING or not location:
                    break
                following = urljoin(url, location)
                if urlsplit(following).hostname != urlsplit(first).hostname:
                    return True, Doubt(f"Probe terminated redirects, Response body: {body}")
                url = following
            else:
                return False, f'Get "{url}": stopped after {_REDIRECTS} redirects'
    except TimeoutError:
        return False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    except ssl.SSLError as e:
        return False, f'Get "{url}": {PLAIN_ANSWER if e.reason in _NO_TLS else f"tls: {e.reason or e}"}'
    except OSError as e:
        return False, f'Get "{url}": dial tcp {host}:{port}: connect: {_words(e)}'
    except (ValueError, asyncio.IncompleteReadError):
        return False, f'Get "{url}": EOF'
    if 200 <= status < 400:
        return True, body
    return False, f"{_STATUS_TEXT}{status}"


def answered(ok: bool, output: str) -> bool:
    """Whether an HTTP check got an answer at all, whatever its status."""
    return ok or output.startswith(_STATUS_TEXT)


async def http_get(url: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
    """One request on a connection of its own: the status code, where a redirect leads, and the beginning of its body."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    context: ssl.SSLContext | None = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        lines = [f"GET {target} HTTP/1.1"]
        if not any(name.lower() == "host" for name in headers):
            lines.append(f"Host: {parts.netloc}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append("Connection: close")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        first = (await reader.readline()).split(None, 2)
        if len(first) < 2 or not first[0].startswith(b"HTTP/"):
            raise ValueError("malformed HTTP response")
        status, location = int(first[1]), ""
        if status not in _REDIRECTING:
            return status, "", ""
        while line := (await reader.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"location":
                location = value.strip().decode(errors="replace")
        with contextlib.suppress(TimeoutError):
            return status, location, (await asyncio.wait_for(reader.read(_LIMIT), 0.2)).decode(errors="replace")
        return status, location, ""
    finally:
        writer.close()
        with contextlib.suppress(Exception):
            writer.transport.abort()


async def check_grpc(address: str, port: int, service: str, timeout: float) -> tuple[bool, str]:
    from stablehand.node.cri.health import serving

    return await serving(address, port, service, timeout)
