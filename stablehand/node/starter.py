"""Starting things of one pod: its sandbox, and a container from image to postStart hook. worker says when."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stablehand.client import ApiError, Unavailable
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node import cgroups
from stablehand.node.container import check_user, container_config
from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.env import ConfigError, build_env, config_references
from stablehand.node.envfiles import file_references, read_env_files
from stablehand.node.files import write_if_changed
from stablehand.node.hooks import run_hook
from stablehand.node.logs import log_tail
from stablehand.node.network import host_ports
from stablehand.node.plan import backs_off
from stablehand.node.pull import PullError
from stablehand.node.sandbox import CONTAINER_NAME, POD_UID, SandboxError, hosts_file, log_directory, sandbox_config
from stablehand.node.state import Kind, Record, RestartBackoff, Sandbox, Trouble
from stablehand.node.volumes.contract import VolumeError

if TYPE_CHECKING:
    from stablehand.node.worker import PodWorker

log = logging.getLogger("stablehand.node.starter")

_MESSAGE_LIMIT, _TAIL_LINES, _TAIL_BYTES = 4096, 80, 2048
_FIELDS = {"init": "initContainers", "main": "containers", "ephemeral": "ephemeralContainers"}


def container_path(kind: Kind, name: str) -> str:
    return f"spec.{_FIELDS[kind]}{{{name}}}"


# -- the sandbox


async def reopen_ports(worker: PodWorker) -> None:
    """The host ports of a pod that was taken up again: our table began anew."""
    sandbox = worker.observed.sandbox
    if sandbox is not None and sandbox.ready and sandbox.ip:
        await worker.node.network.open_ports(worker.uid, sandbox.ip, host_ports(worker.pod))


async def find_sandboxes(worker: PodWorker) -> None:
    """Learns of sandboxes whose making was cut short together with the runtime: they hold the pod's name there, so
    that the next has to be another attempt, and are taken down with the pod. Raises CriError."""
    known = {sandbox.id for sandbox in worker.observed.sandboxes}
    for box in await worker.node.runtime.sandboxes({POD_UID: worker.uid}):
        if box.id not in known:
            worker.observed.sandboxes.append(Sandbox(box.id, box.metadata.attempt, False, box.created_at / 1e9))
            worker.node_register(box.id)
    worker.observed.sandboxes.sort(key=lambda s: (s.attempt, s.created_at), reverse=True)


async def create_sandbox(worker: PodWorker, attempt: int, changed: bool) -> None:
    node, pod, memory, observed = worker.node, worker.pod, worker.memory, worker.observed
    try:
        if worker.sandbox_failures:
            await find_sandboxes(worker)
            if observed.sandbox is not None and observed.sandbox.attempt >= attempt:
                attempt, changed = observed.sandbox.attempt + 1, True
        if changed:
            node.event(pod, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            await _stop_old(worker)
            await node.network.close_ports(worker.uid)
        log_directory(node.config, pod).mkdir(parents=True, exist_ok=True)
        cgroups.apply(node.config, worker.granted())
        started = time.time()
        handler = await _runtime_handler(worker)
        sandbox_id = await node.runtime.run_sandbox(sandbox_config(node.config, pod, attempt), handler)
        sandbox = Sandbox(sandbox_id, attempt, False, started)
        worker.node_register(sandbox_id)
        observed.sandboxes.insert(0, sandbox)
        if not pod["spec"].get("hostNetwork"):
            # Not ready before its address is known: probes would ask at the node's.
            status = await node.runtime.sandbox_status(sandbox_id)
            sandbox.ip = status.network.ip
            if not sandbox.ip:
                raise SandboxError("the pod network gave it no address")
        sandbox.ready = True
        address = sandbox.ip or node.config.address
        write_if_changed(hosts_path(worker), hosts_file(node.config, pod, address))
        if sandbox.ip:
            await node.network.open_ports(worker.uid, address, host_ports(pod))
        memory.sandbox_retry_at = 0.0
        worker.sandbox_failures = 0
    except CriError as e:
        worker.sandbox_failures += 1
        memory.sandbox_retry_at = time.time() + min(10.0, 0.5 * 2**worker.sandbox_failures)
        node.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {e.rpc_text}")
        log.warning("sandbox of %s/%s: %s", *worker.key, e.message)
    except (OSError, SandboxError, ApiError, Unavailable) as e:
        worker.sandbox_failures += 1
        memory.sandbox_retry_at = time.time() + min(60.0, 0.5 * 2**worker.sandbox_failures)
        node.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {e}")


async def _stop_old(worker: PodWorker) -> None:
    """Stops every sandbox of the pod with all that runs in it. Raises CriError: there must never be two of a pod."""
    observed = worker.observed
    await asyncio.gather(*worker.tidying, return_exceptions=True)  # two stops at once are taken badly
    stops = (worker.node.runtime.stop_sandbox(old.id) for old in observed.sandboxes)
    for old, result in zip(observed.sandboxes, await asyncio.gather(*stops, return_exceptions=True)):
        if isinstance(result, BaseException) and not (isinstance(result, CriError) and result.code == "NOT_FOUND"):
            raise result
        old.ready = False
    for record in observed.running():
        try:
            await worker.refresh(record)
        except CriError as e:
            if e.code != "NOT_FOUND":
                raise
        worker.mark_lost(record)


async def _runtime_handler(worker: PodWorker) -> str:
    """The runtime that the pod's RuntimeClass names; "" for the runtime's default. Raises SandboxError."""
    name = worker.pod["spec"].get("runtimeClassName")
    if not name:
        return ""
    found = await worker.node.objects.get(resource("runtimeclasses.node.k8s.io"), "", name)
    if found is None:
        raise SandboxError(f'failed to get sandbox runtime: runtimeclass.node.k8s.io "{name}" not found')
    return str(found.get("handler") or "")


def hosts_path(worker: PodWorker) -> Path:
    return worker.volumes.folder / "etc-hosts"


# -- a container


async def start_container(worker: PodWorker, kind: Kind, container: Obj, attempt: int) -> None:
    """Brings one container to running, or leaves word in memory.waiting why not."""
    node, memory, name = worker.node, worker.memory, container["name"]
    path = container_path(kind, name)

    def event(level: str, reason: str, message: str) -> None:
        node.container_event(worker.pod, path, level, reason, message)

    record: Record | None = None
    try:
        if _is_damaged(worker):
            event("Warning", "SandboxDamaged", "Files of the pod's sandbox are gone: another is made")
            return
        record = await _begun(worker, name, attempt)
        if record is not None and not record.running:
            worker.wake()
            return
        if record is None:
            image = await worker.supplies.image(container, event)
            await worker.supplies.image_volumes(container, event)
            memory.waiting.pop(name, None)
            config = await _configure(worker, container, attempt, image)
            record = await _create(worker, container, attempt, config, image)
            event("Normal", "Created", "Container created")
            # A call that is cancelled may start it all the same: who ends the pod has to wait for what comes of it.
            call = node.background.spawn(_start_call(node.runtime, record.id), f"start/{name}")
            worker.starting.add(call)
            call.add_done_callback(worker.starting.discard)
            if (error := await asyncio.shield(call)) is not None:
                raise error
        memory.waiting.pop(name, None)
        if record.state == "created":
            record.state = "running"
        record.started_at = record.started_at or time.time()
        event("Normal", "Started", "Container started")
        memory.retry_at.pop(name, None)
        worker.wake()
        await _post_start(worker, container, record, event)
        worker.probing.begin(container, record)
    except PullError as e:
        memory.waiting[name] = Trouble(e.reason, str(e))
        memory.retry_at[name] = e.retry_at
        if e.reason == "ErrImagePull":
            memory.retry_at[name] = min(e.retry_at, time.time() + 3)  # then it shows ImagePullBackOff
    except (ConfigError, VolumeError) as e:
        event("Warning", "Failed", f"Error: {e}")
        _trouble(worker, name, "CreateContainerConfigError", str(e))
    except (ApiError, Unavailable) as e:
        event("Warning", "Failed", f"Error: {e}")
        _trouble(worker, name, "CreateContainerConfigError", str(e), 2.0)
    except (CriError, OSError) as e:
        message = e.message if isinstance(e, CriError) else str(e)
        event("Warning", "Failed", f"Error: {message}")
        if record is None:
            _trouble(worker, name, "CreateContainerError", message)
        elif isinstance(e, CriError) and e.connection_lost:
            # Not the container's own fault, which a pod that is never restarted would end with: it is made anew,
            # unless the stream of events has told meanwhile that it runs.
            if record.state == "created":
                _trouble(worker, name, "RunContainerError", message, 1.0)
        else:
            await _start_failed(worker, record, message)


def _is_damaged(worker: PodWorker) -> bool:
    """Whether somebody deleted what containerd mounts into every container: no container would start in that sandbox.
    Takes it out of use then."""
    sandbox = worker.observed.sandbox
    folder = worker.node.config.data_dir / "containerd" / "io.containerd.grpc.v1.cri" / "sandboxes"
    if sandbox is None or not sandbox.ready or not folder.is_dir() or (folder / sandbox.id / "resolv.conf").is_file():
        return False
    sandbox.ready = False
    return True


async def _start_call(runtime: Runtime, container: str) -> CriError | None:
    try:
        await runtime.start_container(container)
    except CriError as e:
        return e
    return None


async def _begun(worker: PodWorker, name: str, attempt: int) -> Record | None:
    """The container of this attempt, if it runs or ran after all: its start was cut short with the runtime, or with us,
    before we heard of it. There must never be two of it at once. Raises CriError."""
    record = worker.observed.latest(name)
    if record is None or record.attempt != attempt or record.state != "created":
        return None
    try:
        await worker.refresh(record)
    except CriError as e:
        if e.code != "NOT_FOUND":
            raise
    return record if record.state in ("running", "exited") else None


def _trouble(worker: PodWorker, name: str, reason: str, message: str, delay: float = 5.0) -> None:
    worker.memory.waiting[name] = Trouble(reason, message)
    worker.memory.retry_at[name] = time.time() + delay


async def _start_failed(worker: PodWorker, record: Record, message: str) -> None:
    """The runtime keeps a container that could not be started as ended, with exit code 128: it counts as a restart."""
    with contextlib.suppress(CriError):
        await worker.refresh(record)
    if record.state != "exited":
        record.state, record.exit_code, record.reason = "exited", 128, "StartError"
        record.finished_at = time.time()
    record.message = record.message or message
    worker.memory.waiting[record.name] = Trouble("RunContainerError", message)


async def _configure(worker: PodWorker, container: Obj, attempt: int, image: pb.Image) -> pb.ContainerConfig:
    node, pod = worker.node, worker.granted()
    container = {**container, "resources": worker.memory.allocated.get(container["name"], container.get("resources"))}
    check_user(pod, container, image)
    env = await _environment(worker, container)
    await worker.volumes.restore()
    if not hosts_path(worker).is_file():
        write_if_changed(hosts_path(worker), hosts_file(node.config, pod, worker.address()))
    mounts = worker.volumes.container_mounts(container, env)
    taken = {m.container_path for m in mounts}
    if "/etc/hosts" not in taken:
        mounts.append(pb.Mount(container_path="/etc/hosts", host_path=str(hosts_path(worker))))
    message_path = container.get("terminationMessagePath") or "/dev/termination-log"
    if message_path not in taken:
        own = message_file(worker, container["name"], attempt)
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_bytes(b"")
        own.chmod(0o666)
        mounts.append(pb.Mount(container_path=message_path, host_path=str(own)))
    target = ""
    if container.get("targetContainerName"):
        found = worker.observed.latest(container["targetContainerName"])
        if found is None or not found.running:
            raise ConfigError(f"unable to find target container {container['targetContainerName']}")
        target = found.id
    return container_config(
        pod,
        container,
        attempt=attempt,
        image=image.id,
        env=env,
        mounts=mounts,
        devices=worker.volumes.container_devices(container),
        memory_capacity=node.memory_capacity,
        target=target,
    )


async def _environment(worker: PodWorker, container: Obj) -> dict[str, str]:
    node, namespace = worker.node, worker.key[0]
    maps, secrets = config_references(container)

    async def read(kind: str, names: set[str]) -> dict[str, Obj | None]:
        found = await asyncio.gather(*(node.objects.get(resource(kind), namespace, name) for name in names))
        return dict(zip(names, found))

    found_maps = await read("configmaps", maps) if maps else {}
    found_secrets = await read("secrets", secrets) if secrets else {}
    try:
        files = read_env_files(file_references(container), worker.volumes.folders())
    except (ValueError, OSError) as e:
        log.info("environment files of %s/%s: %s", *worker.key, e)
        raise ConfigError("couldn't parse env file") from None
    await node.services.synced()
    return build_env(
        worker.granted(),
        container,
        services=node.services.items(),
        maps=found_maps,
        secrets=found_secrets,
        node=worker.facts(),
        allocatable=node.allocatable(),
        files=files,
    )


async def _create(
    worker: PodWorker, container: Obj, attempt: int, config: pb.ContainerConfig, image: pb.Image
) -> Record:
    node, observed, name = worker.node, worker.observed, container["name"]
    sandbox = observed.sandbox
    assert sandbox is not None
    old = observed.latest(name)
    if old is not None and old.attempt == attempt:
        # Created but never started (we were restarted in between): its name is taken.
        with contextlib.suppress(CriError):
            await node.runtime.remove_container(old.id)
        observed.containers[name].remove(old)
    elif old is not None and old.state == "unknown":
        # The runtime lost sight of it: it may run yet, and there must never be two of it at once.
        await node.runtime.stop_container(old.id, 0)
        await worker.refresh(old)
    elif old is not None and backs_off(container, old):
        worker.memory.backoff.setdefault(name, RestartBackoff()).next(time.time())
    (log_directory(node.config, worker.pod) / name).mkdir(parents=True, exist_ok=True)
    sandboxed = sandbox_config(node.config, worker.pod, sandbox.attempt)
    try:
        container_id = await node.runtime.create_container(sandbox.id, config, sandboxed)
    except CriError as e:
        if "is reserved for" not in e.message:
            raise
        # One was made by a call whose answer was lost with the runtime.
        for item in await node.runtime.containers({POD_UID: worker.uid, CONTAINER_NAME: name}):
            if item.metadata.attempt == attempt:
                await node.runtime.remove_container(item.id)
        container_id = await node.runtime.create_container(sandbox.id, config, sandboxed)
    digests = list(image.repo_digests)
    record = Record(
        container_id,
        name,
        attempt,
        sandbox.id,
        "created",
        created_at=time.time(),
        image=image.repo_tags[0] if image.repo_tags else container.get("image", ""),
        image_id=digests[0] if digests else image.id,
        asked_image=container.get("image", ""),
        resources=worker.memory.allocated.get(name, container.get("resources") or {}),
    )
    worker.node_register(container_id)
    observed.add(record)
    for outdated in observed.containers[name][2:]:
        # kubelet keeps one dead instance, whose log `kubectl logs -p` shows.
        observed.containers[name].remove(outdated)
        node.background.spawn(worker.remove_container(outdated), f"remove/{name}")
    return record


async def _post_start(
    worker: PodWorker, container: Obj, record: Record, event: Callable[[str, str, str], None]
) -> None:
    handler = (container.get("lifecycle") or {}).get("postStart")
    if not handler or not record.running:
        return
    error = await run_hook(worker.node.runtime, container, record.id, worker.address(), handler, 600)
    if error is not None and record.running:
        event("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
        message = f"FailedPostStartHook: Container {record.name} failed postStart hook, will be restarted"
        worker.memory.to_kill[record.id] = ("Killing", message.partition(": ")[2])


# -- the last words


def message_file(worker: PodWorker, name: str, attempt: int) -> Path:
    return worker.volumes.folder / "containers" / name / f"termination-{attempt}"


def read_message(worker: PodWorker, container: Obj, record: Record) -> str:
    """What the container wrote to its termination log; the end of its log where that is its policy."""
    try:
        with open(message_file(worker, record.name, record.attempt), "rb") as f:
            text = f.read(_MESSAGE_LIMIT).decode(errors="replace")
    except OSError:
        text = ""
    if not text and record.exit_code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        path = log_directory(worker.node.config, worker.pod) / record.name / f"{record.attempt}.log"
        text = log_tail(path, _TAIL_LINES, _TAIL_BYTES)
    return text
