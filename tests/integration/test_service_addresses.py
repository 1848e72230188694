"""ServiceCIDRs and IPAddresses through kubectl."""

from __future__ import annotations

import json

from tests.integration.conftest import Cluster


def test_a_second_range_is_used_and_let_go(control_plane: Cluster) -> None:
    c = control_plane
    assert c.kubectl("get", "servicecidr", "kubernetes", "-o", "jsonpath={.spec.cidrs[0]}").stdout == "10.96.0.0/16"
    meta = {"name": "more"}
    cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": meta,
        "spec": {"cidrs": ["10.50.0.0/24"]},
    }
    c.kubectl("apply", "-f", "-", stdin=json.dumps(cidr))
    c.until(lambda: (c.get("servicecidr", "more").get("status") or {}).get("conditions"))
    c.kubectl("create", "service", "clusterip", "there", "--tcp", "80", "--clusterip", "10.50.0.7")
    parent = c.get("ipaddress", "10.50.0.7")["spec"]["parentRef"]
    assert (parent["resource"], parent["namespace"], parent["name"]) == ("services", "default", "there")
    c.kubectl("delete", "servicecidr", "more", "--wait=false")

    def why() -> str:
        conditions = c.get("servicecidr", "more")["status"]["conditions"]
        return str(conditions[0]["reason"])

    c.until(lambda: why() == "Terminating")
    c.kubectl("delete", "svc", "there")
    c.until(lambda: c.kubectl("get", "servicecidr", "more", check=False).returncode != 0)
    assert c.kubectl("get", "ipaddress", "10.50.0.7", check=False).returncode != 0
    refused = c.kubectl(
        "create", "service", "clusterip", "there", "--tcp", "80", "--clusterip", "10.50.0.7", check=False
    )
    assert "the provided network does not match the current range" in refused.stderr
