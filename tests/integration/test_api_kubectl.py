"""The API through the real kubectl, on a real control plane without a node."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.integration.conftest import Cluster

SHARED = Path(__file__).resolve().parents[3] / "shared"
TUTORIAL = SHARED / "tutorial"

pytestmark = pytest.mark.skipif(not TUTORIAL.exists(), reason="shared/ is not beside the checkout")


def test_apply_get_and_delete(control_plane: Cluster) -> None:
    c = control_plane
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: one}\n"
    assert "created" in c.kubectl("apply", "-f", "-", stdin=config).stdout
    assert "unchanged" in c.kubectl("apply", "-f", "-", stdin=config).stdout
    assert "configured" in c.kubectl("apply", "-f", "-", stdin=config.replace("one}", "z}")).stdout
    assert c.get("cm", "a")["data"] == {"x": "z"}
    c.kubectl("delete", "cm", "a")
    assert "NotFound" in c.kubectl("get", "cm", "a", check=False).stderr


def test_server_side_apply_names_the_conflict(control_plane: Cluster) -> None:
    c = control_plane
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {x: '1'}\n"
    c.kubectl("apply", "--server-side", "--field-manager", "one", "-f", "-", stdin=config)
    other = config.replace("'1'", "'2'")
    refused = c.kubectl("apply", "--server-side", "--field-manager", "two", "-f", "-", stdin=other, check=False)
    assert 'conflict with "one"' in refused.stderr
    c.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager", "two", "-f", "-", stdin=other)
    assert c.get("cm", "ssa")["data"] == {"x": "2"}


def test_invalid_manifest_names_the_field(control_plane: Cluster) -> None:
    bad = (TUTORIAL / "1-order" / "statefulset.yaml").read_text().replace("replicas: 3", "replicas: -1")
    refused = control_plane.kubectl("apply", "-f", "-", stdin=bad, check=False)
    assert "spec.replicas" in refused.stderr and "must be greater than or equal to 0" in refused.stderr
    control_plane.kubectl("delete", "svc", "headless-svc")


def test_tutorial_manifests_are_taken_unchanged(control_plane: Cluster) -> None:
    c = control_plane
    applied = c.kubectl("apply", "-f", str(TUTORIAL / "2-storage"))
    assert "deployment.extensions/nfs-client-provisioner created" in applied.stdout
    assert "deprecated" in applied.stderr
    c.kubectl("apply", "-f", str(TUTORIAL / "3-experiment" / "namespace.yaml"))
    c.kubectl("delete", "sc", "stateful-nfs")  # another provisioner's: a class's provisioner cannot change
    c.kubectl("apply", "-f", str(TUTORIAL / "3-experiment"))
    assert c.get("clusterrole", "nfs-provisioner-runner")["metadata"].get("namespace") is None
    c.until(lambda: c.get("pvc")["items"])
    claim = c.get("pvc", "test-statefulset-test-0")
    assert claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"] == "stateful-nfs"
    table = c.kubectl("get", "sts").stdout.splitlines()
    assert table[0].split() == ["NAME", "READY", "AGE"]
    assert table[1].split()[:2] == ["statefulset-test", "0/3"]
    c.kubectl("delete", "namespace", "xgp-lll", "--timeout=30s")


def test_typed_commands_that_send_protobuf(control_plane: Cluster) -> None:
    c = control_plane
    c.kubectl("create", "namespace", "typed")
    c.kubectl("create", "-n", "typed", "configmap", "a", "--from-literal=x=y")
    c.kubectl("create", "-n", "typed", "secret", "generic", "s", "--from-literal=p=q")
    c.kubectl("create", "-n", "typed", "deployment", "d", "--image=httpd", "--replicas=2", "--port=80")
    c.kubectl("create", "-n", "typed", "service", "clusterip", "v", "--tcp=80:8080")
    c.kubectl("create", "-n", "typed", "role", "r", "--verb=get,list", "--resource=pods")
    c.kubectl("create", "-n", "typed", "rolebinding", "b", "--role=r", "--serviceaccount=typed:default")
    c.kubectl("create", "-n", "typed", "quota", "q", "--hard=pods=50")
    c.kubectl("create", "-n", "typed", "job", "j", "--image=busybox", "--", "true")
    assert c.get("-n", "typed", "cm", "a")["data"] == {"x": "y"}
    assert c.get("-n", "typed", "secret", "s")["data"] == {"p": "cQ=="}
    assert (
        c.get("-n", "typed", "deploy", "d")["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
        == 80
    )
    who = ["--as", "system:serviceaccount:typed:default"]
    assert c.kubectl("auth", "can-i", "list", "pods", "-n", "typed", *who).stdout.strip() == "yes"
    c.kubectl("scale", "-n", "typed", "deploy", "d", "--replicas=1")
    assert c.get("-n", "typed", "deploy", "d")["spec"]["replicas"] == 1


def test_rbac_is_enforced(control_plane: Cluster) -> None:
    c = control_plane
    assert c.kubectl("auth", "can-i", "list", "pods", "--as", "bob", check=False).stdout.strip() == "no"
    refused = c.kubectl("get", "pods", "--as", "bob", check=False).stderr
    assert 'User "bob" cannot list resource "pods" in API group "" in the namespace "default"' in refused


def test_what_was_acknowledged_survives_kill_9(control_plane: Cluster) -> None:
    c = control_plane
    c.kubectl("apply", "-f", "-", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n")
    c.stop(signal.SIGKILL)
    c.start()
    assert c.get("cm", "kept")["data"] == {"a": "b"}


def test_a_second_up_says_that_one_runs(control_plane: Cluster) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "stablehand", "up", "--no-node", "--data-dir", str(control_plane.data_dir)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "runs already" in done.stderr and "Traceback" not in done.stderr


def test_fields_said_twice_are_refused(control_plane: Cluster) -> None:
    path = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict"
    twice = '{"metadata":{"name":"twice"},"data":{"a":"1","a":"2"},"foo":1}'
    refused = control_plane.kubectl("create", "--raw", path, "-f", "-", stdin=twice, check=False).stderr
    assert 'strict decoding error: unknown field "foo", duplicate field "data.a"' in refused


def test_a_timeout_that_is_none(control_plane: Cluster) -> None:
    refused = control_plane.kubectl("get", "--raw", "/api/v1/nodes?timeout=soon", check=False).stderr
    assert "invalid timeout specified in the request URL" in refused


def test_what_has_no_effect_says_so(control_plane: Cluster) -> None:
    driver = "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {name: idle.example.com}\nspec: {}\n"
    told = control_plane.kubectl("apply", "-f", "-", stdin=driver).stderr
    assert "Warning: CSIDriver has no effect in Stablehand" in told
    control_plane.kubectl("delete", "csidriver", "idle.example.com")
