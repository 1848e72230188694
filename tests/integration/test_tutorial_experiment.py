"""The tutorial's third part on real containers: pets against cattle, in a namespace, behind a virtual IP."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Cluster
from tests.integration.tutorial import SET, Tutorial, lose, set_ready, tutorial

NAMESPACE = "xgp-lll"
IN = f"--namespace={NAMESPACE}"
PAGE = "/usr/local/apache2/htdocs/index.html"
NUMBERS = ("123", "456", "789")

CATTLE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: cattle}
spec:
  replicas: 1
  selector: {matchLabels: {app: cattle}}
  template:
    metadata: {labels: {app: cattle}}
    spec: {containers: [{name: myhttpd, image: httpd}]}
"""


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    base = tmp_path_factory.mktemp("experiment")
    with tutorial(base, "3-experiment", 2, "httpd", "provisioner", kubelet_port=10272, nfs=True) as running:
        yield running


@pytest.fixture(scope="module")
def c(part: Tutorial) -> Cluster:
    return part.cluster


def page(address: str) -> str:
    """What a web server says, asked from the host, on a connection of its own."""
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        return str(answer.read().decode().strip())


def addresses(c: Cluster) -> list[str]:
    return [c.get("pod", f"{SET}-{index}", IN)["status"]["podIP"] for index in range(3)]


def test_manifests_apply_in_their_namespace(c: Cluster, part: Tutorial) -> None:
    c.kubectl("apply", "-f", str(part.manifests / "namespace.yaml"))
    c.kubectl("apply", "-f", str(part.manifests))
    c.until(lambda: set_ready(c, 3, SET, IN), 90)
    # A namespace on cluster-scoped objects is ignored.
    for kind, name in (("sc", "stateful-nfs"), ("clusterrole", "nfs-provisioner-runner")):
        assert "namespace" not in c.get(kind, name)["metadata"]
    assert c.get("svc", "headless-svc", IN)["spec"]["clusterIP"].startswith("10.96.")


def test_each_pod_serves_its_own_number(c: Cluster, part: Tutorial) -> None:
    for index, number in enumerate(NUMBERS):
        c.kubectl("exec", IN, f"{SET}-{index}", "--", "sh", "-c", f"echo {number} > {PAGE}")
    for index, number in enumerate(NUMBERS):
        folder = part.folder(c.get("pvc", f"test-{SET}-{index}", IN))
        assert folder.name.startswith(f"{NAMESPACE}-test-{SET}-{index}-pvc-")
        assert (folder / "index.html").read_text() == f"{number}\n"
    assert [page(address) for address in addresses(c)] == list(NUMBERS)


def test_the_services_address_balances_over_all_three(c: Cluster) -> None:
    address = c.get("svc", "headless-svc", IN)["spec"]["clusterIP"]
    answers = [page(address) for _ in range(60)]
    assert set(answers) == set(NUMBERS)
    # Inside, by name.
    inside = c.kubectl("exec", IN, f"{SET}-0", "--", "sh", "-c", "for i in 1 2 3; do curl -s headless-svc; done").stdout
    assert set(inside.split()) <= set(NUMBERS) and len(inside.split()) == 3


def test_a_deleted_pod_serves_its_number_again(c: Cluster) -> None:
    claim = c.get("pvc", f"test-{SET}-1", IN)
    _, after = lose(c, f"{SET}-1", IN)
    assert c.get("pvc", f"test-{SET}-1", IN)["metadata"]["uid"] == claim["metadata"]["uid"]
    assert page(after["status"]["podIP"]) == "456"
    address = c.get("svc", "headless-svc", IN)["spec"]["clusterIP"]
    assert {page(address) for _ in range(60)} == set(NUMBERS)


def test_a_deployments_pod_takes_its_page_with_it(c: Cluster) -> None:
    def only() -> tuple[str, str]:
        c.kubectl("rollout", "status", IN, "deployment/cattle", "--timeout=60s")
        (pod,) = [
            p for p in c.get("pods", IN, "-l", "app=cattle")["items"] if not p["metadata"].get("deletionTimestamp")
        ]
        return pod["metadata"]["name"], pod["status"]["podIP"]

    c.kubectl("apply", IN, "-f", "-", stdin=CATTLE)
    name, address = only()
    c.kubectl("exec", IN, name, "--", "sh", "-c", f"echo 123 > {PAGE}")
    assert page(address) == "123"
    c.kubectl("delete", "pod", IN, name)
    other, address = only()
    assert other != name and "123" not in page(address)
    c.kubectl("delete", "deployment", IN, "cattle")


def test_a_set_that_comes_back_finds_its_data(c: Cluster, part: Tutorial) -> None:
    def claims() -> dict[str, str]:
        return {claim["metadata"]["uid"]: claim["status"]["phase"] for claim in c.get("pvc", IN)["items"]}

    before = claims()
    c.kubectl("scale", IN, "statefulset", SET, "--replicas=1")
    c.until(lambda: set_ready(c, 1, SET, IN))
    assert claims() == before
    c.kubectl("delete", IN, "statefulset", SET)
    c.until(lambda: not c.get("pods", IN, "-l", "app=headless-pod")["items"])
    assert claims() == before and set(before.values()) == {"Bound"}
    c.kubectl("apply", "-f", str(part.manifests / "statefulset.yaml"))
    c.until(lambda: set_ready(c, 3, SET, IN))
    assert claims() == before
    assert [page(address) for address in addresses(c)] == list(NUMBERS)


def test_a_deleted_claim_leaves_its_volume_released_and_its_folder(c: Cluster, part: Tutorial) -> None:
    claim = c.get("pvc", f"test-{SET}-2", IN)
    c.kubectl("scale", IN, "statefulset", SET, "--replicas=2")
    c.until(lambda: set_ready(c, 2, SET, IN))
    c.kubectl("delete", "pvc", IN, f"test-{SET}-2")
    c.until(lambda: c.get("pv", claim["spec"]["volumeName"])["status"]["phase"] == "Released")
    assert (part.folder(claim) / "index.html").read_text() == "789\n"
    # A new claim of the same name is another claim: it begins empty.
    c.kubectl("scale", IN, "statefulset", SET, "--replicas=3")
    c.until(lambda: set_ready(c, 3, SET, IN))
    fresh = c.get("pvc", f"test-{SET}-2", IN)
    assert fresh["metadata"]["uid"] != claim["metadata"]["uid"]
    assert list(part.folder(fresh).iterdir()) == []
