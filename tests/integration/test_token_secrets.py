"""Service account tokens kept in Secrets: filled, good for requests, void and gone with what they hang on."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.integration.conftest import Cluster


def secret(name: str, account: str, **notes: str) -> str:
    meta = {"name": name, "annotations": {"kubernetes.io/service-account.name": account, **notes}}
    return json.dumps(
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": meta}
    )


def token(c: Cluster, name: str) -> str:
    data: dict[str, Any] = c.get("secret", name).get("data") or {}
    return base64.b64decode(data.get("token", "")).decode()


def whoami(c: Cluster, token: str) -> Any:
    config = (c.data_dir / "kubeconfig.yaml").read_text().splitlines()
    anonymous = [line for line in config if "client-certificate-data" not in line and "client-key-data" not in line]
    path = c.data_dir.parent / "token.yaml"
    path.write_text("\n".join(anonymous))
    return c.kubectl("--kubeconfig", str(path), "--token", token, "auth", "whoami", "-o", "json", check=False)


def test_a_token_lives_in_its_secret(control_plane: Cluster) -> None:
    c = control_plane
    c.kubectl("create", "sa", "robot")
    c.kubectl("create", "-f", "-", stdin=secret("robot-token", "robot"))
    jwt = c.until(lambda: token(c, "robot-token"))
    stored = c.get("secret", "robot-token")
    assert set(stored["data"]) == {"token", "ca.crt", "namespace"}
    uid = c.get("sa", "robot")["metadata"]["uid"]
    assert stored["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == uid
    who = json.loads(whoami(c, jwt).stdout)["status"]["userInfo"]
    assert who["username"] == "system:serviceaccount:default:robot"
    c.until(lambda: "kubernetes.io/legacy-token-last-used" in (c.get("secret", "robot-token")["metadata"]["labels"]))
    assert "token:" in c.kubectl("describe", "secret", "robot-token").stdout

    c.kubectl("label", "secret", "robot-token", "kubernetes.io/legacy-token-invalid-since=2026-01-01")
    assert whoami(c, jwt).returncode
    c.kubectl("label", "secret", "robot-token", "kubernetes.io/legacy-token-invalid-since-")
    assert not whoami(c, jwt).returncode
    c.kubectl("delete", "sa", "robot")
    assert whoami(c, jwt).returncode
    c.until(lambda: c.kubectl("get", "secret", "robot-token", check=False).returncode)


def test_secrets_of_no_account_go(control_plane: Cluster) -> None:
    c = control_plane
    c.kubectl("create", "sa", "other")
    c.kubectl("create", "-f", "-", stdin=secret("foreign", "other", **{"kubernetes.io/service-account.uid": "x"}))
    c.kubectl("create", "-f", "-", stdin=secret("nobodys", "nobody"))
    for name in ("foreign", "nobodys"):
        c.until(lambda name=name: c.kubectl("get", "secret", name, check=False).returncode)


def test_a_bound_token_dies_with_its_secret(control_plane: Cluster) -> None:
    c = control_plane
    c.kubectl("create", "sa", "bound")
    c.kubectl("create", "secret", "generic", "anchor")
    jwt = c.kubectl(
        "create", "token", "bound", "--bound-object-kind", "Secret", "--bound-object-name", "anchor"
    ).stdout.strip()
    assert not whoami(c, jwt).returncode
    c.kubectl("delete", "secret", "anchor")
    assert whoami(c, jwt).returncode
