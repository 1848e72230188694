"""Seeing to it that a container's image is on the machine: pull policy, one pull at a time per image, back-off, events.

`PullError` carries the waiting reason that the container's status shows.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import orjson

from stablehand.machinery.types import Obj
from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.images import normalize
from stablehand.node.pullrecords import PullRecords, mark

log = logging.getLogger("stablehand.node.pull")

_START, _TOP = 10.0, 300.0
_NAME = re.compile(
    r"(?:(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?\Z"
)
Event = Callable[[str, str, str], None]  # type, reason, message: about the container


class PullError(Exception):
    """`reason` is ErrImagePull, ImagePullBackOff, ErrImageNeverPull, InvalidImageName or ImageInspectError."""

    def __init__(self, reason: str, message: str, retry_at: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_at = retry_at


@dataclass(slots=True)
class _Failure:
    delay: float
    until: float
    message: str
    shown: bool = False


def pull_policy(container: Obj) -> str:
    """Always, IfNotPresent or Never; by default Always for :latest."""
    if policy := container.get("imagePullPolicy"):
        return str(policy)
    image = normalize(container.get("image", ""))
    return "Always" if image.endswith(":latest") and "@" not in image else "IfNotPresent"


def credentials(secrets: Iterable[Obj], image: str) -> list[dict[str, str]]:
    """What imagePullSecrets know of the image's registry, most specific first."""
    registry = normalize(image).split("/")[0]
    path = normalize(image).split("@")[0]
    found: list[tuple[int, dict[str, str]]] = []
    for secret in secrets:
        data = secret.get("data") or {}
        try:
            if secret.get("type") == "kubernetes.io/dockercfg":
                auths = orjson.loads(base64.b64decode(data.get(".dockercfg", "e30=")))
            else:
                auths = orjson.loads(base64.b64decode(data.get(".dockerconfigjson", "e30="))).get("auths") or {}
        except ValueError:
            continue
        for key, auth in auths.items():
            place = re.sub(r"^https?://", "", key).rstrip("/")
            place = re.sub(r"/v[12]$", "", place)
            place = {"index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}.get(place, place)
            if place != registry and not path.startswith(place + "/"):
                continue
            user, password = auth.get("username", ""), auth.get("password", "")
            if auth.get("auth"):
                user, _, password = base64.b64decode(auth["auth"]).decode(errors="replace").partition(":")
            found.append((len(place), {"username": user, "password": password, "server_address": key}))
    return [auth for _, auth in sorted(found, key=lambda item: -item[0])]


class Puller:
    """Images for all pods of the node.

    `archives`, when given, is set once the archives beside the node are imported: nothing is pulled before.
    """

    def __init__(
        self, runtime: Callable[[], Runtime], archives: asyncio.Event | None = None, records: PullRecords | None = None
    ) -> None:
        self._runtime = runtime
        self._records = records or PullRecords(None)
        self._archives = archives
        self._pulls: dict[tuple[str, ...], asyncio.Task[tuple[str, float, float]]] = {}
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._limit = asyncio.Semaphore(3)

    async def ensure(
        self, pod: Obj, container: Obj, secrets: Callable[[], Awaitable[list[Obj]]] | None, event: Event
    ) -> pb.Image:
        """The image, pulled if its policy says so. Raises PullError."""
        name = container.get("image") or ""
        if not _NAME.match(name):
            message = f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": '
            message += "invalid reference format"
            event("Warning", "InspectFailed", message)
            event("Warning", "Failed", "Error: InvalidImageName")
            raise PullError("InvalidImageName", message, time.time() + _TOP)
        policy = pull_policy(container)
        image = await self._look(name)
        if image is None and self._archives is not None and not self._archives.is_set():
            await self._archives.wait()
            image = await self._look(name)
        if policy == "Never" and image is None:
            message = f'Container image "{name}" is not present with pull policy of Never'
            event("Warning", "ErrImageNeverPull", message)
            event("Warning", "Failed", "Error: ErrImageNeverPull")
            raise PullError("ErrImageNeverPull", message, time.time() + 10)
        allowed = image is None or await self._may_use(image.id, name, secrets)
        if policy == "Never" and not allowed:
            message = f'Container image "{name}" is present with pull policy of Never but does not have the proper '
            message += "auth (image secret) that was used to pull the image"
            event("Warning", "ErrImageNeverPull", message)
            event("Warning", "Failed", "Error: ErrImageNeverPull")
            raise PullError("ErrImageNeverPull", message, time.time() + 10)
        # An image without a registry's digest was imported from an archive: there is nothing to pull it from again.
        if image is not None and allowed and (policy != "Always" or not image.repo_digests):
            event(
                "Normal",
                "Pulled",
                f'Container image "{name}" already present on machine and can be accessed by the pod',
            )
            return image
        key = (pod["metadata"]["uid"], name)
        failure = self._failures.get(key)
        now = time.time()
        if failure is not None and now < failure.until:
            message = f'Back-off pulling image "{name}"'
            event("Normal", "BackOff", message)
            event("Warning", "Failed", "Error: ImagePullBackOff")
            raise PullError("ImagePullBackOff", f"{message}: ErrImagePull: {failure.message}", failure.until)
        return await self._pull(name, key, secrets, event)

    async def _may_use(self, image: str, name: str, secrets: Callable[[], Awaitable[list[Obj]]] | None) -> bool:
        if self._records.open_to_all(image):
            return True
        return self._records.may_use(image, credentials(await secrets(), name) if secrets is not None else [])

    async def _look(self, name: str) -> pb.Image | None:
        try:
            return await self._runtime().image(name)
        except CriError as e:
            raise PullError("ImageInspectError", f'Failed to inspect image "{name}": {e}', time.time() + 2) from None

    async def _pull(
        self,
        name: str,
        key: tuple[str, str],
        secrets: Callable[[], Awaitable[list[Obj]]] | None,
        event: Event,
    ) -> pb.Image:
        event("Normal", "Pulling", f'Pulling image "{name}"')
        auths = credentials(await secrets(), name) if secrets is not None else []
        started = time.monotonic()
        flight = (name, *(mark(auth) for auth in auths))
        task = self._pulls.get(flight)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(name, auths), name=f"pull/{name}")
            self._pulls[flight] = task
            task.add_done_callback(lambda _: self._pulls.pop(flight, None))
        try:
            reference, pulling, size = await asyncio.shield(task)
        except CriError as e:
            self._fail(key, name, e, event)
            failure = self._failures[key]
            raise PullError("ErrImagePull", failure.message, failure.until) from None
        self._failures.pop(key, None)
        waiting = time.monotonic() - started
        event(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{name}" in {_go_seconds(pulling)} ({_go_seconds(waiting)} including waiting). '
            f"Image size: {size:.0f} bytes.",
        )
        image = await self._look(reference) or await self._look(name)
        if image is None:
            raise PullError("ErrImagePull", f'image "{name}" was pulled but is not there', time.time() + 5)
        return image

    def _fail(self, key: tuple[str, str], name: str, error: CriError, event: Event) -> None:
        now = time.time()
        old = self._failures.get(key)
        delay = min(_TOP, old.delay * 2) if old is not None and now - old.until < 2 * _TOP else _START
        self._failures[key] = _Failure(delay, now + delay, error.rpc_text)
        log.info("pulling %s failed: %s", name, error.message)
        event("Warning", "Failed", f'Failed to pull image "{name}": {error.rpc_text}')
        event("Warning", "Failed", "Error: ErrImagePull")

    async def _fetch(self, name: str, auths: list[dict[str, str]]) -> tuple[str, float, float]:
        async with self._limit:
            started = time.monotonic()
            last: CriError | None = None
            attempts: list[dict[str, str] | None] = [*auths] or [None]
            for auth in attempts:
                try:
                    reference = await self._runtime().pull(name, auth)
                    used = auth
                    break
                except CriError as e:
                    last = last or e
            else:
                assert last is not None
                raise last
            image = await self._runtime().image(reference)
            if image is not None:
                self._records.pulled(image.id, used)
            return reference, time.monotonic() - started, float(image.size if image is not None else 0)

    def forget(self, uid: str) -> None:
        for key in [k for k in self._failures if k[0] == uid]:
            del self._failures[key]


def _go_seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.3f}s".rstrip("0")
