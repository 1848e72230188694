"""Lifecycle hooks of containers: postStart and preStop, by exec, httpGet or sleep. Answers an error's text, or None."""

from __future__ import annotations

import asyncio

from stablehand.machinery.types import Obj
from stablehand.node.cri.client import Runtime
from stablehand.node.probes.checks import PLAIN_ANSWER, answered, check_exec, check_http, check_tcp, resolve_port


async def run_hook(
    runtime: Runtime, container: Obj, container_id: str, address: str, handler: Obj, timeout: float
) -> str | None:
    try:
        if inner := handler.get("exec"):
            command = inner.get("command") or []
            ok, output = await check_exec(runtime, container_id, command, timeout)
            text = output.strip()
            return None if ok else f"rpc error: command '{' '.join(command)}' failed" + (f": {text}" if text else "")
        if inner := handler.get("httpGet"):
            ok, output = await check_http(container, address, inner, timeout)
            if not ok and output.endswith(PLAIN_ANSWER):
                # Hooks once were sent over plain HTTP whatever their scheme: kubelet still falls back to it.
                ok, output = await check_http(container, address, {**inner, "scheme": "HTTP"}, timeout)
            return None if answered(ok, output) else output
        if inner := handler.get("sleep"):
            await asyncio.wait_for(asyncio.sleep(inner.get("seconds") or 0), timeout)
            return None
        if inner := handler.get("tcpSocket"):
            ok, output = await check_tcp(inner.get("host") or address, resolve_port(container, inner["port"]), timeout)
            return None if ok else output
    except TimeoutError:
        return f"the hook did not end within {timeout:g} s"
    except ValueError as e:
        return str(e)
    return "invalid handler: one of exec, httpGet and sleep must be given"
