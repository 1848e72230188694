"""What /metrics and /metrics/slis tell, under the names that kube-apiserver's dashboards and alerts read.

Counting is a look-up and two additions a request; the text is made when it is asked for.
"""

from __future__ import annotations

import os
import resource as process
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from stablehand.apiserver.contract import Request
from stablehand.apiserver.discovery import version

if TYPE_CHECKING:
    from stablehand.apiserver.core import Core
    from stablehand.apiserver.flowcontrol.levels import Levels

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
)  # fmt: skip
_VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}  # fmt: skip
_STREAMED = {"attach": "CONNECT", "exec": "CONNECT", "portforward": "CONNECT", "proxy": "CONNECT"}
_READING = ("GET", "LIST", "WATCH", "HEAD")

Labels = Mapping[str, str]
_Series = tuple[str, str, str, str, str, str, str]  # verb group version resource subresource scope dry_run


class Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.sum += seconds


def line(name: str, labels: Labels, value: float) -> str:
    text = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items())
    number = str(int(value)) if value == int(value) else repr(value)
    return f"{name}{{{text}}} {number}" if text else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def family(name: str, kind: str, text: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    yield from lines


class Metrics:
    """Counts what the server answers. `started` is the process's start for those who scrape it."""

    def __init__(self) -> None:
        self._durations: dict[_Series, Histogram] = {}
        self._codes: dict[tuple[_Series, int], int] = {}
        self.in_flight = {"mutating": 0, "readOnly": 0}
        self.long_running: dict[_Series, int] = {}
        self._checks: dict[tuple[str, str, bool], int] = {}  # (name, type, good) -> times asked
        self._check_state: dict[tuple[str, str], bool] = {}
        self.deprecated: set[tuple[str, str, str, str]] = set()  # group version resource subresource
        self.started = time.time()

    def answered(self, request: Request, code: int, seconds: float) -> None:
        """One request has its answer; a watch or stream has begun."""
        series = series_of(request)
        key = (series, code)
        self._codes[key] = self._codes.get(key, 0) + 1
        if series[0] in ("WATCH", "CONNECT"):
            return
        histogram = self._durations.get(series)
        if histogram is None:
            histogram = self._durations[series] = Histogram()
        histogram.observe(seconds)
        res = request.info.resource
        if res is not None and res.legacy:
            self.deprecated.add((res.group, res.version, res.plural, request.info.subresource))

    def streaming(self, request: Request, change: int) -> None:
        """A watch or stream begins (1) or has ended (-1)."""
        series = series_of(request)
        self.long_running[series] = self.long_running.get(series, 0) + change

    def checked(self, kind: str, name: str, good: bool) -> None:
        """A health check was asked for."""
        key = (name, kind, good)
        self._checks[key] = self._checks.get(key, 0) + 1
        self._check_state[(name, kind)] = good

    # -- text

    def text(self, core: Core, levels: Levels) -> bytes:
        return (
            "\n".join([*self._requests(), *_objects(core), *pod_security(core), *_flow(levels), *self._process()])
            + "\n"
        ).encode()

    def slis(self) -> bytes:
        state = (
            line("kubernetes_healthcheck", {"name": n, "type": k}, good) for (n, k), good in self._check_state.items()
        )
        totals = (
            line(
                "kubernetes_healthchecks_total",
                {"name": n, "status": "success" if good else "error", "type": k},
                count,
            )
            for (n, k, good), count in self._checks.items()
        )
        text = "This metric records the result of "
        lines = [
            *family("kubernetes_healthcheck", "gauge", text + "a single healthcheck.", state),
            *family("kubernetes_healthchecks_total", "counter", text + "all healthcheck.", totals),
        ]
        return ("\n".join(lines) + "\n").encode()

    def _requests(self) -> Iterator[str]:
        yield from family(
            "apiserver_request_total",
            "counter",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, "
            "component, and HTTP response code.",
            (
                line("apiserver_request_total", {"code": str(code), **_labels(series)}, count)
                for (series, code), count in self._codes.items()
            ),
        )
        for name, text in (
            ("apiserver_request_duration_seconds", "Response latency distribution in seconds for each request."),
            ("apiserver_request_sli_duration_seconds", "Response latency distribution without time spent waiting."),
        ):
            yield from family(name, "histogram", text, self._histograms(name))
        yield from family(
            "apiserver_current_inflight_requests",
            "gauge",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
            (
                line("apiserver_current_inflight_requests", {"request_kind": kind}, count)
                for kind, count in self.in_flight.items()
            ),
        )
        yield from family(
            "apiserver_longrunning_requests",
            "gauge",
            "Gauge of all active long-running apiserver requests.",
            (
                line("apiserver_longrunning_requests", _labels(series, dry_run=False), count)
                for series, count in self.long_running.items()
            ),
        )
        yield from family(
            "apiserver_requested_deprecated_apis",
            "gauge",
            "Gauge of deprecated APIs that have been requested.",
            (
                line(
                    "apiserver_requested_deprecated_apis",
                    {"group": g, "removed_release": "1.16", "resource": r, "subresource": s, "version": v},
                    1,
                )
                for g, v, r, s in sorted(self.deprecated)
            ),
        )

    def _histograms(self, name: str) -> Iterator[str]:
        for series, histogram in self._durations.items():
            labels = _labels(series)
            total = 0
            for bound, count in zip((*_BUCKETS, None), histogram.counts, strict=True):
                total += count
                yield line(f"{name}_bucket", {**labels, "le": "+Inf" if bound is None else f"{bound:g}"}, total)
            yield line(f"{name}_sum", labels, histogram.sum)
            yield line(f"{name}_count", labels, total)

    def _process(self) -> Iterator[str]:
        usage = process.getrusage(process.RUSAGE_SELF)
        with open("/proc/self/statm") as file:
            virtual, resident = (int(n) * os.sysconf("SC_PAGE_SIZE") for n in file.read().split()[:2])
        for name, kind, text, value in (
            ("cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
             usage.ru_utime + usage.ru_stime),
            ("resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident),
            ("virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", virtual),
            ("open_fds", "gauge", "Number of open file descriptors.", len(os.listdir("/proc/self/fd"))),
            ("start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", self.started),
        ):  # fmt: skip
            yield from family(f"process_{name}", kind, text, [line(f"process_{name}", {}, value)])
        fields = {
            "build_date": "buildDate", "compiler": "compiler", "git_commit": "gitCommit",
            "git_tree_state": "gitTreeState", "git_version": "gitVersion", "go_version": "goVersion",
            "major": "major", "minor": "minor", "platform": "platform",
        }  # fmt: skip
        found = version()
        labels = {name: str(found[field]) for name, field in fields.items()}
        text = "A metric with a constant '1' value labeled by the build's version."
        yield from family("kubernetes_build_info", "gauge", text, [line("kubernetes_build_info", labels, 1)])


def is_reading(request: Request) -> bool:
    return request.method in ("GET", "HEAD")


def series_of(request: Request) -> _Series:
    """The labels of a request, as upstream cleans them."""
    info = request.info
    if not info.is_resource:
        # Paths that anybody may think of are no label; the well-known ones are.
        return request.method, "", "", "", info.path if info.path in _KNOWN_PATHS else "", "", ""
    verb = _STREAMED.get(info.subresource) or _VERBS.get(info.verb, info.verb.upper())
    if verb == "PATCH" and request.content_type.startswith("application/apply-patch"):
        verb = "APPLY"
    scope = "resource" if info.name else ("namespace" if info.namespace else "cluster")
    known = info.resource is not None
    plural, subresource = (info.plural, info.subresource) if known else ("", "")
    group, ver = (info.group, info.version) if known else ("", "")
    return verb, group, ver, plural, subresource, scope, "All" if request.query.get("dryRun") else ""


_KNOWN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/version", "/api", "/apis", "/openapi/v2"})


def _labels(series: _Series, *, dry_run: bool = True) -> dict[str, str]:
    verb, group, ver, plural, subresource, scope, dry = series
    out = {
        "component": "apiserver", "dry_run": dry, "group": group, "resource": plural, "scope": scope,
        "subresource": subresource, "verb": verb, "version": ver,
    }  # fmt: skip
    if not dry_run:
        del out["dry_run"]
    return out


def _objects(core: Core) -> Iterator[str]:
    counts = [
        (res, len(core.storage.collection(res).entries))
        for res in core.registry.rows()
        if not res.storage[1] and not res.legacy and "list" in res.verbs and res.key != "componentstatuses"
    ]
    yield from family(
        "apiserver_storage_objects",
        "gauge",
        "Number of stored objects at the time of last check split by kind.",
        (line("apiserver_storage_objects", {"resource": res.key}, count) for res, count in counts),
    )
    yield from family(
        "apiserver_resource_objects",
        "gauge",
        "Number of stored objects at the time of last check split by kind.",
        (
            line("apiserver_resource_objects", {"group": res.group, "resource": res.plural}, count)
            for res, count in counts
        ),
    )


def pod_security(core: Core) -> Iterator[str]:
    keys = ("decision", "policy_level", "policy_version", "mode", "request_operation", "resource", "subresource")
    yield from family(
        "pod_security_evaluations_total",
        "counter",
        "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
        (
            line("pod_security_evaluations_total", dict(zip(keys, values, strict=True)), count)
            for values, count in core.pod_security.items()
        ),
    )


def _flow(levels: Levels) -> Iterator[str]:
    rows = [level for level in levels.by_name.values() if not level.exempt]
    prefix = "apiserver_flowcontrol_"
    for name, text, values in (
        ("nominal_limit_seats", "Nominal number of execution seats configured for each priority level",
         {level.name: level.nominal for level in rows}),
        ("current_executing_seats", "Concurrency (number of seats) occupied by the currently executing requests",
         {level.name: level.running for level in rows}),
        ("current_executing_requests", "Number of requests in initial execution stage",
         {level.name: level.running for level in rows}),
        ("current_inqueue_requests", "Number of requests currently pending in queues",
         {level.name: level.waiting for level in rows}),
    ):  # fmt: skip
        lines = (line(prefix + name, {"priority_level": level}, value) for level, value in values.items())
        yield from family(prefix + name, "gauge", text, lines)
    yield from family(
        prefix + "dispatched_requests_total",
        "counter",
        "Number of requests executed by API Priority and Fairness",
        (
            line(prefix + "dispatched_requests_total", {"flow_schema": schema, "priority_level": level}, count)
            for (level, schema), count in levels.dispatched.items()
        ),
    )
    yield from family(
        prefix + "rejected_requests_total",
        "counter",
        "Number of requests rejected by API Priority and Fairness",
        (
            line(
                prefix + "rejected_requests_total",
                {"flow_schema": schema, "priority_level": level, "reason": reason},
                count,
            )
            for (level, schema, reason), count in levels.rejected.items()
        ),
    )
