"""Small pods against a whole Stablehand: made together, waited for, their ends and words compared.

What the tests of the node as the upstream conformance suite sees it share.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.machinery.types import Obj
from tests.integration.conftest import ROOT, Cluster

WAIT = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def container(name: str = "c", sh: str | None = None, **fields: Any) -> Obj:
    made: Obj = {"name": name, "image": "busybox", "imagePullPolicy": "IfNotPresent", **fields}
    if sh is not None:
        made["command"] = ["sh", "-c", sh]
    return made


def mount(name: str, path: str, **fields: Any) -> Obj:
    return {"name": name, "mountPath": path, **fields}


def pod(name: str, sh: str | None = None, *, of: Obj | None = None, meta: Obj | None = None, **spec: Any) -> Obj:
    """A pod that is not restarted, with one container `c` (`of`: its fields) unless `containers` are given."""
    body = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "containers": [container("c", sh, **(of or {}))],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **(meta or {})}, "spec": body}


def config_map(name: str, data: dict[str, str]) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, data: dict[str, str]) -> Obj:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


class NodeCase:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kubectl = cluster.kubectl
        cluster.until(lambda: cluster.kubectl("get", "sa", "default", check=False).returncode == 0)

    def create(self, *objects: Obj) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("create", "-f", "-", stdin=json.dumps(items))

    def refused(self, made: Obj) -> str:
        """The API's words about an object that it must not take."""
        done = self.kubectl("create", "-f", "-", stdin=json.dumps(made), check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, name: str) -> Obj:
        found: Obj = self.cluster.get("pod", name)
        return found

    def until(self, name: str, test: Callable[[Obj], Any], seconds: float = 30) -> Obj:
        """The pod once `test` of its status is true; what is not there yet counts as not true."""

        def look() -> Obj | None:
            found = self.get(name)
            with contextlib.suppress(KeyError, IndexError):
                return found if test(found["status"]) else None
            return None

        found: Obj = self.cluster.until(look, seconds)
        return found

    def ready(self, name: str) -> Obj:
        return self.until(name, is_ready)

    def outputs(self, *pods: Obj, **fails: str) -> dict[str, str]:
        """Makes the pods, waits for their ends (Succeeded, or what `fails` says) and answers their logs by name."""
        self.create(*pods)
        found = {}
        for made in pods:
            name = made["metadata"]["name"]
            ended = self.until(name, lambda s: s["phase"] in ("Succeeded", "Failed"))
            log = self.kubectl("logs", name, "-c", made["spec"]["containers"][0]["name"]).stdout
            assert ended["status"]["phase"] == fails.get(name, "Succeeded"), (name, ended["status"], log)
            found[name] = log
        return found

    def exec(self, name: str, *command: str) -> str:
        return self.kubectl("exec", name, "-c", "c", "--", *command, check=False).stdout

    def events(self, name: str) -> dict[str, str]:
        """Messages by reason."""
        found = self.cluster.get("events", "--field-selector", f"involvedObject.name={name}")
        return {event["reason"]: event["message"] for event in found["items"]}

    def event(self, name: str, reason: str) -> str:
        return str(self.cluster.until(lambda: self.events(name).get(reason), 20))

    def remove(self, *names: str) -> None:
        self.kubectl("delete", "pod", "--now", "--wait=true", *names)


def is_ready(status: Obj) -> bool:
    return conditions(status).get("Ready", {}).get("status") == "True"


def conditions(status: Obj) -> dict[str, Obj]:
    return {c["type"]: c for c in status.get("conditions") or ()}


def first(status: Obj, field: str = "containerStatuses") -> Obj:
    found: Obj = status[field][0]
    return found


def running_node(folder: Path, bridge: str, cidr: str, port: int, *flags: str) -> Iterator[NodeCase]:
    """All parts (`flags` to `up`) with the images busybox and httpd, torn down to the last mount and rule."""
    if os.geteuid() != 0:
        pytest.skip("running containers needs root")
    cache, data = ROOT / ".cache" / "images", folder / "data"
    (data / "node" / "images").mkdir(parents=True)
    for image in ("busybox", "httpd"):
        if not (cache / f"{image}.tar").exists():
            from stablehand.launch.imagebuild import build

            cache.mkdir(parents=True, exist_ok=True)
            build(image, cache)
        os.link(cache / f"{image}.tar", data / "node" / "images" / f"{image}.tar")
    where = ["--bridge", bridge, "--pod-cidr", cidr]
    try:
        yield NodeCase(Cluster(data, *where, "--kubelet-port", str(port), *flags))
    finally:
        command = [sys.executable, "-m", "stablehand", "down", "--pods", "--data-dir", str(data), *where]
        subprocess.run(command, check=True, timeout=120)
