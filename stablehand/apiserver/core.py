"""What the verbs share: the stored objects, the resources served, admission, the clock.

Built once by apiserver.app and passed to every verb; holds no logic of any one verb.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from stablehand.apiserver.contract import Request, RequestInfo, User
from stablehand.apiserver.registry import Registry
from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

if TYPE_CHECKING:
    from stablehand.apiserver.aggregation import Aggregation
    from stablehand.apiserver.allocation import ServiceAllocator
    from stablehand.apiserver.outbound import Outbound
    from stablehand.apiserver.tokens import TokenIssuer


@dataclass(slots=True)
class Attributes:
    """What admission sees of a write. `obj` may be changed by mutating plugins; `old` may not."""

    request: Request
    resource: Resource
    operation: str  # CREATE UPDATE DELETE CONNECT
    namespace: str
    name: str
    obj: Obj | None
    old: Obj | None = None
    subresource: str = ""
    dry_run: bool = False
    options: Obj = field(default_factory=dict)
    # Set by what lies outside the server (webhooks, policies) when it changed `obj`: all that mutates looks once more.
    changed: bool = False
    # The object as each webhook left it, by webhook; on the second round `mutations_seen` is what the first one left.
    calls: dict[str, bytes] = field(default_factory=dict)
    mutations_seen: dict[str, bytes] | None = None
    # What a conversion webhook made of objects of this write: (id of the object, apiVersion) -> (the object, its form).
    forms: dict[tuple[int, str], tuple[Obj, Obj]] = field(default_factory=dict)

    @property
    def told_name(self) -> str:
        """The name that a refusal gives the object: while none is generated yet, what it will begin with."""
        meta = (self.obj or {}).get("metadata") or {}
        return self.name or meta.get("name") or meta.get("generateName") or "Unknown"


class Admission(Protocol):
    async def mutate(self, attributes: Attributes) -> None:
        """Fills in and changes `attributes.obj`. Raises StatusError to refuse."""

    async def validate(self, attributes: Attributes) -> None:
        """Refuses by raising StatusError."""


class Authorize(Protocol):
    async def __call__(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        """Whether a user may, and why not."""

    def decide(self, user: User, info: RequestInfo) -> bool:
        """The same, at once."""

    def explain(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        """The same, with the reason either way."""


@dataclass(slots=True)
class ServerConfig:
    """Settings of the API server. Addresses are what clients are told, not what is listened on."""

    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    node_ports: tuple[int, int] = (30000, 32767)
    issuer: str = "https://kubernetes.default.svc.cluster.local"
    advertise_address: str = ""
    advertise_port: int = 6443
    ca_pem: str = ""
    kubelet_cert: str = ""  # files of the client certificate shown to kubelets
    kubelet_key: str = ""
    proxy_cert: str = ""  # files of the front proxy's certificate, shown to aggregated API servers
    proxy_key: str = ""
    proxy_ca_pem: str = ""  # the CA that certified it


class Core:
    def __init__(self, storage: Storage, registry: Registry, config: ServerConfig) -> None:
        self.storage = storage
        self.registry = registry
        self.config = config
        self.admission: Admission
        self.authorize: Authorize
        self.tokens: TokenIssuer
        self.outbound: Outbound
        self.aggregation: Aggregation
        self.allocator: ServiceAllocator
        self.clock: Callable[[], float] = time.time
        # What PodSecurity decided, by the labels of metrics.pod_security, where a namespace asks for anything.
        self.pod_security: Counter[tuple[str, ...]] = Counter()
        # Set when the server is to stop: watches and follows end then.
        self.stopping: list[Callable[[], None]] = []
