"""What upstream's clients read: revisions yet to come, metadata-only watches, new-style events, health, metrics."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stablehand.apiserver import protobuf
from stablehand.apiserver.contract import Request, Response, User, WatchResponse
from stablehand.apiserver.expiry import EventExpiry
from stablehand.apiserver.verbs import freshness
from stablehand.machinery.times import format_time

from .server import ADMIN, Server, serving

CONFIGS = "/api/v1/namespaces/default/configmaps"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
STREAM = {
    "watch": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true",
}  # fmt: skip


async def watch(s: Server, path: str, accept: str = "application/json", **query: str) -> WatchResponse:
    request = Request("GET", path, {**STREAM, **query}, {"Accept": accept}, user=ADMIN, in_process=True)
    answer = await s.api.handle(request)
    assert isinstance(answer, WatchResponse), answer
    return answer


async def test_a_read_waits_for_its_revision_and_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as s:
        await s.made(CONFIGS, {"metadata": {"name": "c"}})
        future = s.api.core.storage.revision + 1
        reading = asyncio.create_task(s.call("GET", f"{CONFIGS}/c", query={"resourceVersion": str(future)}))
        listing = asyncio.create_task(s.call("GET", CONFIGS, query={"resourceVersion": str(future)}))
        await asyncio.sleep(0)
        assert not reading.done() and not listing.done()
        await s.made(CONFIGS, {"metadata": {"name": "d"}})
        assert (await reading)[0] == 200
        assert len((await listing)[1]["items"]) == 2
        monkeypatch.setattr(freshness, "WAIT", 0.01)
        for path in (f"{CONFIGS}/c", CONFIGS):
            code, status = await s.call("GET", path, query={"resourceVersion": "9999"})
            assert (code, status["reason"]) == (504, "Timeout")
            assert status["message"] == f"Too large resource version: 9999, current: {s.api.core.storage.revision}"
            assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
            assert status["details"]["retryAfterSeconds"] == 1
        streaming = await watch(s, CONFIGS, resourceVersion="9999")
        assert await streaming.watcher.next() == []
        failure = streaming.watcher.failure
        assert failure is not None and failure.code == 504  # told within the stream


async def test_a_watch_from_a_revision_to_come_passes_over_what_is_before() -> None:
    async with serving() as s:
        since = s.api.core.storage.revision + 1
        request = Request("GET", CONFIGS, {"watch": "true", "resourceVersion": str(since)}, user=ADMIN, in_process=True)
        answer = await s.api.handle(request)
        assert isinstance(answer, WatchResponse)
        for name in ("a", "b"):
            await s.made(CONFIGS, {"metadata": {"name": name}})
        ((_, event),) = await answer.watcher.next()
        assert event.key[1] == "b"


async def test_bookmarks_of_a_metadata_watch_are_metadata() -> None:
    async with serving() as s:
        await s.made(CONFIGS, {"metadata": {"name": "c"}})
        answer = await watch(s, CONFIGS, PARTIAL)
        *_, (kind, event) = await answer.watcher.next()
        line = json.loads(event.line(kind))
        assert (line["type"], line["object"]["kind"]) == ("BOOKMARK", "PartialObjectMetadata")
        assert line["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        frame = protobuf.frame(event.line(kind))
        assert b"PartialObjectMetadata" in frame


def test_metadata_and_api_services_have_a_protobuf_form() -> None:
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "x"}}
    many = {**partial, "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "5"}, "items": [partial]}
    spec = {"group": "g", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "caBundle": "eA=="}
    service = {
        "kind": "APIService",
        "apiVersion": "apiregistration.k8s.io/v1",
        "metadata": {"name": "v1.g"},
        "spec": {**spec, "service": {"name": "s", "namespace": "n", "port": 443}},
    }
    raw = protobuf.encode(many)
    assert raw is not None
    assert protobuf.decode(raw)["items"] == [{"metadata": {"name": "x"}}]
    raw = protobuf.encode(service)
    assert raw is not None and protobuf.decode(raw) == service
    assert protobuf.encode({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}) is not None


# -- events

EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
EVENT: dict[str, Any] = {
    "metadata": {"name": "e"},
    "eventTime": "2026-01-01T00:00:00.000001Z",
    "reportingController": "default-scheduler",
    "reportingInstance": "default-scheduler-h",
    "action": "Binding",
    "reason": "Scheduled",
    "type": "Normal",
    "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
}


async def test_new_style_events_are_checked_and_old_ones_are_not() -> None:
    async with serving() as s:
        await s.made(EVENTS, EVENT)
        bare = {"metadata": {"name": "f"}, "regarding": EVENT["regarding"]}
        status = await s.refused("POST", EVENTS, bare)
        assert status["code"] == 422
        assert [c["field"] for c in status["details"]["causes"]] == ["eventTime", "type"]
        for change, field in (
            ({"reportingController": ""}, "reportingController"),
            ({"action": ""}, "action"),
            ({"reason": "x" * 129}, "reason"),
            ({"series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:00Z"}}, "series.count"),
            ({"deprecatedCount": 3}, "count"),
            ({"deprecatedSource": {"component": "c"}}, "source"),
        ):
            status = await s.refused("POST", EVENTS, {**EVENT, "metadata": {"name": "g"}, **change})
            assert field in [c["field"] for c in status["details"]["causes"]], (change, status["message"])
        old = {"metadata": {"name": "h"}, "involvedObject": EVENT["regarding"], "reason": "R"}
        await s.made("/api/v1/namespaces/default/events", old)
        patch = "application/strategic-merge-patch+json"
        series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:05:00.000001Z"}}
        code, found = await s.call("PATCH", f"{EVENTS}/e", series, content_type=patch)
        assert code == 200 and found["series"] == series["series"]
        status = await s.refused("PATCH", f"{EVENTS}/e", {"reason": "Other"}, content_type=patch)
        assert status["details"]["causes"][0] == {
            "reason": "FieldValueInvalid", "message": 'Invalid value: "Other": field is immutable', "field": "reason",
        }  # fmt: skip
        code, found = await s.call(
            "PATCH", "/api/v1/namespaces/default/events/e", {"message": "changed"}, content_type=patch
        )
        assert code == 200  # the old API changes what it likes
        query = {"fieldSelector": "reportingController=default-scheduler"}
        _, listed = await s.call("GET", EVENTS, query=query)
        assert [o["metadata"]["name"] for o in listed["items"]] == ["e"]


# -- health and metrics


async def text(s: Server, path: str, **query: str) -> str:
    answer = await s.api.handle(Request("GET", path, query, user=ADMIN, in_process=True))
    assert isinstance(answer, Response)
    return answer.raw.decode()


async def test_health_by_upstreams_names() -> None:
    async with serving() as s:
        assert await text(s, "/readyz") == await text(s, "/livez/etcd") == "ok"
        lines = (await text(s, "/readyz", verbose="")).splitlines()
        assert "[+]poststarthook/rbac/bootstrap-roles ok" in lines and "[+]informer-sync ok" in lines
        assert lines[-1] == "readyz check passed"
        lines = (await text(s, "/livez", verbose="", exclude="etcd")).splitlines()
        assert "[+]etcd excluded: ok" in lines
        code, _ = await s.call("GET", "/readyz/nothing")
        assert code == 404
        slis = await text(s, "/metrics/slis")
        assert 'kubernetes_healthcheck{name="etcd",type="livez"} 1' in slis
        assert 'kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 2' in slis


async def test_metrics_by_upstreams_names() -> None:
    async with serving() as s:
        await s.made(CONFIGS, {"metadata": {"name": "c"}})
        await s.call("GET", f"{CONFIGS}/none")
        await s.call("GET", "/apis/nothing/v1/at/all")
        found = await text(s, "/metrics")
        labels = 'component="apiserver",dry_run="",group="",resource="configmaps",scope="%s",subresource="",verb="%s"'
        created, missed = labels % ("namespace", "POST"), labels % ("resource", "GET")
        assert f'apiserver_request_total{{code="201",{created},version="v1"}} 1' in found
        assert f'apiserver_request_total{{code="404",{missed},version="v1"}} 1' in found
        assert f'apiserver_request_duration_seconds_count{{{created},version="v1"}} 1' in found
        assert f'apiserver_request_duration_seconds_bucket{{{created},version="v1",le="+Inf"}} 1' in found
        assert "nothing" not in found  # what anybody may ask for is no label
        assert 'apiserver_resource_objects{group="",resource="configmaps"}' in found
        for name in (
            "apiserver_current_inflight_requests", "process_resident_memory_bytes", "kubernetes_build_info",
            "apiserver_flowcontrol_nominal_limit_seats",
        ):  # fmt: skip
            assert f"\n{name}{{" in found or f"\n{name} " in found, name


async def test_a_websocket_get_needs_the_right_to_create() -> None:
    async with serving() as s:
        role = {
            "metadata": {"name": "reader"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec", "pods/attach"]}],
        }
        binding = {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "User", "name": "jane"}],
        }
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        await s.made(f"{rbac}/clusterroles", role)
        await s.made(f"{rbac}/clusterrolebindings", binding)
        jane = User("jane", ("system:authenticated",))
        code, status = await s.call("GET", "/api/v1/namespaces/default/pods/p/exec", user=jane)
        assert code == 403 and 'cannot create resource "pods/exec"' in status["message"]


async def test_events_go_an_hour_after_they_were_last_written() -> None:
    async with serving() as s:
        core = s.api.core
        begun = core.clock()
        expiry = EventExpiry(core)
        old = {"involvedObject": EVENT["regarding"], "reason": "R"}
        path = "/api/v1/namespaces/default/events"
        for name in ("once", "again"):
            await s.made(path, {**old, "metadata": {"name": name}})
        core.clock = lambda: begun + 1800
        assert 1700 < await expiry.sweep() <= 1801
        change = {"count": 2, "lastTimestamp": format_time(core.clock())}
        await s.call("PATCH", f"{path}/again", change, content_type="application/strategic-merge-patch+json")
        core.clock = lambda: begun + 3601
        assert 1700 < await expiry.sweep() <= 1801
        _, listed = await s.call("GET", path)
        assert [o["metadata"]["name"] for o in listed["items"]] == ["again"]
        core.clock = lambda: begun + 5402
        await expiry.sweep()
        assert (await s.call("GET", f"{path}/again"))[0] == 404


async def test_pages_for_people() -> None:
    async with serving() as s:
        status = await text(s, "/statusz")
        assert status.startswith("\nkube-apiserver statusz\nWarning: ") and "\nUp: 0 hr 00 min 0" in status
        assert "\nservice-cluster-ip-range=10.96.0.0/16\n" in await text(s, "/flagz")
