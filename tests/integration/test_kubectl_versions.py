"""The same commands through three kubectls: 1.20 (Debian 12's, reads /openapi/v2), 1.32 and 1.37 (protobuf, OpenAPI v3)."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.clienttools import CRD, Tool, program
from tests.integration.conftest import Cluster

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "nginx:1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
# Every typed command that all three versions have against this server; they send protobuf.
CREATED = {
    "deployment web --image=nginx --replicas=2 --port=80": "deployment.apps/web",
    "service clusterip ip --tcp=80:8080": "service/ip",
    "service nodeport port --tcp=80": "service/port",
    "service externalname out --external-name=example.com": "service/out",
    "service loadbalancer lb --tcp=80:80": "service/lb",
    "configmap cm --from-literal=a=1": "configmap/cm",
    "secret generic sec --from-literal=p=s3": "secret/sec",
    "secret docker-registry reg --docker-server=r.io --docker-username=u --docker-password=p": "secret/reg",
    "ingress ing --class=c --rule=a.com/x*=ip:80,tls=t": "ingress.networking.k8s.io/ing",
    "job job --image=busybox": "job.batch/job",
    "quota q --hard=configmaps=50": "resourcequota/q",
    "role r --verb=get,list --resource=pods,deployments.apps": "role.rbac.authorization.k8s.io/r",
    "rolebinding rb --role=r --serviceaccount=x:y": "rolebinding.rbac.authorization.k8s.io/rb",
    "sa acc": "serviceaccount/acc",
    "clusterrole NS --verb=get --resource=nodes": "clusterrole.rbac.authorization.k8s.io/NS",
    "clusterrolebinding NS --clusterrole=view --user=bob": "clusterrolebinding.rbac.authorization.k8s.io/NS",
    "priorityclass NS --value=100": "priorityclass.scheduling.k8s.io/NS",
}


@pytest.fixture(params=["1.20", "1.32", "1.37"], scope="module")
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kubectl(control_plane: Cluster, version: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tool]:
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40]
    yield Tool(control_plane, program("kubectl", version), tmp_path, f"{name}-{version.replace('.', '-')}")


def test_typed_creates(kubectl: Tool, version: str) -> None:
    for command, made in CREATED.items():
        args = [a.replace("NS", kubectl.namespace) for a in command.split()]
        assert kubectl.out("create", *args) == f"{made.replace('NS', kubectl.namespace)} created"
    assert kubectl.out("run", "pod", "--image=x", "--env=A=b", "--restart=Never") == "pod/pod created"
    assert kubectl.out("expose", "deployment", "web", "--name=x", "--port=80") == "service/x exposed"
    assert "autoscaled" in kubectl.out("autoscale", "deployment", "web", "--max=3", "--cpu-percent=50")
    assert kubectl.get("pod", "pod")["spec"]["containers"][0]["env"] == [{"name": "A", "value": "b"}]
    assert kubectl.get("svc", "port")["spec"]["ports"][0]["nodePort"] >= 30000
    rule = kubectl.get("ing", "ing")["spec"]["rules"][0]["http"]["paths"][0]
    assert (rule["path"], rule["pathType"]) == ("/x", "Prefix")
    container = kubectl.get("deploy", "web")["spec"]["template"]["spec"]["containers"][0]
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}] and "stdin" not in container
    if version != "1.20":  # which asks for versions of these kinds that upstream no longer serves either
        kubectl("create", "pdb", "pdb", "--selector=app=web", "--min-available=50%")
        kubectl("create", "cronjob", "cj", "--image=x", "--schedule=* * * * *")
        kubectl("create", "job", "from", "--from=cronjob/cj")
        assert kubectl.get("pdb", "pdb")["spec"]["minAvailable"] == "50%"
        assert len(kubectl.out("create", "token", "acc", "--duration=1h").split(".")) == 3
    refused = kubectl("create", "configmap", "cm", check=False)
    assert refused.returncode == 1 and '"cm" already exists' in refused.stderr


def test_apply_and_its_kin(kubectl: Tool, version: str) -> None:
    made = kubectl.out("apply", "-f", "-", stdin=WEB)
    assert made.splitlines() == ["deployment.apps/web created", "service/web created"]
    assert kubectl.out("apply", "-f", "-", stdin=WEB).splitlines() == [
        "deployment.apps/web unchanged",
        "service/web unchanged",
    ]
    revision = "deployment.kubernetes.io/revision"
    kubectl.cluster.until(lambda: revision in kubectl.get("deployment", "web")["metadata"]["annotations"])
    assert kubectl.get("deployment", "web")["metadata"]["generation"] == 1  # noting the revision changes no spec
    changed = WEB.replace("nginx:1", "nginx:2")
    diff = kubectl("diff", "-f", "-", stdin=changed, check=False)
    assert diff.returncode == 1 and "+      - image: nginx:2" in diff.stdout
    assert "web configured (server dry run)" in kubectl.out("apply", "--dry-run=server", "-f", "-", stdin=changed)
    assert "serverside-applied" in kubectl.out("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=changed)
    edit = kubectl.home / "edit.sh"
    edit.write_text('#!/bin/sh\nsed -i "s/replicas: 1/replicas: 2/" "$1"\n')
    edit.chmod(0o755)
    assert kubectl("edit", "deployment", "web", EDITOR=str(edit)).stdout.strip() == "deployment.apps/web edited"
    patch = '{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"Z","value":"1"}]}]}}}}'
    assert kubectl.out("patch", "deployment", "web", "-p", patch) == "deployment.apps/web patched"
    spec = kubectl.get("deployment", "web")["spec"]
    assert spec["replicas"] == 2 and spec["template"]["spec"]["containers"][0]["image"] == "nginx:2"
    kubectl("scale", "deployment", "web", "--replicas=3")
    kubectl("rollout", "pause", "deployment/web")
    kubectl("rollout", "resume", "deployment/web")
    kubectl("set", "image", "deployment/web", "c=nginx:3")
    history = kubectl.cluster.until(
        lambda: (text := kubectl.out("rollout", "history", "deployment/web")).count("\n") >= 5 and text
    )
    assert history.splitlines()[1].split() == ["REVISION", "CHANGE-CAUSE"]
    assert "rolled back" in kubectl.out("rollout", "undo", "deployment/web", "--to-revision=2")
    assert kubectl.out("get", "deploy", "web", "-o", "jsonpath={..image}") == "nginx:2"
    assert "web replaced" in kubectl.out("replace", "-f", "-", stdin=WEB)
    assert kubectl.out("label", "deployment", "web", "a=b") == "deployment.apps/web labeled"
    clash = kubectl("label", "deployment", "web", "a=c", check=False)
    assert "already has a value (b), and --overwrite is false" in clash.stderr
    kubectl("annotate", "service", "web", "a=b")
    assert (
        kubectl.out("get", "deploy", "-o", "custom-columns=N:.metadata.name,A:.metadata.labels.a") == "N     A\nweb   b"
    )
    if version != "1.20":
        wide = kubectl.out("get", "deployment", "web", "--subresource=scale").split()
        assert wide[:6] == ["NAME", "DESIRED", "AVAILABLE", "AGE", "web", "1"]
    kubectl("delete", "deployment,service", "web", "--cascade=foreground")
    assert kubectl.out("get", "deploy,svc", "-o", "name") == ""


def test_fields_are_explained_and_checked(kubectl: Tool, version: str) -> None:
    group = f"v{version.replace('.', '')}.example.com"
    kubectl("apply", "-f", "-", stdin=CRD.replace("GROUP", group))
    kubectl("wait", "--for=condition=Established", f"crd/crontabs.{group}")
    assert "ports to expose from the container" in kubectl.out("explain", "pod.spec.containers.ports")
    assert "serviceName" in kubectl.out("explain", "sts.spec", "--api-version=apps/v1beta1")
    assert "openAPIV3Schema" in kubectl.out("explain", "crd.spec.versions.schema")
    mine = f"apiVersion: {group}/v1\nkind: CronTab\nmetadata: {{name: a}}\nspec: {{cron: '*'}}\n"
    assert kubectl.out("apply", "-f", "-", stdin=mine) == f"crontab.{group}/a created"
    assert "When to run." in kubectl.out("explain", f"crontabs.{group}.spec.cron".replace(f".{group}", ""))
    for manifest in (WEB.replace("replicas:", "replikas:"), mine.replace("cron:", "corn:")):
        refused = kubectl("apply", "-f", "-", stdin=manifest, check=False)
        assert refused.returncode == 1 and "unknown field" in refused.stderr
    dry = kubectl.out("apply", "--dry-run=server", "-f", "-", stdin=mine.replace("name: a", "name: b"))
    assert dry == f"crontab.{group}/b created (server dry run)"


def test_a_watch_follows_changes(kubectl: Tool) -> None:
    command = [kubectl.path, "get", "configmaps", "-w", "--output-watch-events", "-l", "watched", "--no-headers"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kubectl.env) as watch:
        assert watch.stdout is not None
        kubectl("create", "configmap", "w", "--from-literal=a=b")
        kubectl("label", "configmap", "w", "watched=yes")
        assert watch.stdout.readline().split()[:3] == ["ADDED", "w", "1"]
        kubectl("patch", "configmap", "w", "-p", '{"data":{"c":"d"}}')
        assert watch.stdout.readline().split()[:3] == ["MODIFIED", "w", "2"]
        kubectl("delete", "configmap", "w")
        assert watch.stdout.readline().split()[:3] == ["DELETED", "w", "2"]
        watch.terminate()


def test_rights_and_identities(kubectl: Tool, version: str) -> None:
    kubectl("create", "role", "r", "--verb=list", "--resource=pods")
    kubectl("create", "rolebinding", "r", "--role=r", "--user=bob")
    assert kubectl("auth", "can-i", "list", "pods", "--as=bob").stdout == "yes\n"
    denied = kubectl("auth", "can-i", "delete", "pods", "--as=bob", check=False)
    assert (denied.returncode, denied.stdout) == (1, "no\n")
    assert "pods" in kubectl.out("auth", "can-i", "--list", "--as=bob")
    refused = kubectl("get", "secrets", "--as=bob", check=False).stderr
    assert 'secrets is forbidden: User "bob" cannot list resource "secrets" in API group "" in the namespace' in refused
    if version != "1.20":
        assert kubectl.out("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == "kubernetes-admin"


def test_certificate_requests_name_who_asked(kubectl: Tool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode()
    manifest = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": kubectl.namespace},
        "spec": {"request": pem, "signerName": "example.com/x", "usages": ["client auth"], "username": "root"},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    kubectl("certificate", "approve", kubectl.namespace)
    row = kubectl.out("get", "csr", kubectl.namespace, "--no-headers").split()
    assert row[2:] == ["example.com/x", "kubernetes-admin", "<none>", "Approved"]
    assert "alice" in kubectl.out("describe", "csr", kubectl.namespace)


def test_health_checks_are_listed(kubectl: Tool) -> None:
    assert kubectl.out("get", "--raw", "/readyz") == "ok"
    assert kubectl.out("get", "--raw", "/readyz?verbose").splitlines()[-1] == "readyz check passed"


def test_every_kind_is_described(kubectl: Tool) -> None:
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("create", "quota", "q", "--hard=pods=5")
    assert "Replicas:               1 desired" in kubectl.out("describe", "deployment", "web")
    assert "Selector:" in kubectl.out("describe", "service", "web") and "pods" in kubectl.out("describe", "quota", "q")
    kubectl("describe", "pods,rs,sts,ds,jobs,ing,cm,sa,pvc,netpol,hpa,limits,roles,ep")
    kubectl("describe", "ns,nodes,pv,sc,crd,clusterrolebindings,pc")
    assert "pods/log" in kubectl.out("describe", "clusterrole", "view")
