"""A kubelet that a test plays: its node, and what its pods use."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
import time
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stablehand.machinery.types import Obj
from tests.integration.conftest import free_port


class PlayedKubelet:
    """Serves /metrics/resource on loopback. `use` is each container's cores and bytes, by (namespace, pod, container)."""

    def __init__(self, folder: Path) -> None:
        self.port, self.started = free_port(), time.time() - 1000
        self.use: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        crt = folder / "kubelet.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "played")])
        now = datetime.datetime.now(datetime.UTC)
        cert = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        plain = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        crt.write_bytes(cert.public_bytes(encoding) + plain)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(crt)
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        self._up.wait(10)

    async def _serve(self) -> None:
        async def metrics(request: web.Request) -> web.Response:
            return web.Response(text=self.text())

        app = web.Application()
        app.add_routes([web.get("/metrics/resource", metrics)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        self._up.set()
        await self._stop.wait()
        await runner.cleanup()

    def text(self) -> str:
        stamp, lines = int(time.time() * 1000), []
        now = stamp / 1000  # the figures are of the very millisecond that they are stamped with
        for (namespace, pod, container), (cores, memory) in self.use.items():
            names = f'{{container="{container}",namespace="{namespace}",pod="{pod}"}}'
            used = cores * (now - self.started)
            lines.append(f"container_cpu_usage_seconds_total{names} {used} {stamp}")
            lines.append(f"container_memory_working_set_bytes{names} {memory} {stamp}")
            lines.append(f"container_start_time_seconds{names} {self.started}")
        lines.append(f"node_cpu_usage_seconds_total {0.5 * (now - self.started)} {stamp}")
        lines.append(f"node_memory_working_set_bytes {512 << 20} {stamp}")
        return "\n".join(lines) + "\n"

    def node(self, name: str) -> Obj:
        """A Node, with status, whose kubelet this is."""
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"a": "b"}},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
                "capacity": {"cpu": "2", "memory": "1Gi"},
                "allocatable": {"cpu": "2", "memory": "1Gi"},
            },
        }

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()
