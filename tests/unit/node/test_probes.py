"""When probes are asked, and what their answers lead to; time is virtual where the loop allows it, else short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from stablehand.machinery.types import Obj
from stablehand.node.cri.client import CriError
from stablehand.node.hooks import run_hook
from stablehand.node.probes.checks import Doubt, Unknown, answered, check_http, check_tcp, run_check
from stablehand.node.probes.prober import Prober, Which


class Heard:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.changed = asyncio.Event()

    def _say(self, text: str) -> None:
        self.events.append(text)
        self.changed.set()

    def probe_started(self, container_id: str) -> None:
        self._say("started")

    def probe_ready(self, container_id: str, ready: bool) -> None:
        self._say(f"ready={ready}")

    def probe_failed(self, container_id: str, which: Which, output: str) -> None:
        self._say(f"failed {which}")

    def probe_errored(self, container_id: str, which: Which, output: str) -> None:
        self._say(f"errored {which}")

    def probe_dead(self, container_id: str, which: Which) -> None:
        self._say(f"dead {which}")

    async def until(self, text: str) -> None:
        async with asyncio.timeout(10):
            while text not in self.events:
                self.changed.clear()
                await self.changed.wait()


def prober(heard: Heard, container: Obj, answer: Callable[[Obj], bool], **known: Any) -> Prober:
    async def check(probe: Obj, timeout: float) -> tuple[bool, str]:
        return answer(probe), "text"

    return Prober({"name": "c", **container}, "id", check, heard, time.time(), **known)


async def test_without_probes_it_is_started_at_once() -> None:
    heard = Heard()
    prober(heard, {}, lambda p: True).start()
    assert heard.events == ["started"]


async def test_without_probes_it_must_live_for_a_moment_before_it_counts_as_started() -> None:
    heard = Heard()
    one = prober(heard, {}, lambda p: True, settle=0.03)
    one.start()
    assert heard.events == []
    await heard.until("started")
    ended = Heard()
    two = prober(ended, {}, lambda p: True, settle=0.01)
    two.start()
    two.stop()
    await asyncio.sleep(0.02)
    assert ended.events == []


async def test_readiness_is_seen_long_before_the_first_period_ends() -> None:
    heard = Heard()
    asked = []
    one = prober(heard, {"readinessProbe": {"periodSeconds": 10}}, lambda p: len(asked) > 2 or bool(asked.append(1)))
    began = time.monotonic()
    one.start()
    await heard.until("ready=True")
    one.stop()
    assert time.monotonic() - began < 2 and heard.events == ["started", "ready=True"]


async def test_startup_holds_the_others_back_and_liveness_kills() -> None:
    heard = Heard()
    up = asyncio.Event()
    probes = {
        "startupProbe": {"periodSeconds": 0.05, "which": "startup"},
        "livenessProbe": {"periodSeconds": 0.02, "failureThreshold": 3, "which": "liveness"},
    }
    one = prober(heard, probes, lambda p: p["which"] == "startup" and up.is_set())
    one.start()
    await asyncio.sleep(0)
    assert "failed liveness" not in heard.events
    up.set()
    await heard.until("dead liveness")
    one.stop()
    assert heard.events.count("failed liveness") == 3 and heard.events[0] in ("started", "failed startup")


async def test_startup_that_never_succeeds_is_fatal() -> None:
    heard = Heard()
    one = prober(heard, {"startupProbe": {"periodSeconds": 0.01, "failureThreshold": 2}}, lambda p: False)
    one.start()
    await heard.until("dead startup")
    assert heard.events == ["failed startup", "failed startup", "dead startup"]


async def test_an_adopted_ready_container_stays_ready_until_it_fails() -> None:
    heard = Heard()
    good = [True]
    probe = {"readinessProbe": {"periodSeconds": 0.01, "failureThreshold": 2}, "startupProbe": {}}
    one = prober(heard, probe, lambda p: good[0], started=True, ready=True)
    one.start()
    await asyncio.sleep(0.05)
    assert heard.events == ["started"]
    good[0] = False
    await heard.until("ready=False")
    one.stop()
    assert heard.events.count("failed readiness") == 2


@pytest.mark.parametrize("error", [("UNAVAILABLE", "Socket closed"), ("DEADLINE_EXCEEDED", "Deadline Exceeded")])
@pytest.mark.parametrize("which", ["startup", "readiness", "liveness"])
async def test_a_check_that_could_not_be_made_counts_for_nothing(which: Which, error: tuple[str, str]) -> None:
    """The runtime was restarted, or hung: that is no reason to take a container out of service, or to kill it."""

    async def away(*_: Any) -> Any:
        raise CriError(*error)

    runtime: Any = SimpleNamespace(exec_sync=away)
    heard = Heard()

    async def check(probe: Obj, timeout: float) -> tuple[bool, str]:
        return await run_check(runtime, {"name": "c"}, "id", "127.0.0.1", probe, timeout)

    probe = {"exec": {"command": ["true"]}, "periodSeconds": 0.01, "failureThreshold": 1}
    one = Prober({"name": "c", f"{which}Probe": probe}, "id", check, heard, time.time(), ready=True)
    one.start()
    async with asyncio.timeout(5):
        while heard.events.count(f"errored {which}") < 3:
            heard.changed.clear()
            await heard.changed.wait()
    one.stop()
    assert set(heard.events) - {"started"} == {f"errored {which}"}


async def test_a_command_that_takes_too_long_fails() -> None:
    async def slow(*_: Any) -> Any:
        raise CriError(
            "DEADLINE_EXCEEDED", "failed to exec in container: timeout 1s exceeded: context deadline exceeded"
        )

    runtime: Any = SimpleNamespace(exec_sync=slow)
    ok, output = await run_check(runtime, {"name": "c"}, "id", "127.0.0.1", {"exec": {"command": ["sleep"]}}, 1)
    assert not ok and output == "command timed out: 'sleep' timed out after 1s" and not isinstance(output, Unknown)


async def test_a_clock_that_was_put_back_does_not_put_probes_off() -> None:
    heard = Heard()

    async def check(probe: Obj, timeout: float) -> tuple[bool, str]:
        return True, ""

    container = {"name": "c", "readinessProbe": {"periodSeconds": 10}}
    one = Prober(container, "id", check, heard, time.time() + 3600)
    one.start()
    await heard.until("ready=True")
    one.stop()


async def test_http_and_tcp_checks() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.read(4096)).partition(b"\r\n")[0]  # all of it: closing with bytes unread is a reset
        places = {b"/moved": b"/ok", b"/loop": b"/loop", b"/away": b"http://else.where/", b"/worse": b"bad"}
        to = places.get(line.split()[1]) if line.startswith(b"GET ") else None
        code = b"500 no" if b"/bad" in line else b"302 Found\r\nLocation: " + to if to is not None else b"200 OK"
        writer.write(b"HTTP/1.1 " + code + b"\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    container = {"name": "c", "ports": [{"name": "web", "containerPort": port}]}
    assert (await check_http(container, "127.0.0.1", {"port": "web"}, 5))[0]
    assert (await check_http(container, "127.0.0.1", {"port": port, "path": "moved"}, 5))[0]
    bad = await check_http(container, "127.0.0.1", {"port": port, "path": "/bad"}, 5)
    assert bad == (False, "HTTP probe failed with statuscode: 500")
    worse = await check_http(container, "127.0.0.1", {"port": port, "path": "/worse"}, 5)
    assert worse == bad and answered(*worse)
    ok, text = await check_http(container, "127.0.0.1", {"port": port, "path": "/away"}, 5)
    assert ok and isinstance(text, Doubt) and text.startswith("Probe terminated redirects")
    ok, text = await check_http(container, "127.0.0.1", {"port": port, "path": "/loop"}, 5)
    assert not ok and text.endswith("stopped after 10 redirects")
    ok, text = await check_http(container, "127.0.0.1", {"port": port, "scheme": "HTTPS"}, 5)
    assert not ok and text.endswith("http: server gave HTTP response to HTTPS client")
    hook = {"httpGet": {"port": port, "scheme": "HTTPS", "path": "/bad"}}
    assert await run_hook(Any, container, "id", "127.0.0.1", hook, 5) is None  # type: ignore[arg-type]
    assert (await check_tcp("127.0.0.1", port, 5))[0]
    server.close()
    await server.wait_closed()
    ok, text = await check_tcp("127.0.0.1", port, 5)
    assert not ok and "connection refused" in text
