"""What the demo plays on: a Stablehand of its own, the real kubectl with every command shown, and a watch of pods that
prints what happens to them when it happens. What is played is demo's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import archives
from kubectl import kubectl as find_kubectl

ROOT = Path(__file__).resolve().parents[1]


def say(text: str) -> None:
    print(f"   {text}", flush=True)


def head(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def stablehand(*args: str, quiet: bool = False) -> int:
    output = subprocess.DEVNULL if quiet else None
    command = [sys.executable, "-m", "stablehand", *args]
    return subprocess.run(command, cwd=ROOT, check=False, stdout=output, stderr=output).returncode


class Stage:
    """`data` is the data directory, `export` the folder that is served over NFS."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.data = cache / "demo"
        self.export = self.data / "nfsdata"
        self.kubectl_path = find_kubectl(cache / "bin")
        self.env = {**os.environ, "KUBECONFIG": str(self.data / "kubeconfig.yaml")}

    def start(self, *names: str) -> None:
        """Builds what images are missing and starts Stablehand, unless it runs already."""
        folder = self.data / "node" / "images"
        built = [archives.archive(name, self.cache / "images", say) for name in names]
        fresh = [path for path in built if archives.place(path, folder)]
        if stablehand("status", "--data-dir", str(self.data), quiet=True) == 0:
            say("Stablehand runs already")
            for path in fresh:
                if stablehand("image", "load", str(path), "--data-dir", str(self.data)):
                    raise SystemExit(1)
            return
        print(f"$ stablehand up --detach --nfs {self.export}", flush=True)
        code = stablehand("up", "--detach", "--data-dir", str(self.data), "--nfs", str(self.export))
        if code:
            raise SystemExit(code)

    # -- kubectl

    def run(self, *args: str, show: bool = True, stdin: str | None = None, check: bool = True) -> str:
        """Runs kubectl and shows the command and what it printed. Ends the demo when it fails."""
        if show:
            words = (f"'{word}'" if " " in word else word for word in args)
            print(f"$ kubectl {' '.join(words).replace(str(ROOT) + '/', '')}", flush=True)
        done = subprocess.run(
            [self.kubectl_path, *args], env=self.env, capture_output=True, text=True, input=stdin, check=False
        )
        if check and done.returncode:
            sys.exit(f"kubectl {' '.join(args)} failed: {done.stderr}")
        if show:
            print(done.stdout + (done.stderr if check else ""), end="", flush=True)
        return done.stdout

    def get(self, *args: str) -> Any:
        return json.loads(self.run("get", *args, "-o", "json", show=False))

    def curl(self, address: str) -> str:
        """What a web server of the cluster answers to this machine."""
        with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
            return str(answer.read().decode().strip())

    # -- waiting

    def until(self, what: str, condition: Callable[[], Any], seconds: float = 120) -> None:
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                self.run("get", "pods,events", "-A")
                sys.exit(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.02)
        if what:
            say(f"{what}: {time.monotonic() - start:.2f} s")

    def set_ready(self, name: str, count: int, *flags: str) -> Callable[[], bool]:
        def check() -> bool:
            found = self.get("statefulset", name, *flags)
            status = found.get("status") or {}
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return bool(seen and status.get("readyReplicas", 0) == count == status.get("replicas", 0))

        return check

    def follow(self, owner: str, namespace: str = "default") -> Follow:
        return Follow(self, owner, namespace)


class Follow:
    """Prints when a pod is made, ready and gone, with the seconds since the beginning of the block."""

    def __init__(self, stage: Stage, owner: str, namespace: str) -> None:
        self._stage, self._owner = stage, owner
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> Follow:
        pods = json.loads(self._stage.run("get", "--raw", self._path, show=False))
        self._told = {("ready", pod["metadata"]["uid"]) for pod in pods["items"] if _is_ready(pod)}
        path = f"{self._path}?watch=1&resourceVersion={pods['metadata']['resourceVersion']}"
        command = [self._stage.kubectl_path, "get", "--raw", path]
        self._process = subprocess.Popen(
            command, env=self._stage.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                return
            event = json.loads(line)
            pod = event["object"]
            name = pod["metadata"]["name"]
            if not name.startswith(self._owner):
                continue
            what = {"ADDED": "made", "DELETED": "gone"}.get(event["type"], "ready" if _is_ready(pod) else "")
            if what and (what, pod["metadata"]["uid"]) not in self._told:
                self._told.add((what, pod["metadata"]["uid"]))
                address = f"  {pod['status']['podIP']}" if what == "ready" else ""
                say(f"{time.monotonic() - self._began:5.2f} s  {name} is {what}{address}")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
