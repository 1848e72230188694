"""A raw API client, watches in the background, and a hollow kubelet for the conformance tests. No tests here.

The client speaks plain HTTPS through urllib3, so that the tests see the bytes and codes that any client sees. The
kubelet plays nodes: pods run and are ready at once, and are gone at once when deleted, except as `Kubelet.answer` or
a pod's annotation `hollow` says.
"""

from __future__ import annotations

import contextlib
import json
import queue
import ssl
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml

from stablehand.machinery.times import format_micro_time, format_time

Obj = dict[str, Any]
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"


@dataclass
class Answer:
    """What the server said: the HTTP status, its headers and the decoded body."""

    code: int
    headers: dict[str, str]
    body: Any = field(repr=False)

    @property
    def warnings(self) -> str:
        return self.headers.get("Warning", "")

    @property
    def message(self) -> str:
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else str(self.body)


class Refused(AssertionError):
    """An answer that the test did not expect."""

    def __init__(self, call: str, answer: Answer) -> None:
        super().__init__(f"{call}: {answer.code} {str(answer.body)[:2000]}")
        self.answer = answer


class Api:
    """An API server as one user. Paths are given from the root; `query` is added to them."""

    def __init__(self, kubeconfig: Path, token: str | None = None) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        self.headers: dict[str, str] = {}
        if token is None:
            with tempfile.NamedTemporaryFile() as pem:
                pem.write(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
                pem.flush()
                context.load_cert_chain(pem.name)
        else:
            self.headers["Authorization"] = f"Bearer {token}"
        self.server, self.kubeconfig, self.context = cluster["server"], kubeconfig, context
        self.pool = urllib3.PoolManager(ssl_context=context, maxsize=16, retries=False)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        type: str = "application/json",
        accept: str = "",
        **query: Any,
    ) -> Answer:
        """One request, whatever becomes of it; a body of bytes is sent as it is."""
        headers = {**self.headers, "Content-Type": type, "Accept": accept or "application/json"}
        url = self.server + path + (("&" if "?" in path else "?") + urlencode(query) if query else "")
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.pool.request(method, url, body=sent, headers=headers, timeout=30)
        text = answer.data.decode(errors="replace")
        with contextlib.suppress(ValueError):
            return Answer(answer.status, dict(answer.headers), json.loads(text))
        return Answer(answer.status, dict(answer.headers), text)

    def sure(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = self.call(method, path, body, **options)
        if answer.code >= 300:
            raise Refused(f"{method} {path}", answer)
        return answer.body

    def get(self, path: str, **query: Any) -> Any:
        return self.sure("GET", path, **query)

    def items(self, path: str, **query: Any) -> list[Obj]:
        return list(self.get(path, **query)["items"])

    def post(self, path: str, body: Any, **query: Any) -> Any:
        return self.sure("POST", path, body, **query)

    def put(self, path: str, body: Any, **query: Any) -> Any:
        return self.sure("PUT", path, body, **query)

    def patch(self, path: str, body: Any, *, type: str = MERGE, **query: Any) -> Any:
        return self.sure("PATCH", path, body, type=type, **query)

    def delete(self, path: str, body: Any = None, **query: Any) -> Any:
        return self.sure("DELETE", path, body, **query)

    def gone(self, path: str) -> bool:
        return self.call("GET", path).code == 404

    def change(self, path: str, change: Callable[[Obj], object], sub: str = "") -> Obj:
        """Read, change, write; again when somebody else wrote meanwhile."""
        for _ in range(20):
            obj = self.get(path)
            change(obj)
            answer = self.call("PUT", path + sub, obj)
            if answer.code != 409:
                break
        if answer.code >= 300:
            raise Refused(f"PUT {path}{sub}", answer)
        return dict(answer.body)

    def until(self, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Waits for a condition on the cluster; its true value."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; last: {value!r}")
            time.sleep(0.02)
        return value

    def namespace(self, name: str) -> str:
        """Makes the namespace, with the default ServiceAccount that pods need; its path."""
        self.post("/api/v1/namespaces", {"metadata": {"name": name}})
        self.until(lambda: not self.gone(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        return f"/api/v1/namespaces/{name}"

    @contextlib.contextmanager
    def watch(self, path: str, **query: Any) -> Iterator[Watch]:
        made = Watch(self, path, query)
        try:
            yield made
        finally:
            made.close()


class Watch:
    """Events of one watch, read in the background."""

    def __init__(self, api: Api, path: str, query: Obj) -> None:
        self.queue: queue.Queue[Obj | None] = queue.Queue()
        url = f"{api.server}{path}?{urlencode({'watch': 'true', 'timeoutSeconds': 120, **query})}"
        self.answer = api.pool.request("GET", url, headers=api.headers, preload_content=False, timeout=130)
        self.seen: list[Obj] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(Exception):
            while data := self.answer.read1(1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.queue.put(json.loads(line))
        self.queue.put(None)

    def next(self, seconds: float = 10.0) -> Obj:
        event = self.queue.get(timeout=seconds)
        if event is None:
            raise AssertionError(f"the watch ended; seen: {self.seen}")
        self.seen.append(event)
        return event

    def until(self, want: str, condition: Callable[[Obj], Any] = lambda o: True, seconds: float = 15.0) -> Obj:
        """The object of the first event of this type that fits."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                event = self.next(max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                kinds = [(e["type"], e["object"].get("metadata", {}).get("name")) for e in self.seen]
                raise AssertionError(f"no {want} that fits within {seconds} s; seen: {kinds}") from None
            if event["type"] == want and condition(event["object"]):
                return dict(event["object"])

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.answer.shutdown()
        self.answer.close()


def running(pod: Obj, address: str, *, ready: bool = True, phase: str = "Running", code: int = 0) -> Obj:
    """The status a kubelet would write for a pod that runs, or has ended with `code`."""
    now = format_time(time.time())
    truth = str(ready and phase == "Running")
    ended = {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now}}
    state = {"running": {"startedAt": now}} if phase == "Running" else ended
    return {
        "phase": phase,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": [
            {"type": kind, "status": status, "lastTransitionTime": now}
            for kind, status in (("Initialized", "True"), ("Ready", truth), ("ContainersReady", truth))
        ],
        "containerStatuses": [
            {
                "name": c["name"],
                "image": c["image"],
                "imageID": "x",
                "ready": truth == "True",
                "started": phase == "Running",
                "restartCount": 0,
                "state": state,
            }
            for c in pod["spec"]["containers"]
        ],
    }


class Kubelet:
    """Plays nodes. A pod's annotation `hollow`: `pending` nothing happens to it, `unready`, `succeed`, `fail`; and
    `hollow-stop: hold` keeps a deleted pod until the test deletes it with grace 0."""

    def __init__(self, api: Api, *names: str, capacity: Obj | None = None) -> None:
        self.api, self.names, self.count = api, names, 0
        self.capacity = capacity or {"cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
        self.ended = threading.Event()
        for name in names:
            meta = {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}}
            api.post("/api/v1/nodes", {"metadata": meta})
            self.beat(name)
        self.stream = Watch(api, "/api/v1/pods", {"fieldSelector": "spec.nodeName!=", "timeoutSeconds": 3600})
        threading.Thread(target=self._beats, daemon=True).start()
        threading.Thread(target=self._run, daemon=True).start()

    def beat(self, name: str) -> None:
        now, path = format_time(time.time()), "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now}
        status = {"capacity": self.capacity, "allocatable": self.capacity, "conditions": [ready]}
        self.api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, type=STRATEGIC)
        lease = {"metadata": {"name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}}
        lease["spec"]["renewTime"] = format_micro_time(time.time())
        if self.api.call("PATCH", f"{path}/{name}", lease, type=MERGE).code == 404:
            self.api.call("POST", path, lease)

    def _beats(self) -> None:
        while not self.ended.wait(8):
            for name in self.names:
                with contextlib.suppress(Exception):
                    self.beat(name)

    def _run(self) -> None:
        while not self.ended.is_set():
            try:
                event = self.stream.next(3600)
            except (AssertionError, queue.Empty):
                return
            if event["type"] in ("ADDED", "MODIFIED") and event["object"]["spec"]["nodeName"] in self.names:
                self._answer(event["object"])

    def _answer(self, pod: Obj) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        wish = (meta.get("annotations") or {}).get("hollow", "")
        if meta.get("deletionTimestamp"):
            if (meta.get("annotations") or {}).get("hollow-stop") != "hold":
                options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
                self.api.call("DELETE", path, options)
        elif (pod.get("status") or {}).get("phase") in (None, "Pending") and wish != "pending":
            self.count += 1
            phase = {"succeed": "Succeeded", "fail": "Failed"}.get(wish, "Running")
            address = f"10.99.{self.count >> 8}.{self.count & 255}"
            status = running(pod, address, ready=wish != "unready", phase=phase, code=int(phase == "Failed"))
            self.api.call("PATCH", path + "/status", {"status": status}, type=STRATEGIC)

    def set(self, pod: Obj, **status: Any) -> Obj:
        """Writes a status for a pod that runs: see `running`."""
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        address = (pod.get("status") or {}).get("podIP") or "10.99.255.1"
        return dict(self.api.patch(path, {"status": running(pod, address, **status)}, type=STRATEGIC))

    def close(self) -> None:
        self.ended.set()
        self.stream.close()


def pod_spec(**extra: Any) -> Obj:
    return {"containers": [{"name": "c", "image": "httpd"}], "terminationGracePeriodSeconds": 0, **extra}


def template(labels: Obj, *, image: str = "httpd", annotations: Obj | None = None, **extra: Any) -> Obj:
    spec = pod_spec(**extra)
    spec["containers"][0]["image"] = image
    return {"metadata": {"labels": labels, "annotations": annotations or {}}, "spec": spec}


def workload(name: str, labels: Obj, *, annotations: Obj | None = None, pod: Obj | None = None, **spec: Any) -> Obj:
    """A ReplicaSet, Deployment, StatefulSet or DaemonSet without its kind."""
    inner = template(labels, annotations=annotations, **(pod or {}))
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": inner, **spec},
    }
