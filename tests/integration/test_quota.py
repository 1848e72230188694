"""ResourceQuotas through kubectl: refused when it is too much, told what is used, given back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from tests.integration.conftest import Cluster


def quota(c: Cluster, namespace: str, hard: dict[str, str]) -> None:
    meta = {"name": "q", "namespace": namespace}
    obj = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
    c.kubectl("create", "ns", namespace)
    c.until(lambda: c.kubectl("get", "cm", "kube-root-ca.crt", "-n", namespace, check=False).returncode == 0)
    c.kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    c.until(lambda: c.get("quota", "q", "-n", namespace).get("status"))


def used(c: Cluster, namespace: str) -> dict[str, str]:
    return c.get("quota", "q", "-n", namespace)["status"]["used"]  # type: ignore[no-any-return]


def test_counts_of_any_kind_are_kept(control_plane: Cluster) -> None:
    c, n = control_plane, "counted"
    quota(c, n, {"configmaps": "2", "count/deployments.apps": "1", "services.nodeports": "0"})
    c.until(lambda: used(c, n)["configmaps"] == "1")  # kube-root-ca.crt
    c.kubectl("create", "cm", "a", "-n", n)
    refused = c.kubectl("create", "cm", "b", "-n", n, check=False).stderr
    assert "exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2" in refused
    c.kubectl("delete", "cm", "a", "-n", n)
    c.until(lambda: used(c, n)["configmaps"] == "1")
    c.kubectl("create", "deployment", "d", "--image", "x", "-n", n)
    assert used(c, n)["count/deployments.apps"] == "1"
    refused = c.kubectl("create", "svc", "nodeport", "s", "--tcp", "80", "-n", n, check=False).stderr
    assert "exceeded quota: q, requested: services.nodeports=1" in refused
    c.kubectl("delete", "ns", n, "--wait=false")


def test_two_at_a_time_do_not_both_get_the_last(control_plane: Cluster) -> None:
    c, n = control_plane, "raced"
    quota(c, n, {"secrets": "3"})
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda i: c.kubectl("create", "secret", "generic", f"s{i}", "-n", n, check=False).returncode, range(8)
            )
        )
    assert made.count(0) == 3 and len(c.get("secrets", "-n", n)["items"]) == 3
    c.kubectl("delete", "ns", n, "--wait=false")


def test_pods_must_say_what_they_need(control_plane: Cluster) -> None:
    c, n = control_plane, "computed"
    quota(c, n, {"limits.cpu": "1"})
    c.until(lambda: c.kubectl("get", "sa", "default", "-n", n, check=False).returncode == 0)
    refused = c.kubectl("run", "p", "--image", "x", "-n", n, check=False).stderr
    assert "failed quota: q: must specify limits.cpu for: p" in refused
    override = {"spec": {"containers": [{"name": "p", "image": "x", "resources": {"limits": {"cpu": "600m"}}}]}}
    flags = ["--image", "x", "-n", n, "--overrides", json.dumps(override)]
    c.kubectl("run", "p", *flags)
    assert used(c, n) == {"limits.cpu": "600m"}
    assert "requested: limits.cpu=600m, used: limits.cpu=600m" in c.kubectl("run", "p2", *flags, check=False).stderr
    c.kubectl("delete", "ns", n, "--wait=false")
