"""/healthz, /livez and /readyz: the checks by upstream's names, each what this server really knows of that part."""

from __future__ import annotations

from collections.abc import Callable

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request, Response
from stablehand.apiserver.metrics import Metrics

_HEADERS = {"X-Content-Type-Options": "nosniff"}
_TYPE = "text/plain; charset=utf-8"
# What the start does, by the name of the hook that does it upstream.
HOOKS = (
    "start-apiextensions-informers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "priority-and-fairness-config-consumer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "apiservice-registration-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-discovery-controller",
)


class Health:
    """`started` says whether the server's start is over, `stopping` whether it is about to end."""

    def __init__(self, metrics: Metrics, started: Callable[[], bool], stopping: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._started, self._stopping = started, stopping

    def paths(self) -> list[str]:
        """Every path that `handle` answers."""
        out = []
        for kind in ("healthz", "livez", "readyz"):
            out += [f"/{kind}", *sorted(f"/{kind}/{name}" for name in self.checks(kind))]
        return out

    def checks(self, kind: str) -> dict[str, bool]:
        started = self._started()
        found = {"ping": True, "log": True, "etcd": started}
        if kind == "readyz":
            found |= {"etcd-readiness": started, "informer-sync": started}
        found |= {f"poststarthook/{hook}": started for hook in HOOKS}
        found["autoregister-completion"] = started
        if kind == "readyz":
            found["shutdown"] = not self._stopping()
        return found

    def handle(self, request: Request) -> Response:
        """ "ok", or each check on a line when asked for or when one fails; /readyz/NAME is one check alone."""
        kind, _, only = request.path.strip("/").partition("/")
        checks = self.checks(kind)
        if only:
            if only not in checks:
                raise errors.no_such_path()
            good = checks[only]
            self._metrics.checked(kind, only, good)
            text = "ok" if good else "internal server error: not started\n"
            return _text(text, good)
        excluded = {name for value in request.multi_query("exclude") for name in value.split(",") if name}
        excluded |= {request.query["exclude"]} if request.query.get("exclude") and not excluded else set()
        lines, good = [], True
        for name, fine in checks.items():
            if name in excluded:
                excluded.discard(name)
                lines.append(f"[+]{name} excluded: ok")
                continue
            self._metrics.checked(kind, name, fine)
            good = good and fine
            lines.append(f"[+]{name} ok" if fine else f"[-]{name} failed: reason withheld")
        if excluded:
            names = ", ".join(f'"{name}"' for name in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        if not good:
            return _text("\n".join([*lines, f"{kind} check failed", ""]), False)
        return _text("\n".join([*lines, f"{kind} check passed", ""]) if "verbose" in request.query else "ok", True)


def _text(text: str, good: bool) -> Response:
    return Response({}, raw=text.encode(), code=200 if good else 500, content_type=_TYPE, headers=dict(_HEADERS))
