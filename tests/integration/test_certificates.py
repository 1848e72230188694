"""A user's certificate from a request to a request's answer, and a node's first, through the real kubectl."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.conftest import Cluster


def request(
    c: Cluster, name: str, signer: str, cn: str, org: str, usages: list[str], *flags: str
) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, cn), x509.NameAttribute(NameOID.ORGANIZATION_NAME, org)]
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).sign(key, hashes.SHA256())
    pem = base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()
    obj = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": pem, "signerName": signer, "usages": usages, "expirationSeconds": 3600},
    }
    c.kubectl("create", "-f", "-", *flags, stdin=json.dumps(obj))
    return key


def shown(c: Cluster, name: str) -> str:
    return c.kubectl("get", "csr", name, "--no-headers").stdout.split()[-1]


def test_a_users_certificate(control_plane: Cluster, tmp_path: Path) -> None:
    c = control_plane
    key = request(c, "jane", "kubernetes.io/kube-apiserver-client", "jane", "devs", ["client auth"])
    assert shown(c, "jane") == "Pending"
    c.kubectl("certificate", "approve", "jane")
    c.until(lambda: shown(c, "jane") == "Approved,Issued")
    config = yaml.safe_load((c.data_dir / "kubeconfig.yaml").read_text())
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    config["users"][0]["user"] = {
        "client-certificate-data": c.get("csr", "jane")["status"]["certificate"],
        "client-key-data": base64.b64encode(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        ).decode(),
    }
    mine = tmp_path / "jane.yaml"
    mine.write_text(yaml.safe_dump(config))
    who = json.loads(c.kubectl("--kubeconfig", str(mine), "auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert who["username"] == "jane" and "devs" in who["groups"]
    # Nobody takes back a decision, or makes an unreadable request.
    assert c.kubectl("certificate", "deny", "jane", check=False).returncode
    bad = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "bad"}}
    bad["spec"] = {"request": "eA==", "signerName": "a.b/c", "usages": ["client auth"]}  # type: ignore[assignment]
    answer = c.kubectl("create", "-f", "-", stdin=json.dumps(bad), check=False).stderr
    assert "PEM block type must be CERTIFICATE REQUEST" in answer


def test_a_refused_request_says_why(control_plane: Cluster) -> None:
    c = control_plane
    request(c, "wrong", "kubernetes.io/kube-apiserver-client", "x", "y", ["server auth"])
    c.kubectl("certificate", "approve", "wrong")
    c.until(lambda: shown(c, "wrong") == "Approved,Failed")
    failed = next(d for d in c.get("csr", "wrong")["status"]["conditions"] if d["type"] == "Failed")
    assert failed["reason"] == "SignerValidationFailure"
    assert failed["message"] == "invalid usage for client certificate: server auth"


def test_a_kubelet_bootstraps(control_plane: Cluster) -> None:
    c = control_plane
    c.kubectl(
        *("create", "clusterrolebinding", "bootstrap", "--group", "system:bootstrappers"),
        *("--clusterrole", "system:certificates.k8s.io:certificatesigningrequests:nodeclient"),
    )
    c.kubectl(
        *("create", "clusterrolebinding", "bootstrapper", "--group", "system:bootstrappers"),
        *("--clusterrole", "system:node-bootstrapper"),
    )
    usages = ["digital signature", "client auth"]
    who = ("--as", "system:bootstrap:abc", "--as-group", "system:bootstrappers")
    request(c, "node-1", "kubernetes.io/kube-apiserver-client-kubelet", "system:node:n1", "system:nodes", usages, *who)
    c.until(lambda: shown(c, "node-1") == "Approved,Issued")
    request(c, "serving", "kubernetes.io/kubelet-serving", "system:node:n1", "system:nodes", usages)
    assert shown(c, "serving") == "Pending"  # nobody but a person approves those
