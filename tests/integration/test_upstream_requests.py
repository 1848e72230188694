"""Upstream's components as our API server sees them: their requests, byte for byte as client-go sends them, against
`stablehand apiserver` alone, with none of our controllers beside it."""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stablehand.apiserver import protobuf
from stablehand.launch.pki import Pki
from stablehand.machinery.resources import RESOURCES
from stablehand.machinery.times import format_micro_time, format_time
from tests.integration.conftest import free_port
from tests.integration.hollow import MERGE, STRATEGIC, Obj

PB = protobuf.CONTENT_TYPE
PARTIAL = f"{PB};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
MANAGER, SCHEDULER, PROXY = "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"
STREAM = "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeoutSeconds=1&watch=true"
DEFAULT = "/api/v1/namespaces/default"


class Component:
    """One identity with a client certificate. It speaks protobuf unless told otherwise."""

    def __init__(self, server: Server, name: str, *groups: str, agent: str = "") -> None:
        pki = Pki(server.data / "pki")
        self.server, self.agent = server, agent or name.rpartition(":")[2] + "/v1.36.0 (linux/amd64) kubernetes/abc"
        context = ssl.create_default_context(cadata=pki.ca_pem)
        context.load_cert_chain(*pki.certificate(name.replace(":", "-"), name, groups))
        self._pool = urllib3.PoolManager(ssl_context=context, retries=False, maxsize=16)

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        type: str = PB,
        accept: str = PB,
        headers: dict[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        sent = {"User-Agent": self.agent, "Accept": accept, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = type
        return self._pool.request(method, self.server.url + path, body=body, headers=sent, timeout=20)

    def __call__(self, method: str, path: str, obj: Obj | None = None, expect: int = 0) -> Obj:
        """An object there and back, both in protobuf."""
        body = protobuf.encode(obj) if obj is not None else None
        answer = self.raw(method, path, body)
        assert answer.headers["Content-Type"] == PB, (path, answer.status, answer.data[:300])
        found = protobuf.decode(answer.data)
        assert answer.status == expect if expect else answer.status < 300, (path, answer.status, found)
        return found

    def patch(self, path: str, change: Obj, type: str = STRATEGIC, expect: int = 200) -> Obj:
        answer = self.raw("PATCH", path, json.dumps(change).encode(), type=type)
        assert answer.status == expect, (path, answer.status, answer.data[:500])
        return protobuf.decode(answer.data)

    def stream(self, path: str, accept: str = PB) -> list[tuple[str, Obj]]:
        """What an informer's streaming list tells until its watch times out."""
        answer = self.raw("GET", f"{path}{'&' if '?' in path else '?'}{STREAM}", accept=accept)
        assert answer.status == 200, (path, answer.data[:300])
        assert answer.headers["Content-Type"] == f"{PB};stream=watch"
        events, data = [], answer.data
        while data:
            (size,) = struct.unpack(">I", data[:4])
            frame, data = dict(protobuf._fields(data[4 : 4 + size])), data[4 + size :]
            raw = dict(protobuf._fields(frame[2]))[1]  # type: ignore[arg-type]
            events.append((frame[1].decode(), protobuf.decode(raw)))  # type: ignore[union-attr, arg-type]
        return events


class Server:
    """`stablehand apiserver`, and the time it took until /readyz."""

    def __init__(self, folder: Path) -> None:
        self.data, self.port = folder / "data", free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        with open(folder / "log", "wb") as log:
            command = [sys.executable, "-m", "stablehand", "apiserver", "--data-dir", str(self.data)]
            self.process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{self.port}"], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.02)
        self.admin = Component(self, "admin", "system:masters")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("upstream"))
    try:
        yield made
    finally:
        made.stop()


def lease(name: str, namespace: str, holder: str) -> Obj:
    now = format_micro_time(time.time())
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "acquireTime": now, "renewTime": now}
    return {
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace}, "spec": {**spec, "leaseTransitions": 0},
    }  # fmt: skip


def test_a_controller_manager_starts(server: Server) -> None:
    """Health, election, discovery, accounts for its controllers and their tokens, informers of every kind."""
    manager = Component(server, MANAGER)
    assert manager.raw("GET", "/healthz?timeout=10s", accept="*/*").data == b"ok"
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    assert manager("GET", f"{leases}/kube-controller-manager?timeout=5s", expect=404)["reason"] == "NotFound"
    made = manager("POST", f"{leases}?timeout=5s", lease("kube-controller-manager", "kube-system", "a_1"), 201)
    stale = {**made, "spec": dict(made["spec"])}
    made["spec"]["renewTime"] = "2026-01-01T00:00:00.000001Z"
    renewed = manager("PUT", f"{leases}/kube-controller-manager?timeout=5s", made)
    assert renewed["spec"]["renewTime"] == "2026-01-01T00:00:00.000001Z"
    assert manager("PUT", f"{leases}/kube-controller-manager?timeout=5s", stale, 409)["reason"] == "Conflict"
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    for path in ("/api", "/apis"):
        answer = manager.raw("GET", path, accept=aggregated)
        assert answer.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        assert json.loads(answer.data)["items"]
        known = {"If-None-Match": answer.headers["Etag"]}
        assert manager.raw("GET", path, accept=aggregated, headers=known).status == 304
        assert manager("GET", path)["kind"] in ("APIVersions", "APIGroupList")  # an older client's way
    accounts = "/api/v1/namespaces/kube-system/serviceaccounts"
    account = {
        "kind": "ServiceAccount", "apiVersion": "v1",
        "metadata": {"name": "generic-garbage-collector", "namespace": "kube-system"},
    }  # fmt: skip
    manager("POST", accounts, account, 201)
    wanted = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "spec": {"expirationSeconds": 3600},
    }
    token = manager("POST", f"{accounts}/generic-garbage-collector/token", wanted, 201)["status"]["token"]
    collector = Component(server, "system:anonymous")
    bearer = {"Authorization": f"Bearer {token}"}
    plain = ssl.create_default_context(cadata=Pki(server.data / "pki").ca_pem)
    collector._pool = urllib3.PoolManager(ssl_context=plain, retries=False)
    answer = collector.raw("GET", f"/api/v1/pods?{STREAM}", accept=PARTIAL, headers=bearer)
    assert answer.status == 200 and b"initial-events-end" in answer.data
    for res in RESOURCES:
        if "watch" in res.verbs and not res.legacy:
            answer = manager.raw("GET", f"{res.path()}?limit=500&resourceVersion=0")
            assert (answer.status, answer.headers["Content-Type"]) == (200, PB), res.key
            assert protobuf.decode(answer.data)["kind"] == res.list_kind
    for path, kind in (("/api/v1/namespaces", "Namespace"), ("/apis/apps/v1/replicasets", "ReplicaSet")):
        for accept, told in ((PB, kind), (PARTIAL, "PartialObjectMetadata")):
            *events, (last, bookmark) = manager.stream(path, accept)
            assert all(e == "ADDED" and o["kind"] == told for e, o in events)
            assert (last, bookmark["kind"]) == ("BOOKMARK", told)
            assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_cbor_is_refused_as_clients_fall_back(server: Server) -> None:
    cbor = b"\xd9\xd9\xf7\xa0"
    path = f"{DEFAULT}/configmaps"
    answer = server.admin.raw("POST", path, cbor, type="application/cbor", accept="application/cbor,application/json")
    assert (answer.status, json.loads(answer.data)["reason"]) == (415, "UnsupportedMediaType")
    answer = server.admin.raw(
        "PATCH", f"{path}/x", cbor, type="application/apply-patch+cbor", accept="application/json"
    )
    assert answer.status == 415
    assert server.admin.raw("GET", path, accept="application/cbor").status == 406
    answer = server.admin.raw("GET", path, accept="application/cbor,application/json")
    assert answer.headers["Content-Type"] == "application/json"


def test_a_kubelet_registers_and_reports(server: Server) -> None:
    """A bootstrap token's certificate request, the node, its lease and status, mirror pods, a pod's token."""
    kubelet, manager = Component(server, "system:node:n1", "system:nodes"), Component(server, MANAGER)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, "system:node:n1"),
    ]
    pem = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {
        "request": base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"],
    }
    request: Obj = {
        "kind": "CertificateSigningRequest", "apiVersion": "certificates.k8s.io/v1",
        "metadata": {"generateName": "csr-"}, "spec": spec,
    }  # fmt: skip
    made = kubelet("POST", requests, request, 201)
    assert made["spec"]["username"] == "system:node:n1" and "system:nodes" in made["spec"]["groups"]
    now = format_time(time.time())
    approved = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": "m", "lastUpdateTime": now}
    made["status"] = {"conditions": [approved]}
    path = f"{requests}/{made['metadata']['name']}"
    signed = manager("PUT", f"{path}/approval", made)
    certificate = Pki(server.data / "pki").ca_pem
    signed["status"]["certificate"] = base64.b64encode(certificate.encode()).decode()
    manager("PUT", f"{path}/status", signed)
    answer = kubelet.raw("GET", f"{requests}?fieldSelector=metadata.name%3D{made['metadata']['name']}&{STREAM}")
    assert answer.status == 200 and certificate.encode()[:60] in answer.data

    assert kubelet("GET", "/api/v1/nodes/n1?resourceVersion=0", expect=404)
    labels = {"kubernetes.io/hostname": "n1", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    condition = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "lastHeartbeatTime": now}
    node: Obj = {
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": "n1", "labels": labels},
        "status": {
            "capacity": {"cpu": "2", "memory": "4016540Ki", "pods": "110"}, "conditions": [condition],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Hostname", "address": "n1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }  # fmt: skip
    uid = kubelet("POST", "/api/v1/nodes", node, 201)["metadata"]["uid"]
    assert kubelet("POST", "/api/v1/nodes", node, 409)["reason"] == "AlreadyExists"
    ready = {
        "$setElementOrder/conditions": [{"type": "Ready"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}],
        "volumesInUse": None,
    }
    after = kubelet.patch("/api/v1/nodes/n1/status?timeout=10s", {"status": ready})
    assert [(c["type"], c["status"]) for c in after["status"]["conditions"]] == [("Ready", "True")]
    assert after["status"]["addresses"] == node["status"]["addresses"]
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    own = lease("n1", "kube-node-lease", "n1")
    own["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid}]
    kubelet("PUT", f"{leases}/n1?timeout=10s", kubelet("POST", f"{leases}?timeout=10s", own, 201))
    for path in (
        "/api/v1/nodes?fieldSelector=metadata.name%3Dn1", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1",
        "/api/v1/services", "/apis/node.k8s.io/v1/runtimeclasses", "/apis/storage.k8s.io/v1/csidrivers",
    ):  # fmt: skip
        assert kubelet.stream(path)[-1][0] == "BOOKMARK"
    refused = kubelet.raw("GET", f"/api/v1/pods?{STREAM}")
    assert refused.status == 403 and b"can only list/watch pods with spec.nodeName field selector" in refused.data

    mirror: Obj = {
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "etcd-n1", "namespace": "kube-system",
            "annotations": {"kubernetes.io/config.mirror": "h", "kubernetes.io/config.source": "file"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": True}],
        },
        "spec": {"nodeName": "n1", "hostNetwork": True, "containers": [{"name": "c", "image": "i"}]},
    }  # fmt: skip
    pod = kubelet("POST", "/api/v1/namespaces/kube-system/pods", mirror, 201)
    status = {
        "$setElementOrder/conditions": [{"type": "Ready"}], "phase": "Running", "podIP": "10.0.0.9",
        "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None, "observedGeneration": 1}],
        "podIPs": [{"ip": "10.0.0.9"}],
    }  # fmt: skip
    change = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
    assert kubelet.patch("/api/v1/namespaces/kube-system/pods/etcd-n1/status", change)["status"]["phase"] == "Running"
    change["metadata"]["uid"] = "other"
    kubelet.patch("/api/v1/namespaces/kube-system/pods/etcd-n1/status", change, expect=409)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
    kubelet("DELETE", "/api/v1/namespaces/kube-system/pods/etcd-n1", options)

    # Its webhook authentication and authorization of those who call it.
    review = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {"token": "x"}}
    assert not kubelet("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review, 201)["status"].get(
        "authenticated"
    )
    attributes = {"verb": "get", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": "n1"}
    access = {
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
        "spec": {"user": "kube-apiserver-kubelet-client", "resourceAttributes": attributes},
    }  # fmt: skip
    found = kubelet("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", access, 201)["status"]
    assert found["allowed"] and found["reason"].startswith("RBAC: allowed by ClusterRoleBinding")


def test_a_scheduler_binds_and_tells(server: Server) -> None:
    scheduler, admin = Component(server, SCHEDULER), server.admin
    admin(
        "POST",
        f"{DEFAULT}/serviceaccounts",
        {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}},
    )
    spec = {"containers": [{"name": "c", "image": "i"}]}
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "default"}, "spec": spec}
    admin("POST", f"{DEFAULT}/pods", pod, 201)
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastProbeTime": None}
    told = scheduler.patch(f"{DEFAULT}/pods/p/status", {"status": {"conditions": [unschedulable]}})
    assert told["status"]["conditions"][0]["reason"] == "Unschedulable"
    event: Obj = {
        "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "p.17", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000001Z", "reportingController": "default-scheduler",
        "reportingInstance": "default-scheduler-h", "action": "Scheduling", "reason": "FailedScheduling",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}, "note": "0/1 nodes", "type": "Warning",
    }  # fmt: skip
    events = "/apis/events.k8s.io/v1/namespaces/default/events"
    scheduler("POST", events, event, 201)
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:05:00.000002Z"}}
    assert scheduler.patch(f"{events}/p.17", series)["series"] == series["series"]
    old = admin("GET", f"{DEFAULT}/events/p.17")
    assert (old["reportingComponent"], old["message"]) == ("default-scheduler", "0/1 nodes")
    assert scheduler("POST", events, {**event, "metadata": {"name": "q"}, "action": ""}, 422)["reason"] == "Invalid"
    target = {"kind": "Node", "name": "n1"}
    binding = {
        "kind": "Binding",
        "apiVersion": "v1",
        "metadata": {"name": "p", "namespace": "default"},
        "target": target,
    }
    scheduler("POST", f"{DEFAULT}/pods/p/binding", binding, 201)
    assert admin("GET", f"{DEFAULT}/pods/p")["spec"]["nodeName"] == "n1"
    assert scheduler("POST", f"{DEFAULT}/pods/p/binding", binding, 409)["reason"] == "Conflict"


def test_controllers_write_statuses_and_collect(server: Server) -> None:
    manager, admin = Component(server, MANAGER), server.admin
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {
        "kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }  # fmt: skip
    path = "/apis/apps/v1/namespaces/default/deployments/web"
    made = admin("POST", path.removesuffix("/web"), deployment, 201)
    made["status"] = {"observedGeneration": 1, "replicas": 1, "unavailableReplicas": 1}
    assert manager("PUT", f"{path}/status", made)["status"]["replicas"] == 1
    scale = manager("GET", f"{path}/scale")
    assert (scale["kind"], scale["status"]["selector"]) == ("Scale", "a=b")
    scale["spec"]["replicas"] = 3
    assert manager("PUT", f"{path}/scale?dryRun=All", scale)["spec"]["replicas"] == 3
    assert admin("GET", path)["spec"]["replicas"] == 1
    # The garbage collector and the namespace controller know metadata only.
    finalizers = json.dumps(
        {"metadata": {"finalizers": ["a.b/c"], "resourceVersion": made["metadata"]["resourceVersion"]}}
    )
    stale = manager.raw("PATCH", path, finalizers.encode(), type=MERGE, accept=PARTIAL)
    assert stale.status == 409
    answer = manager.raw("PATCH", path, b'{"metadata":{"labels":{"x":"y"}}}', type=MERGE, accept=PARTIAL)
    assert protobuf.decode(answer.data)["kind"] == "PartialObjectMetadata"
    collection = f"{DEFAULT}/pods?labelSelector=nothing%3Dhere"
    body = b'{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}\n'
    accept = f"{PB};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    answer = manager.raw("DELETE", collection, body, type="application/json", accept=accept)
    assert protobuf.decode(answer.data)["kind"] == "PartialObjectMetadataList"
    admin("POST", "/api/v1/namespaces", {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "ends"}}, 201)
    ending = admin("DELETE", "/api/v1/namespaces/ends")
    assert ending["status"]["phase"] == "Terminating"
    ending["spec"] = {}
    manager("PUT", "/api/v1/namespaces/ends/finalize", ending)
    assert admin("GET", "/api/v1/namespaces/ends", expect=404)


def test_proxies_scrapers_and_delegates(server: Server) -> None:
    """kube-proxy's streams, what Prometheus scrapes, and how an aggregated server learns whom to trust."""
    proxy = Component(server, PROXY)
    plain = "labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2Fservice-proxy-name"
    for path in (f"/api/v1/services?{plain}", f"/apis/discovery.k8s.io/v1/endpointslices?{plain}", "/api/v1/nodes"):
        assert proxy.stream(path)[-1][0] == "BOOKMARK"
    scraper = Component(server, "prometheus", "system:monitoring")
    text = scraper.raw("GET", "/metrics", accept="text/plain;version=0.0.4").data.decode()
    for name in ("apiserver_request_total", "apiserver_request_duration_seconds_bucket", "process_cpu_seconds_total"):
        assert f"\n{name}" in text, name
    assert "kubernetes_healthcheck" in scraper.raw("GET", "/metrics/slis", accept="*/*").data.decode()
    config = server.admin("GET", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")["data"]
    assert {"client-ca-file", "requestheader-client-ca-file", "requestheader-allowed-names"} <= set(config)
    assert json.loads(config["requestheader-username-headers"]) == ["X-Remote-User"]


def test_a_user_who_asks_too_much_is_held_back(server: Server) -> None:
    """A level of few seats that lends and borrows none: who finds no seat is told to come again."""
    flow, name = "/apis/flowcontrol.apiserver.k8s.io/v1", "greedy"
    limits = {"nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0}
    level = {
        "kind": "PriorityLevelConfiguration", "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "metadata": {"name": name},
        "spec": {"type": "Limited", "limited": {**limits, "limitResponse": {"type": "Reject"}}},
    }  # fmt: skip
    rule = {
        "subjects": [{"kind": "User", "user": {"name": name}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
    }
    schema = {
        "kind": "FlowSchema", "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "metadata": {"name": name},
        "spec": {"priorityLevelConfiguration": {"name": name}, "matchingPrecedence": 50, "rules": [rule]},
    }  # fmt: skip
    uid = server.admin("POST", f"{flow}/prioritylevelconfigurations", level, 201)["metadata"]["uid"]
    server.admin("POST", f"{flow}/flowschemas", schema, 201)
    greedy = Component(server, name)
    kind = {"kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    server.admin("POST", bindings, {**kind, "roleRef": role, "subjects": [user]}, 201)

    def waits(_: int) -> urllib3.BaseHTTPResponse:
        return greedy.raw("GET", f"{DEFAULT}/pods?resourceVersion=999999", accept="application/json")

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(waits, range(12)))
    assert {a.headers["X-Kubernetes-PF-PriorityLevel-UID"] for a in answers} == {uid}
    codes = [a.status for a in answers]
    refused = next(a for a in answers if a.status == 429)
    assert set(codes) == {429, 504} and refused.headers["Retry-After"] == "1"
    assert json.loads(refused.data)["reason"] == "TooManyRequests"
    seats = server.admin.raw("GET", "/metrics", accept="*/*").data.decode()
    assert f'apiserver_flowcontrol_nominal_limit_seats{{priority_level="{name}"}} {codes.count(504)}\n' in seats
    labels = f'flow_schema="{name}",priority_level="{name}",reason="concurrency-limit"'
    assert f"apiserver_flowcontrol_rejected_requests_total{{{labels}}} {codes.count(429)}\n" in seats


def test_headers_that_clients_look_at(server: Server) -> None:
    answers = {who: Component(server, who).raw("GET", DEFAULT, accept="*/*") for who in (MANAGER, SCHEDULER)}
    uids = {who: answer.headers["X-Kubernetes-PF-FlowSchema-UID"] for who, answer in answers.items()}
    schemas = server.admin("GET", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas")["items"]
    names = {s["metadata"]["uid"]: s["metadata"]["name"] for s in schemas}
    assert [names[uids[who]] for who in (MANAGER, SCHEDULER)] == ["kube-controller-manager", "kube-scheduler"]
    assert all(answer.headers["X-Kubernetes-PF-PriorityLevel-UID"] for answer in answers.values())
    answer = server.admin.raw("GET", DEFAULT, accept="*/*", headers={"Audit-ID": "mine"})
    assert answer.headers["Audit-Id"] == "mine"
    begun = time.monotonic()
    answer = server.admin.raw("GET", f"{DEFAULT}/pods?resourceVersion=999999", accept="application/json")
    assert answer.status == 504 and 2.5 < time.monotonic() - begun < 10 and answer.headers["Retry-After"] == "1"
    assert json.loads(answer.data)["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    answer = server.admin.raw("POST", f"{DEFAULT}/configmaps?fieldManager={'x' * 129}", b"{}", type="application/json")
    assert answer.status == 422
    answer = server.admin.raw("GET", f"{DEFAULT}/pods?watch&timeoutSeconds=x", accept="application/json")
    assert answer.status == 400
