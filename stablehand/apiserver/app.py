"""The request chain: info -> authn -> authz -> admission (in the verbs) -> verb -> strategy -> storage.

`ApiServer.handle` is the whole server as one function; the HTTP front and the in-process transport call it.
"""

from __future__ import annotations

import logging
from time import perf_counter

from stablehand.apiserver import authn, discovery, errors, openapi, openapi2, reviews, subresources, zpages
from stablehand.apiserver.admission.chain import default_chain
from stablehand.apiserver.aggregation import Aggregation
from stablehand.apiserver.aggregation import proxy as aggregated
from stablehand.apiserver.allocation import ServiceAllocator
from stablehand.apiserver.authz.node import NodeAuthorizer
from stablehand.apiserver.authz.rbac import Rbac
from stablehand.apiserver.contract import Answer, Request, RequestInfo, Response, StatusError, User
from stablehand.apiserver.core import Core, ServerConfig
from stablehand.apiserver.custom import CustomResources
from stablehand.apiserver.expiry import EventExpiry, HistoryExpiry
from stablehand.apiserver.flowcontrol.control import FlowControl
from stablehand.apiserver.flowcontrol.keeper import Keeper
from stablehand.apiserver.health import Health
from stablehand.apiserver.info import check_timeout, request_info
from stablehand.apiserver.metrics import CONTENT_TYPE as METRICS_TYPE
from stablehand.apiserver.metrics import Metrics, is_reading
from stablehand.apiserver.metricsapi import MetricsApi
from stablehand.apiserver.outbound import Outbound
from stablehand.apiserver.registry import Registry
from stablehand.apiserver.storage.storage import Storage
from stablehand.apiserver.tokens import TokenIssuer
from stablehand.apiserver.verbs import create, delete, get, patch, update, watch
from stablehand.apiserver.verbs import list as list_verb
from stablehand.machinery.types import Obj
from stablehand.store.contract import Backend, WriteFailed

log = logging.getLogger("stablehand.apiserver")

_STATUS_LIKE = ("status", "finalize", "approval", "ephemeralcontainers", "resize")
_STREAMS = ("exec", "attach", "portforward", "log", "proxy")
_REVIEWS = ("authentication.k8s.io", "authorization.k8s.io")


class Authorizer:
    """Node authorizer, then RBAC. `rbac` is also what reviews and escalation checks ask."""

    def __init__(self, storage: Storage) -> None:
        self.rbac = Rbac(storage)
        self._node = NodeAuthorizer(storage)

    async def __call__(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        if "system:masters" in user.groups or self.rbac.authorize(user, info):
            return True, ""
        allowed, why = self._node.decide(user, info)
        if allowed:
            return True, ""
        return False, "\n".join(text for text in (why, self.rbac.refusal(user, info)) if text)

    def explain(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        """What a review tells: who allows it, or what stands against it."""
        if "system:masters" in user.groups:
            return True, ""
        allowed, why = self._node.decide(user, info)
        if allowed:
            return True, ""
        allowed, reason = self.rbac.explain(user, info)
        return allowed, reason if allowed else "\n".join(text for text in (why, reason) if text)

    def decide(self, user: User, info: RequestInfo) -> bool:
        """The same for those who cannot wait: an expression that asks its `authorizer`."""
        return "system:masters" in user.groups or self._node.decide(user, info)[0] or self.rbac.authorize(user, info)


class ApiServer:
    """`backend` is the store, `key_pem` the service account signing key. Call `start` before `handle`."""

    def __init__(self, backend: Backend, config: ServerConfig, key_pem: bytes) -> None:
        storage = Storage(backend)
        self.core = Core(storage, Registry(), config)
        self.core.outbound = Outbound(self.core)
        self._key_pem = key_pem
        self.ready = False
        self._aggregation: Aggregation | None = None
        self._openapi2 = openapi2.Kept()
        self._ending = False
        self.metrics = Metrics()
        self.flow = FlowControl(storage)
        self._health = Health(self.metrics, lambda: self.ready, lambda: self._ending)

    async def start(self) -> None:
        """Opens the store and makes what every cluster has. Raises the store's errors."""
        from stablehand.apiserver import bootstrap

        core = self.core
        await core.storage.open()
        core.tokens = TokenIssuer(self._key_pem, core.config.issuer, core.storage)
        core.authorize = Authorizer(core.storage)
        core.admission = default_chain(core)
        core.allocator = ServiceAllocator(core)
        self.custom = CustomResources(core)
        self.custom.start()
        await bootstrap.run(core)
        core.aggregation = self._aggregation = Aggregation(core)
        self._metrics_api = MetricsApi(core)
        self._metrics_api.start()
        await core.aggregation.start()
        Keeper(core).start()
        EventExpiry(core).start()
        HistoryExpiry(core).start()
        self.ready = True

    async def stop(self) -> None:
        self.ready, self._ending = False, True
        for callback in self.core.stopping:
            callback()
        if self._aggregation is not None:
            await self._aggregation.stop()
        await self.core.outbound.close()
        await self.core.storage.close()

    async def handle(self, request: Request, certificate_user: User | None = None) -> Answer:
        """Answers one request. Never raises StatusError: failures are answers too."""
        begun = perf_counter()
        kind = "readOnly" if is_reading(request) else "mutating"
        self.metrics.in_flight[kind] += 1
        try:
            answer = await self._handle(request, certificate_user)
        except StatusError as e:
            wait = (e.details or {}).get("retryAfterSeconds")
            answer = Response(e.status(), code=e.code, headers={"Retry-After": str(wait)} if wait else None)
        except WriteFailed as e:
            answer = Response(errors.internal(str(e)).status(), code=500)
        finally:
            self.metrics.in_flight[kind] -= 1
        code = answer.code if isinstance(answer, Response) else 200
        self.metrics.answered(request, code, perf_counter() - begun)
        return answer

    async def _handle(self, request: Request, certificate_user: User | None) -> Answer:
        core = self.core
        info = request.info = request_info(request, core.registry)
        if "timeout" in request.query:
            check_timeout(request.query["timeout"])
        if not request.in_process:
            request.user = authn.authenticate(core, request, certificate_user)
            if authn.impersonates(request.headers):
                request.user = await authn.impersonate(core, request, request.user)
            if (place := self.flow.place(request.user, info)) is not None:
                request.answer_headers.update(place.headers)
                await self.flow.enter(place)
                try:
                    return await self._permitted(request)
                finally:
                    self.flow.leave(place)
        return await self._permitted(request)

    async def _permitted(self, request: Request) -> Answer:
        core, info = self.core, request.info
        allowed, why = await core.authorize(request.user, info)
        if not allowed:
            raise errors.denied(info, request.user.name, why)
        if request.path.startswith("/apis/") and (service := self._elsewhere(request.path)) is not None:
            return await aggregated.handle(core, request, service)
        if not info.is_resource:
            return await self._non_resource(request)
        res = info.resource
        if res is None:
            raise errors.no_such_path()
        if res.legacy and request.method != "GET":
            request.warnings.append(
                f"{res.api_version} {res.kind} is deprecated and no longer served by Kubernetes; "
                f"use {res.storage[0]}/{res.storage[1]} {res.kind}"
            )
        if res.custom and (deprecation := getattr(core.registry.strategy(res), "deprecation", "")):
            request.warnings.append(deprecation)
        if res.group == "metrics.k8s.io" and res.kind in ("NodeMetrics", "PodMetrics"):
            return await self._metrics_api.handle(request)
        if info.subresource:
            return await self._subresource(request)
        if res.verbs == ("create",) or res.key == "componentstatuses":
            return await self._virtual(request)
        return await self._verb(request)

    def _elsewhere(self, path: str) -> Obj | None:
        """The APIService that serves what is below a path's group and version, when that is not us."""
        remote = self.core.aggregation.services.all_remote()
        if not remote:
            return None
        parts = path.split("/", 4)
        return remote.get((parts[2], parts[3])) if len(parts) > 3 else None

    async def _verb(self, request: Request) -> Answer:
        core, info = self.core, request.info
        res = info.resource
        assert res is not None
        verb = info.verb
        if verb not in res.verbs:
            raise errors.method_not_allowed(verb)
        if res.namespaced and not info.namespace and verb in ("create", "get", "update", "patch", "delete"):
            raise errors.no_such_path()
        if verb == "get":
            return await get.handle(core, request)
        if verb == "list":
            return await list_verb.handle(core, request)
        if verb == "watch":
            return await watch.handle(core, request)
        if verb == "create":
            return await create.handle(core, request)
        if verb == "update":
            return await update.handle(core, request)
        if verb == "patch":
            return await patch.handle(core, request)
        if verb == "delete":
            return await delete.handle(core, request)
        return await delete.handle_collection(core, request)

    async def _subresource(self, request: Request) -> Answer:
        core, info = self.core, request.info
        res = info.resource
        assert res is not None
        name = info.subresource
        if name not in res.subresources:
            raise errors.no_such_path()
        if name in _STATUS_LIKE:
            if request.method == "GET":
                return await get.handle(core, request)
            if request.method == "PUT":
                return await update.handle(core, request)
            if request.method == "PATCH" and name != "finalize":
                return await patch.handle(core, request)
            raise errors.method_not_allowed(info.verb)
        if name == "scale" and request.method in ("GET", "PUT", "PATCH"):
            return await subresources.scale(core, request)
        if request.method == "POST":
            if name == "binding":
                return await subresources.binding(core, request)
            if name == "eviction":
                return await subresources.eviction(core, request)
            if name == "token":
                return await subresources.token(core, request)
        if name in _STREAMS:
            from stablehand.apiserver import streams

            return await streams.handle(core, request)
        raise errors.method_not_allowed(info.verb)

    async def _virtual(self, request: Request) -> Answer:
        res = request.info.resource
        assert res is not None
        if res.key == "componentstatuses":
            return await subresources.component_statuses(self.core, request)
        if request.info.verb != "create":
            raise errors.method_not_allowed(request.info.verb)
        if res.key == "bindings":
            return await subresources.binding(self.core, request)
        return await reviews.handle(self.core, request)

    async def _non_resource(self, request: Request) -> Answer:
        path = request.path.rstrip("/") or "/"
        core = self.core
        if path in ("/healthz", "/livez", "/readyz") or path.startswith(("/healthz/", "/livez/", "/readyz/")):
            return self._health.handle(request)
        if path == "/version":
            return Response(discovery.version())
        if path == "/api" or path == "/apis" or path.startswith(("/api/", "/apis/")):
            return await discovery.handle(core, request)
        if path == "/openapi/v3" or path.startswith("/openapi/v3/"):
            return await openapi.handle(core, request)
        if path == "/openapi/v2":
            return await openapi2.handle(core, request, self._openapi2)
        if path == "/.well-known/openid-configuration":
            return Response(core.tokens.discovery())
        if path == "/openid/v1/jwks":
            return Response(core.tokens.jwks(), content_type="application/jwk-set+json")
        if path == "/":
            groups = []
            for g in core.registry.groups():
                groups += [f"/apis/{g}", *(f"/apis/{g}/{v}" for v in core.registry.versions(g))]
            return Response(
                {
                    "paths": [
                        "/.well-known/openid-configuration",
                        "/api",
                        "/api/v1",
                        "/apis",
                        "/apis/",
                        *groups,
                        *self._health.paths(),
                        "/metrics",
                        "/metrics/slis",
                        "/openapi/v2",
                        "/openapi/v3",
                        "/openapi/v3/",
                        "/flagz",
                        "/openid/v1/jwks",
                        "/statusz",
                        "/version",
                    ]
                }
            )
        if path == "/metrics":
            self.flow.refresh()
            return Response({}, raw=self.metrics.text(core, self.flow.levels), content_type=METRICS_TYPE)
        if path in ("/statusz", "/flagz"):
            return zpages.handle(request, core.config, self.metrics.started, core.clock())
        if path == "/metrics/slis":
            return Response({}, raw=self.metrics.slis(), content_type=METRICS_TYPE)
        raise errors.no_such_path()
