"""`make demo`: starts Stablehand and plays the tutorial's main job, saying at each step what was done and what came of it.

Manifests are those of examples/, the article's own with the node's address in place of the author's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kubectl import kubectl as find_kubectl

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
DATA = CACHE / "demo"
EXAMPLES = ROOT / "examples" / "tutorial"
SET = "statefulset-test"


class Demo:
    def __init__(self) -> None:
        self.kubectl_path = find_kubectl(CACHE / "bin")
        self.env = {**os.environ, "KUBECONFIG": str(DATA / "kubeconfig.yaml")}

    def say(self, text: str) -> None:
        print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)

    def run(self, *args: str, show: bool = True, stdin: str | None = None, check: bool = True) -> str:
        if show:
            print(f"$ kubectl {' '.join(args)}", flush=True)
        done = subprocess.run(
            [self.kubectl_path, *args], env=self.env, capture_output=True, text=True, input=stdin, check=False
        )
        if check and done.returncode:
            sys.exit(f"kubectl {' '.join(args)} failed: {done.stderr}")
        if show:
            print(done.stdout, end="", flush=True)
        return done.stdout

    def get(self, *args: str) -> Any:
        return json.loads(self.run("get", *args, "-o", "json", show=False))

    def until(self, what: str, condition: Callable[[], Any], seconds: float = 120) -> None:
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                self.run("get", "events", "-A")
                sys.exit(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.02)
        print(f"   {what}: {time.monotonic() - start:.2f} s", flush=True)

    def ready(self, kind: str, name: str, count: int) -> Callable[[], bool]:
        def check() -> bool:
            status = self.get(kind, name).get("status") or {}
            return status.get("readyReplicas", 0) == count and status.get("replicas", 0) == count

        return check

    def wait_set(self, count: int) -> None:
        self.until(f"{SET} {count}/{count} ready", self.ready("statefulset", SET, count))


def stablehand(*args: str) -> None:
    done = subprocess.run([sys.executable, "-m", "stablehand", *args], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("the demo runs containers: use sudo make demo")
    images = DATA / "node" / "images"
    images.mkdir(parents=True, exist_ok=True)
    demo = Demo()
    demo.say("images, built from Debian packages where registries cannot be reached")
    archive = images / "httpd.tar"
    if not archive.exists():
        stablehand("image", "build", "httpd", "--output", str(images))
    if not (DATA / "state.json").exists():
        demo.say("stablehand up")
        stablehand("up", "--detach", "--data-dir", str(DATA))
    demo.until(
        "node Ready",
        lambda: (
            "True"
            in demo.run(
                "get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}", show=False
            )
        ),
    )

    demo.say("1. names and order: a StatefulSet of three behind a headless Service")
    demo.run("apply", "-f", str(EXAMPLES / "order.yaml"))
    demo.wait_set(3)
    demo.run("get", "svc,statefulset")
    demo.run("get", "pods", "-o", "wide")

    demo.say("2. storage: each pod has its own claim, each claim its own volume and folder")
    demo.run("get", "pvc,pv")
    for index in range(3):
        demo.run("exec", f"{SET}-{index}", "--", "sh", "-c", f"echo I am number {index} > /mnt/testfile")
    for file in sorted((DATA / "volumes").glob("*/testfile")):
        print(f"   {file.relative_to(DATA)}: {file.read_text().strip()}")

    demo.say("3. a pet that dies comes back as itself")
    before = demo.get("pod", f"{SET}-1")["metadata"]["uid"]
    demo.run("delete", "pod", f"{SET}-1", "--wait=false")
    demo.until(
        f"{SET}-1 is another pod of the same name",
        lambda: (
            demo.run("get", "pod", f"{SET}-1", "--ignore-not-found", "-o", "jsonpath={.metadata.uid}", show=False)
            not in ("", before)
        ),
    )
    demo.wait_set(3)
    demo.run("exec", f"{SET}-1", "--", "cat", "/mnt/testfile")

    demo.say("4. cattle, for contrast: a Deployment's pods have random names, and a lost one is replaced by a stranger")
    demo.run("apply", "-f", str(EXAMPLES / "deployment.yaml"))
    demo.until("deployment 3/3 ready", demo.ready("deployment", "cattle", 3))
    demo.run("get", "pods", "-l", "app=cattle")

    demo.say("5. up in ascending, down in descending order")
    demo.run("scale", "statefulset", SET, "--replicas=5")
    demo.wait_set(5)
    demo.run("scale", "statefulset", SET, "--replicas=2")
    demo.wait_set(2)
    demo.run("get", "events", "--field-selector", f"involvedObject.name={SET}", "--sort-by=.metadata.creationTimestamp")
    demo.run("get", "pvc")

    demo.say("go on")
    print(f"   export KUBECONFIG={DATA}/kubeconfig.yaml; kubectl get pods")
    print(f"   to stop, with all its pods: {sys.executable} -m stablehand down --pods --data-dir {DATA}")


if __name__ == "__main__":
    main()
