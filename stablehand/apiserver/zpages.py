"""/statusz and /flagz: what this server is and how it was set, for people (component-base/zpages)."""

from __future__ import annotations

import time

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request, Response
from stablehand.apiserver.core import ServerConfig
from stablehand.apiserver.discovery import version

_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)
_ENDPOINTS = ("healthz", "livez", "metrics", "readyz", "version")


def handle(request: Request, config: ServerConfig, started: float, now: float) -> Response:
    """Raises StatusError 406 for who wants anything but text."""
    accept = request.headers.get("Accept") or "*/*"
    if not any(clause.partition(";")[0].strip() in ("text/plain", "text/*", "*/*") for clause in accept.split(",")):
        raise errors.not_acceptable()
    page = request.path.strip("/")
    body = _status(started, now) if page == "statusz" else _flags(config)
    text = f"\nkube-apiserver {page}\n{_WARNING}\n\n{body}\n"
    return Response({}, raw=text.encode(), content_type="text/plain; charset=utf-8")


def _status(started: float, now: float) -> str:
    found = version()
    up = int(now - started)
    begun = time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(started))
    lines = [
        f"Started: {begun}",
        f"Up: {up // 3600} hr {up // 60 % 60:02} min {up % 60:02} sec",
        f"Go version: {found['goVersion']}",
        f"Binary version: {found['gitVersion'].lstrip('v')}",
        f"Emulation version: {found['emulationMajor']}.{found['emulationMinor']}",
        f"Minimum Compatibility version: {found['minCompatibilityMajor']}.{found['minCompatibilityMinor']}",
        "",
        "List of useful endpoints",
        "--------------",
        *(f"{name}:/{name}" for name in _ENDPOINTS),
        "sli metrics:/metrics/slis",
    ]
    return "\n".join(lines)


def _flags(config: ServerConfig) -> str:
    low, high = config.node_ports
    flags = {
        "advertise-address": config.advertise_address,
        "secure-port": str(config.advertise_port),
        "service-account-issuer": f"[{config.issuer}]",
        "service-cluster-ip-range": config.service_cidr,
        "service-node-port-range": f"{low}-{high}",
    }
    return "\n".join(f"{name}={value}" for name, value in flags.items())
