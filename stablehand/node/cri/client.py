"""The CRI as coroutines, one method per call that the node agent makes. What to call when is plan's and worker's.

grpc is imported when the first client is made: it takes 0.1 s, and containerd starts in that time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from stablehand.node.cri.pb import cri_pb2 as pb

_RUNTIME = "/runtime.v1.RuntimeService/"
_IMAGE = "/runtime.v1.ImageService/"


class CriError(Exception):
    """The runtime refused or failed. `code` is the gRPC status name (NOT_FOUND, UNAVAILABLE, …)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def connection_lost(self) -> bool:
        """The runtime went away in the middle of the call: what was asked may have been done, or not."""
        unfinished = ("Stream removed", "server is not initialized yet")
        return self.code == "UNAVAILABLE" or (self.code == "UNKNOWN" and self.message.startswith(unfinished))

    @property
    def no_answer(self) -> bool:
        """The runtime did not answer in the time that we gave it: not its own word that something took too long."""
        return self.code == "DEADLINE_EXCEEDED" and self.message == "Deadline Exceeded"

    @property
    def rpc_text(self) -> str:
        """As Go prints it, which is what people know from kubelet's events."""
        name = "".join(part.capitalize() for part in self.code.split("_"))
        return f"rpc error: code = {name} desc = {self.message}"


class Runtime:
    """One connection to a CRI runtime. Every method may raise CriError."""

    def __init__(self, socket: Path | str) -> None:
        # grpc's fork handlers are of no use to us (we only fork to exec), and talkative.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        import grpc
        import grpc.aio

        self._error = grpc.aio.AioRpcError
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}",
            options=[
                ("grpc.max_receive_message_length", 64 << 20),
                ("grpc.max_send_message_length", 64 << 20),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self._calls: dict[str, Any] = {}

    @property
    def channel(self) -> Any:
        return self._channel

    async def close(self) -> None:
        await self._channel.close(None)

    async def _call(self, service: str, method: str, request: Any, timeout: float) -> Any:
        path = service + method
        call = self._calls.get(path)
        if call is None:
            answer = getattr(pb, method + "Response")
            call = self._channel.unary_unary(
                path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
            )
            self._calls[path] = call
        try:
            return await call(request, timeout=timeout)
        except self._error as e:
            raise CriError(e.code().name, e.details() or "") from None
        except asyncio.CancelledError:
            # A call that is under way when the connection is closed (another takes its place) ends like this too: who
            # made it must not take that for his own end.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CriError("UNAVAILABLE", "the connection to the runtime was closed") from None

    # -- runtime

    async def version(self, timeout: float = 5) -> pb.VersionResponse:
        return await self._call(_RUNTIME, "Version", pb.VersionRequest(version="v1"), timeout)

    async def status(self, *, verbose: bool = False, timeout: float = 5) -> pb.StatusResponse:
        return await self._call(_RUNTIME, "Status", pb.StatusRequest(verbose=verbose), timeout)

    # -- sandboxes

    async def run_sandbox(self, config: pb.PodSandboxConfig, handler: str = "", timeout: float = 240) -> str:
        request = pb.RunPodSandboxRequest(config=config, runtime_handler=handler)
        return (await self._call(_RUNTIME, "RunPodSandbox", request, timeout)).pod_sandbox_id

    async def stop_sandbox(self, sandbox: str, timeout: float = 240) -> None:
        await self._call(_RUNTIME, "StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout)

    async def remove_sandbox(self, sandbox: str, timeout: float = 240) -> None:
        await self._call(_RUNTIME, "RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout)

    async def sandbox_status(self, sandbox: str, timeout: float = 120) -> pb.PodSandboxStatus:
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        return (await self._call(_RUNTIME, "PodSandboxStatus", request, timeout)).status

    async def _sandbox_info(self, sandbox: str, timeout: float) -> Any:
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True)
        info = (await self._call(_RUNTIME, "PodSandboxStatus", request, timeout)).info
        return orjson.loads(info.get("info") or "{}")

    async def sandbox_network(self, sandbox: str, timeout: float = 120) -> str:
        """The path of a sandbox's network namespace; "" for the host's, or if not known."""
        linux = ((await self._sandbox_info(sandbox, timeout)).get("runtimeSpec") or {}).get("linux") or {}
        return next((n.get("path") or "" for n in linux.get("namespaces") or () if n.get("type") == "network"), "")

    async def sandbox_link(self, sandbox: str, timeout: float = 120) -> str:
        """The name of the host's end of a sandbox's link, as the CNI plugin told it when it was made; "" if not known."""
        result = (await self._sandbox_info(sandbox, timeout)).get("cniResult") or {}
        # Those inside the pod name the sandbox they are in.
        names = [n for n, i in (result.get("Interfaces") or {}).items() if not i.get("Sandbox")]
        return next((name for name in names if name.startswith("veth")), "")

    async def sandboxes(self, labels: Mapping[str, str] | None = None, timeout: float = 120) -> list[pb.PodSandbox]:
        request = pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(label_selector=dict(labels or {})))
        return list((await self._call(_RUNTIME, "ListPodSandbox", request, timeout)).items)

    # -- containers

    async def create_container(
        self, sandbox: str, config: pb.ContainerConfig, sandbox_config: pb.PodSandboxConfig, timeout: float = 240
    ) -> str:
        request = pb.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config)
        return (await self._call(_RUNTIME, "CreateContainer", request, timeout)).container_id

    async def start_container(self, container: str, timeout: float = 240) -> None:
        await self._call(_RUNTIME, "StartContainer", pb.StartContainerRequest(container_id=container), timeout)

    async def stop_container(self, container: str, grace: int) -> None:
        """Sends the stop signal, and SIGKILL after `grace` seconds; returns when the container has ended."""
        request = pb.StopContainerRequest(container_id=container, timeout=grace)
        await self._call(_RUNTIME, "StopContainer", request, grace + 120)

    async def remove_container(self, container: str, timeout: float = 120) -> None:
        await self._call(_RUNTIME, "RemoveContainer", pb.RemoveContainerRequest(container_id=container), timeout)

    async def containers(self, labels: Mapping[str, str] | None = None, timeout: float = 120) -> list[pb.Container]:
        request = pb.ListContainersRequest(filter=pb.ContainerFilter(label_selector=dict(labels or {})))
        return list((await self._call(_RUNTIME, "ListContainers", request, timeout)).containers)

    async def container_status(self, container: str, timeout: float = 120) -> pb.ContainerStatus:
        request = pb.ContainerStatusRequest(container_id=container)
        return (await self._call(_RUNTIME, "ContainerStatus", request, timeout)).status

    async def update_resources(self, container: str, linux: pb.LinuxContainerResources, timeout: float = 120) -> None:
        request = pb.UpdateContainerResourcesRequest(container_id=container, linux=linux)
        await self._call(_RUNTIME, "UpdateContainerResources", request, timeout)

    async def reopen_log(self, container: str, timeout: float = 60) -> None:
        await self._call(_RUNTIME, "ReopenContainerLog", pb.ReopenContainerLogRequest(container_id=container), timeout)

    async def exec_sync(self, container: str, command: Iterable[str], timeout: float) -> pb.ExecSyncResponse:
        request = pb.ExecSyncRequest(container_id=container, cmd=list(command), timeout=max(1, int(timeout)))
        return await self._call(_RUNTIME, "ExecSync", request, timeout + 5)

    # -- streams: each answers the URL of the runtime's own streaming server

    async def exec_url(self, request: pb.ExecRequest, timeout: float = 60) -> str:
        return (await self._call(_RUNTIME, "Exec", request, timeout)).url

    async def attach_url(self, request: pb.AttachRequest, timeout: float = 60) -> str:
        return (await self._call(_RUNTIME, "Attach", request, timeout)).url

    async def port_forward_url(self, sandbox: str, ports: Iterable[int], timeout: float = 60) -> str:
        request = pb.PortForwardRequest(pod_sandbox_id=sandbox, port=list(ports))
        return (await self._call(_RUNTIME, "PortForward", request, timeout)).url

    # -- stats

    async def container_stats(self, timeout: float = 60) -> list[pb.ContainerStats]:
        return list((await self._call(_RUNTIME, "ListContainerStats", pb.ListContainerStatsRequest(), timeout)).stats)

    # -- images

    async def images(self, timeout: float = 60) -> list[pb.Image]:
        return list((await self._call(_IMAGE, "ListImages", pb.ListImagesRequest(), timeout)).images)

    async def image(self, name: str, timeout: float = 60) -> pb.Image | None:
        """The image a name stands for, or None when it is not on this machine."""
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name))
        answer = await self._call(_IMAGE, "ImageStatus", request, timeout)
        return answer.image if answer.HasField("image") else None

    async def pull(self, name: str, auth: Mapping[str, str] | None = None, timeout: float = 3600) -> str:
        request = pb.PullImageRequest(image=pb.ImageSpec(image=name), auth=pb.AuthConfig(**(auth or {})))
        return (await self._call(_IMAGE, "PullImage", request, timeout)).image_ref

    async def remove_image(self, name: str, timeout: float = 120) -> None:
        request = pb.RemoveImageRequest(image=pb.ImageSpec(image=name))
        await self._call(_IMAGE, "RemoveImage", request, timeout)

    async def image_fs(self, timeout: float = 60) -> pb.ImageFsInfoResponse:
        return await self._call(_IMAGE, "ImageFsInfo", pb.ImageFsInfoRequest(), timeout)


class Exits:
    """Exits and out-of-memory kills as they happen, from containerd's event service.

    `on_exit(container, code, finished_ns)` and `on_oom(container)` are called in order. `run` returns when the stream
    breaks (containerd restarted): the caller relists and runs it again.
    """

    def __init__(
        self, runtime: Runtime, on_exit: Callable[[str, int, int], None], on_oom: Callable[[str], None]
    ) -> None:
        self._runtime = runtime
        self._on_exit = on_exit
        self._on_oom = on_oom
        self.connected = asyncio.Event()

    async def run(self, namespace: str = "k8s.io") -> None:
        import grpc.aio

        from stablehand.node.cri.pb import containerd_events_pb2 as events

        subscribe = self._runtime.channel.unary_stream(
            "/containerd.services.events.v1.Events/Subscribe",
            request_serializer=events.SubscribeRequest.SerializeToString,
            response_deserializer=events.Envelope.FromString,
        )
        filters = [f'namespace=={namespace},topic=="/tasks/{topic}"' for topic in ("exit", "oom")]
        stream: AsyncIterator[events.Envelope] = subscribe(
            events.SubscribeRequest(filters=filters), metadata=(("containerd-namespace", namespace),)
        )
        try:
            self.connected.set()
            async for envelope in stream:
                if envelope.topic == "/tasks/exit":
                    task = events.TaskExit.FromString(envelope.event.value)
                    if task.id == task.container_id:  # not a process that exec started
                        at = task.exited_at
                        self._on_exit(task.container_id, task.exit_status, at.seconds * 10**9 + at.nanos)
                elif envelope.topic == "/tasks/oom":
                    self._on_oom(events.TaskOOM.FromString(envelope.event.value).container_id)
        except grpc.aio.AioRpcError as e:
            raise CriError(e.code().name, e.details() or "") from None
        finally:
            self.connected.clear()
