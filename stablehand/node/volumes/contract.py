"""What a volume kind gets and gives. A kind is `async setup(context, source) -> Mounted`; kinds whose content comes
from the API are payload kinds: `async payload(context, source) -> Payload`, written by atomic, refreshed by manager.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stablehand.client import Client
from stablehand.machinery.types import Obj
from stablehand.node.config import NodeConfig
from stablehand.node.objects import Objects, Ref


class VolumeError(Exception):
    """A volume cannot be set up (yet). `refs` are objects whose change is worth another try."""

    def __init__(self, message: str, *refs: Ref) -> None:
        super().__init__(message)
        self.refs = refs


class ClaimError(VolumeError):
    """The claim behind a volume is missing or not bound: kubelet words this as the pod's trouble, not the volume's."""


@dataclass(slots=True)
class Host:
    """What the node offers to volumes."""

    client: Client
    config: NodeConfig
    objects: Objects
    event: Callable[[Obj, str, str, str], None]  # (object, Normal | Warning, reason, message)
    facts: Callable[[Obj], dict[str, str]]  # hostIP, podIP, nodeName of a pod, for the downward API
    allocatable: Callable[[], dict[str, str]]


@dataclass(slots=True)
class Context:
    """One volume of one pod. `folder` is its own place below the pod's folder."""

    host: Host
    pod: Obj
    name: str
    folder: Path
    readonly: bool = False
    mount_options: tuple[str, ...] = ()
    tokens: dict[str, Payload] = field(default_factory=dict)  # by path: still good ones

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def fs_group(self) -> int | None:
        group = (self.pod["spec"].get("securityContext") or {}).get("fsGroup")
        return None if group is None else int(group)


@dataclass(slots=True)
class Mounted:
    """`path` is what containers get to see; with `block` it is a device."""

    path: Path
    readonly: bool = False
    refs: set[Ref] = field(default_factory=set)
    refresh_at: float | None = None
    block: bool = False
    own: bool = False  # a folder of this machine that is the volume's alone: fsGroup applies


@dataclass(slots=True)
class Payload:
    """Files by path, each (content, mode); the objects they came from; when to make them again at the latest."""

    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    refs: set[Ref] = field(default_factory=set)
    refresh_at: float | None = None
    owners: dict[str, int] = field(default_factory=dict)  # user ids by path; root where none is given

    def take(self, other: Payload) -> None:
        self.files.update(other.files)
        self.refs |= other.refs
        self.owners.update(other.owners)
        if other.refresh_at is not None:
            self.refresh_at = min(other.refresh_at, self.refresh_at or other.refresh_at)
