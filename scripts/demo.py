"""`make demo`: plays the tutorial's three parts on real containers and says, step by step, what came of it.

The manifests are the article's own, those of examples/tutorial/, with this machine's NFS server in place of the author's.
What it is played on (Stablehand, kubectl, waiting) is stage's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from stage import ROOT, Stage, head, say

EXAMPLES = ROOT / "examples" / "tutorial"
SET = "statefulset-test"
NAMESPACE = "xgp-lll"
IN = f"--namespace={NAMESPACE}"
PAGE = "/usr/local/apache2/htdocs/index.html"
NUMBERS = ("123", "456", "789")


class Demo:
    def __init__(self, stage: Stage, manifests: Path) -> None:
        self.stage, self.manifests = stage, manifests
        self.run = stage.run

    def manifest(self, path: str) -> str:
        """A file or folder of the tutorial, with the address and the folder of the NFS server that runs here."""
        source = EXAMPLES / path
        nodes = self.stage.get("nodes")["items"]
        address = next(a["address"] for a in nodes[0]["status"]["addresses"] if a["type"] == "InternalIP")
        for file in sorted(source.glob("*.yaml")) if source.is_dir() else [source]:
            target = self.manifests / file.relative_to(EXAMPLES)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text().replace("192.168.1.21", address).replace("/nfsdata", str(self.stage.export))
            target.write_text(text)
        return str(self.manifests / path)

    def apply(self, path: str) -> None:
        print(f"$ kubectl apply -f examples/tutorial/{path}", flush=True)
        print(self.run("apply", "-f", self.manifest(path), show=False), end="", flush=True)

    def clear(self) -> None:
        """Removes what an earlier run left, so that every step begins as it did the first time."""

        def remove(*what: str) -> None:
            self.run("delete", "--ignore-not-found", *what, show=False)

        remove("namespace", NAMESPACE)
        remove("statefulset", SET, "--cascade=foreground")
        remove("deployment", "cattle", "nfs-client-provisioner", "--cascade=foreground")
        remove("pvc", *(f"test-{SET}-{index}" for index in range(5)))
        remove("-f", self.manifest("2-storage"))
        for volume in self.stage.get("pv")["items"]:
            if volume["spec"].get("storageClassName") == "stateful-nfs":
                remove("pv", volume["metadata"]["name"])
                folder = Path(volume["spec"]["nfs"]["path"])
                if folder.parent == self.stage.export:
                    shutil.rmtree(folder, ignore_errors=True)

    def set_is(self, count: int, *flags: str) -> None:
        self.stage.until(f"{SET} {count}/{count} ready", self.stage.set_ready(SET, count, *flags))

    def folders(self, namespace: str, file: str) -> None:
        """The claims' folders on the host and what a file in them says."""
        for claim in self.stage.get("pvc", f"--namespace={namespace}")["items"]:
            folder = f"{namespace}-{claim['metadata']['name']}-{claim['spec']['volumeName']}"
            path = self.stage.export / folder / file
            say(f"{folder}/{file}: {path.read_text().strip() if path.exists() else '(not there)'}")

    def lose(self, name: str, namespace: str) -> None:
        """Deletes a pod of the set and waits until it is there again."""
        flag = f"--namespace={namespace}"
        before = self.stage.get("pod", name, flag)
        with self.stage.follow(name, namespace):
            self.run("delete", "pod", name, *([flag] if namespace != "default" else []))

            def renewed() -> bool:
                found = self.run(
                    "get", "pod", name, flag, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}", show=False
                )
                return found not in ("", before["metadata"]["uid"]) and self.stage.set_ready(SET, 3, flag)()

            self.stage.until("", renewed)
        after = self.stage.get("pod", name, flag)
        say(f"the same name, another pod: {before['status']['podIP']} before, {after['status']['podIP']} now")

    # -- the three parts

    def order(self) -> None:
        head("1. order: a StatefulSet of three behind a headless Service")
        with self.stage.follow(SET):
            self.apply("1-order/statefulset.yaml")
            self.set_is(3)
        self.run("get", "svc,statefulset")
        self.run("get", "pods", "-o", "wide")
        head("1. names: the pods' own, in their host names and in DNS")
        for index in range(3):
            self.run("exec", f"{SET}-{index}", "--", "hostname")
        self.run("exec", f"{SET}-0", "--", "getent", "hosts", f"{SET}-1.headless-svc.default.svc.cluster.local")
        self.run("exec", f"{SET}-0", "--", "sh", "-c", "getent ahostsv4 headless-svc | grep STREAM")
        head("1. a pod that dies comes back as itself")
        self.lose(f"{SET}-1", "default")
        self.run("exec", f"{SET}-0", "--", "getent", "hosts", f"{SET}-1.headless-svc.default.svc.cluster.local")
        head("1. cattle, for contrast: a Deployment's pods, all at once, and a stranger for each that is lost")
        with self.stage.follow("cattle"):
            self.apply("deployment.yaml")
            self.run("rollout", "status", "deployment/cattle", "--timeout=60s", show=False)
            lost = self.stage.get("pods", "-l", "app=cattle")["items"][0]["metadata"]["name"]
            self.run("delete", "pod", lost)
            self.run("rollout", "status", "deployment/cattle", "--timeout=60s", show=False)
        self.run("get", "pods", "-l", "app=cattle")
        self.run("delete", "deployment", "cattle", show=False)
        head("1. up in ascending, down in descending order, one at a time")
        for count in (5, 2):
            with self.stage.follow(SET):
                self.run("scale", "statefulset", SET, f"--replicas={count}")
                self.set_is(count)
        self.run("delete", "-f", self.manifest("1-order/statefulset.yaml"), show=False)
        self.stage.until("", lambda: not self.stage.get("pods", "-l", "app=headless-pod")["items"])

    def storage(self) -> None:
        head("2. storage: an export, rights, a provisioner in a pod, a class, and a set whose pods each claim a volume")
        print("$ showmount -e", flush=True)
        subprocess.run(["/usr/sbin/showmount", "-e"], check=False)
        for file in ("rbac-rolebind.yaml", "nfs-deployment.yaml", "test-storageclass.yaml"):
            self.apply(f"2-storage/{file}")
        with self.stage.follow(SET):
            self.apply("2-storage/statefulset.yaml")
            self.set_is(3)
        self.run("get", "sc")
        self.run("get", "pvc")
        self.run("get", "pv")
        head("2. what a pod writes is in its claim's folder on this machine")
        for index in range(3):
            self.run("exec", f"{SET}-{index}", "--", "sh", "-c", f"echo I am number {index} > /mnt/testfile")
        say(f"in {self.stage.export}:")
        self.folders("default", "testfile")
        say("the next part has a class of the same name and another provisioner: this part's goes, its volumes stay")
        # The provisioner first, while it still may hand its leadership back.
        self.run("delete", "deployment", "nfs-client-provisioner", "--cascade=foreground")
        print("$ kubectl delete -f examples/tutorial/2-storage --ignore-not-found", flush=True)
        print(
            self.run("delete", "-f", self.manifest("2-storage"), "--ignore-not-found", show=False), end="", flush=True
        )
        self.run("get", "pvc")

    def experiment(self) -> None:
        head("3. the experiment: the same in a namespace, behind a virtual IP, each pod with a page of its own")
        self.apply("3-experiment/namespace.yaml")
        print("$ kubectl apply -f examples/tutorial/3-experiment", flush=True)
        self.run("apply", "-f", self.manifest("3-experiment"), show=False)
        with self.stage.follow(SET, NAMESPACE):
            self.set_is(3, IN)
        for index, number in enumerate(NUMBERS):
            self.run("exec", IN, f"{SET}-{index}", "--", "sh", "-c", f"echo {number} > {PAGE}")
        say(f"in {self.stage.export}:")
        self.folders(NAMESPACE, "index.html")
        self.pages()
        address = self.stage.get("svc", "headless-svc", IN)["spec"]["clusterIP"]
        answers = Counter(self.stage.curl(address) for _ in range(30))
        say(f"curl {address} (the Service), 30 times: " + ", ".join(f"{k} x{n}" for k, n in sorted(answers.items())))
        head("3. a pet that dies: the same name, the same claim, the same page")
        self.lose(f"{SET}-1", NAMESPACE)
        self.pages()
        head("3. cattle that dies takes its page with it")
        self.run("apply", IN, "-f", str(EXAMPLES / "deployment.yaml"))
        self.run("rollout", "status", IN, "deployment/cattle", "--timeout=60s", show=False)
        before = [pod["metadata"]["name"] for pod in self.stage.get("pods", IN, "-l", "app=cattle")["items"]]
        lost = before[0]
        for name in before:
            self.run("exec", IN, name, "--", "sh", "-c", f"echo 123 > {PAGE}")
        self.run("delete", "pod", IN, lost)
        self.run("rollout", "status", IN, "deployment/cattle", "--timeout=60s", show=False)
        for pod in self.stage.get("pods", IN, "-l", "app=cattle")["items"]:
            name, address = pod["metadata"]["name"], pod["status"]["podIP"]
            fate = "was there before" if name in before else "is new"
            say(f"{name} {fate}: {self.stage.curl(address)}")
        head("3. the whole set goes and comes back: each pod finds its own data")
        self.run("delete", "statefulset", SET, IN)
        self.run("get", "pvc", IN)
        with self.stage.follow(SET, NAMESPACE):
            self.apply("3-experiment/statefulset.yaml")
            self.set_is(3, IN)
        self.pages()
        head("3. a deleted claim: its volume is Released, its folder stays")
        claim = self.stage.get("pvc", f"test-{SET}-2", IN)
        volume = claim["spec"]["volumeName"]
        self.run("scale", IN, "statefulset", SET, "--replicas=2")
        self.stage.until("", self.stage.set_ready(SET, 2, IN))
        self.run("delete", "pvc", IN, f"test-{SET}-2")
        self.stage.until("", lambda: self.stage.get("pv", volume)["status"]["phase"] == "Released")
        self.run("get", "pv", volume)
        page = self.stage.export / f"{NAMESPACE}-test-{SET}-2-{volume}" / "index.html"
        say(f"{page.parent.name}/index.html: {page.read_text().strip()}")

    def pages(self) -> None:
        for index in range(3):
            address = self.stage.get("pod", f"{SET}-{index}", IN)["status"]["podIP"]
            say(f"curl {address} ({SET}-{index}): {self.stage.curl(address)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="images and data go here; default: .cache")
    cache = parser.parse_args().cache.absolute()
    if os.geteuid() != 0:
        sys.exit("the demo runs containers: use sudo make demo")
    began = time.monotonic()
    stage = Stage(cache)
    head("Stablehand, and the images that registries would give, built from Debian packages")
    stage.start("httpd", "provisioner")
    with tempfile.TemporaryDirectory(prefix="stablehand-demo-") as folder:
        demo = Demo(stage, Path(folder))
        demo.clear()
        say(
            f"the article's manifests are in {EXAMPLES.relative_to(ROOT)}; where they say 192.168.1.21:/nfsdata, this machine's"
        )
        say(f"own NFS server stands in: {stage.export}")
        demo.order()
        demo.storage()
        demo.experiment()
    head(f"that was the tutorial, in {time.monotonic() - began:.0f} s. Go on:")
    say(f"export KUBECONFIG={stage.data}/kubeconfig.yaml; kubectl get pods --all-namespaces")
    program = f"{sys.executable} -m stablehand"
    say("three MariaDB servers that replicate from the first, the article's database:")
    say(f"  {program} image build mariadb --data-dir {stage.data} && kubectl apply -f examples/mariadb")
    say("stop it, with all its pods; the data stays:")
    say(f"  {program} down --pods --data-dir {stage.data}")
    say("stop it and remove everything: make clean")


if __name__ == "__main__":
    main()
