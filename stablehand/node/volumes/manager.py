"""All volumes of one pod: set up together, refreshed when what they show changes, unmounted and removed at the end.

Each volume has its place at <pod>/volumes/<kind>/<name>. Removal unmounts everything below the pod's folder first, and
deletes nothing where a mount stayed: data of hostPath, nfs and claims is never below that folder but through mounts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from stablehand.client import ApiError, Unavailable
from stablehand.machinery.types import Obj
from stablehand.node import mounts
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.env import ConfigError, expand
from stablehand.node.files import remove_tree
from stablehand.node.objects import Ref
from stablehand.node.volumes import (
    atomic,
    claim,
    configmap,
    downwardapi,
    emptydir,
    hostpath,
    image,
    nfs,
    projected,
    secret,
)
from stablehand.node.volumes.contract import ClaimError, Context, Host, Mounted, Payload, VolumeError
from stablehand.node.volumes.ownership import apply_group
from stablehand.node.volumes.subpath import bind_inside

_SETUP: dict[str, Callable[[Context, Obj], Awaitable[Mounted]]] = {
    "emptyDir": emptydir.setup,
    "hostPath": hostpath.setup,
    "nfs": nfs.setup,
    "image": image.setup,
    "persistentVolumeClaim": claim.setup,
    "ephemeral": claim.setup_ephemeral,
}
_PAYLOADS: dict[str, Callable[[Context, Obj], Awaitable[Payload]]] = {
    "configMap": configmap.payload,
    "secret": secret.payload,
    "downwardAPI": downwardapi.payload,
    "projected": projected.payload,
}
_FOLDERS = {
    "emptyDir": emptydir.FOLDER,
    "hostPath": "kubernetes.io~host-path",
    "nfs": "kubernetes.io~nfs",
    "image": image.FOLDER,
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
}
_ON_TMPFS = ("secret", "projected")
_PROPAGATION = {
    "None": pb.PROPAGATION_PRIVATE,
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}


class SetupFailed(Exception):
    """Some volumes could not be set up: (event message, volume name) each, and what to wait for."""

    def __init__(self, failures: Mapping[str, Exception]) -> None:
        self.failures = dict(failures)
        super().__init__("; ".join(self.messages()))

    def messages(self) -> list[str]:
        claims = {n: e for n, e in self.failures.items() if isinstance(e, ClaimError)}
        texts = [
            f'MountVolume.SetUp failed for volume "{name}" : {error}'
            for name, error in self.failures.items()
            if name not in claims
        ]
        if claims:
            names = " ".join(claims)
            texts.append(
                f"Unable to attach or mount volumes: unmounted volumes=[{names}], unattached volumes=[], failed to "
                f"process volumes=[{names}]: {'; '.join(str(e) for e in claims.values())}"
            )
        return texts


def kind_of(volume: Obj) -> str:
    return next((key for key in volume if key != "name"), "emptyDir")


class PodVolumes:
    """`changed` is called when a volume should be refreshed (an object changed) or a failed setup tried again."""

    def __init__(self, host: Host, pod: Obj, changed: Callable[[], None]) -> None:
        self._host = host
        self.pod = pod
        self._changed = changed
        self.folder = host.config.pods_dir / pod["metadata"]["uid"]
        self.mounted: dict[str, Mounted] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tokens: dict[str, dict[str, Payload]] = {}  # by volume

    def _context(self, volume: Obj, kind: str) -> Context:
        name = volume["name"]
        place = self.folder / "volumes" / _FOLDERS.get(kind, "kubernetes.io~" + kind.lower()) / name
        return Context(self._host, self.pod, name, place, tokens=self._tokens.setdefault(name, {}))

    async def setup(self) -> None:
        """Sets up what is not there yet. Raises SetupFailed; call again when `changed` was called, or later."""
        todo = [v for v in self.pod["spec"].get("volumes") or () if v["name"] not in self.mounted]
        results = await asyncio.gather(*(self._one(v) for v in todo), return_exceptions=True)
        failures: dict[str, Exception] = {}
        refs = {ref for mounted in self.mounted.values() for ref in mounted.refs}
        for volume, result in zip(todo, results):
            if isinstance(result, Mounted):
                self.mounted[volume["name"]] = result
                refs |= result.refs
            elif isinstance(result, VolumeError | ApiError | Unavailable | OSError | ValueError):
                failures[volume["name"]] = result
                refs |= set(getattr(result, "refs", ()))
            elif isinstance(result, BaseException):
                raise result
        self._watch(refs)
        if failures:
            raise SetupFailed(failures)

    async def restore(self) -> None:
        """Sets up again what somebody deleted since: a container that starts now needs it. Raises VolumeError."""
        lost = [name for name, mounted in self.mounted.items() if not mounted.path.exists()]
        for name in lost:
            del self.mounted[name]
        if lost:
            try:
                await self.setup()
            except SetupFailed as e:
                raise VolumeError(str(e)) from None

    async def _one(self, volume: Obj) -> Mounted:
        kind = kind_of(volume)
        source = volume.get(kind) or {}
        context = self._context(volume, kind)
        if kind in _PAYLOADS:
            if kind in _ON_TMPFS:
                context.folder.mkdir(parents=True, exist_ok=True)
                if not mounts.is_mount_point(context.folder):
                    mounts.mount("tmpfs", context.folder, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=0755")
            return await self._write(context, kind, source)
        if kind not in _SETUP:
            raise VolumeError(f"volume kind {kind} is not supported by this node")
        mounted = await _SETUP[kind](context, source)
        if context.fs_group is not None and (kind == "emptyDir" or mounted.own):
            policy = (self.pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy")
            if not mounted.readonly:
                group, lazily = context.fs_group, policy == "OnRootMismatch"
                await asyncio.get_running_loop().run_in_executor(
                    None, lambda: apply_group(mounted.path, group, only_on_mismatch=lazily)
                )
        return mounted

    async def _write(self, context: Context, kind: str, source: Obj) -> Mounted:
        payload = await _PAYLOADS[kind](context, source)
        atomic.write_payload(context.folder, payload.files, context.fs_group, payload.owners)
        return Mounted(context.folder, True, payload.refs, payload.refresh_at)

    # -- refreshing

    def _watch(self, refs: set[Ref]) -> None:
        self._host.objects.watch(self, refs, self._changed)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [m.refresh_at for m in self.mounted.values() if m.refresh_at is not None]
        if times:
            self._timer = asyncio.get_running_loop().call_later(max(1.0, min(times) - time.time()), self._changed)

    async def refresh(self, pod: Obj) -> list[tuple[str, str]]:
        """Writes again what may have changed: objects, the pod's own fields, tokens near their end. Answers what
        failed: (volume, why); the old content stays."""
        self.pod = pod
        failures: list[tuple[str, str]] = []
        refs: set[Ref] = set()
        now = time.time()
        for volume in pod["spec"].get("volumes") or ():
            kind, name = kind_of(volume), volume["name"]
            mounted = self.mounted.get(name)
            if kind not in _PAYLOADS or mounted is None:
                continue
            try:
                self.mounted[name] = await self._write(self._context(volume, kind), kind, volume.get(kind) or {})
            except (VolumeError, ApiError, Unavailable, OSError, ValueError) as e:
                failures.append((name, str(e)))
                mounted.refresh_at = now + 60 if mounted.refresh_at is not None else None
            refs |= self.mounted[name].refs
        self._watch(refs)
        return failures

    # -- what containers see

    def folders(self) -> dict[str, Path]:
        """Where the volumes that are set up lie on this machine, by name."""
        return {name: mounted.path for name, mounted in self.mounted.items() if not mounted.block}

    def container_devices(self, container: Obj) -> list[pb.Device]:
        """CRI devices of a container's volumeDevices. Raises ConfigError."""
        result = []
        for entry in container.get("volumeDevices") or ():
            name = entry["name"]
            mounted = self.mounted.get(name)
            if mounted is None:
                raise ConfigError(f'cannot find volume "{name}" to pass into container "{container["name"]}"')
            if not mounted.block:
                raise ConfigError(f"volume {name} has volumeMode Filesystem, but is specified in volumeDevices")
            rights = "r" if mounted.readonly else "mrw"
            device = pb.Device(container_path=entry["devicePath"], host_path=str(mounted.path), permissions=rights)
            result.append(device)
        return result

    def container_mounts(self, container: Obj, env: Mapping[str, str]) -> list[pb.Mount]:
        """CRI mounts of a container's volumeMounts. Raises ConfigError or VolumeError."""
        result = []
        for index, entry in enumerate(container.get("volumeMounts") or ()):
            name = entry["name"]
            mounted = self.mounted.get(name)
            if mounted is None:
                raise ConfigError(f'cannot find volume "{name}" to mount into container "{container["name"]}"')
            if mounted.block:
                raise ConfigError(f"volume {name} has volumeMode Block, but is specified in volumeMounts")
            if entry.get("recursiveReadOnly") == "Enabled":
                text = f'volume "{name}" requested recursive read-only mode, but it is not supported by the runtime'
                raise ConfigError(f"failed to resolve recursive read-only mode: {text}")
            path = mounted.path
            sub = entry.get("subPath") or ""
            if entry.get("subPathExpr"):
                sub = expand(entry["subPathExpr"], env)
            if sub:
                target = self.folder / "volume-subpaths" / name / container["name"] / str(index)
                bind_inside(path, sub, target, create=not mounted.readonly)
                path = target
            result.append(
                pb.Mount(
                    container_path=entry["mountPath"]
                    if entry["mountPath"].startswith("/")
                    else "/" + entry["mountPath"],
                    host_path=str(path),
                    readonly=bool(entry.get("readOnly")) or mounted.readonly,
                    propagation=_PROPAGATION.get(entry.get("mountPropagation") or "None", pb.PROPAGATION_PRIVATE),
                )
            )
        return result

    # -- the end

    def forget(self) -> None:
        """Ends watches and timers."""
        self._host.objects.watch(self, set(), self._changed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def teardown(self) -> bool:
        """Unmounts all; False when something stayed mounted (try again)."""
        self.forget()
        self.mounted.clear()
        done = await asyncio.get_running_loop().run_in_executor(None, mounts.unmount_below, self.folder)
        for volume in self.pod["spec"].get("volumes") or ():
            if "image" in volume and done:
                await image.release_view(self._host.config, self._context(volume, "image").folder)
        return done

    def remove(self) -> None:
        remove_pod_folder(self.folder)


def remove_pod_folder(folder: Path) -> bool:
    """Deletes a pod's folder, unless something is still mounted in it."""
    if not mounts.unmount_below(folder):
        return False
    with contextlib.suppress(FileNotFoundError):
        os.stat(folder)
        remove_tree(folder)
    return True
