"""Helm 3 and 4: a chart with a StatefulSet, a definition and an object of it, through its whole life."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.clienttools import CRD, Tool, program
from tests.integration.conftest import Cluster

SET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: {{ .Release.Name }}-db}
spec:
  serviceName: db
  replicas: 0
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: x, volumeMounts: [{name: d, mountPath: /d}]}]}
  volumeClaimTemplates:
  - metadata: {name: d}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: GROUP/v1
kind: CronTab
metadata: {name: w}
spec: {cron: every-{{ .Values.minutes | default 1 }}}
"""


@pytest.mark.parametrize("bundle", ["1.20", "1.37"], ids=["helm3", "helm4"])
def test_a_release_from_install_to_uninstall(control_plane: Cluster, bundle: str, tmp_path: Path) -> None:
    c = control_plane
    namespace = f"helm-{bundle.replace('.', '-')}"
    helm = Tool(c, program("helm", bundle), tmp_path, namespace)
    group = f"{namespace}.example.com"
    helm("create", "web")
    (tmp_path / "web" / "crds").mkdir()
    (tmp_path / "web" / "crds" / "crontab.yaml").write_text(CRD.replace("GROUP", group))
    (tmp_path / "web" / "templates" / "set.yaml").write_text(SET.replace("GROUP", group))
    wait = ("--set", "replicaCount=0", "--wait", "--timeout", "30s")
    every = ("-n", namespace, "get", f"crontabs.{group}", "w", "-o", "jsonpath={.spec.cron}")

    helm("install", "rel", "web", *wait)
    assert c.kubectl(*every).stdout == "every-1"
    helm("upgrade", "rel", "web", "--set", "minutes=3", *wait)
    assert c.kubectl(*every).stdout == "every-3"
    helm("rollback", "rel", "1", "--wait", "--timeout", "30s")
    assert c.kubectl(*every).stdout == "every-1"
    (release,) = json.loads(helm.out("list", "-o", "json"))
    assert (release["name"], release["revision"], release["status"]) == ("rel", "3", "deployed")
    assert len(json.loads(helm.out("history", "rel", "-o", "json"))) == 3
    # A pod that never gets ready is waited for, and the release says so.
    late = helm("upgrade", "rel", "web", "--set", "replicaCount=1", "--wait", "--timeout", "1s", check=False)
    assert late.returncode != 0 and "UPGRADE FAILED" in late.stderr
    helm("uninstall", "rel", "--wait", "--timeout", "30s")
    assert (
        json.loads(helm.out("list", "--all", "-o", "json") if bundle == "1.20" else helm.out("list", "-o", "json"))
        == []
    )
    assert c.kubectl("-n", namespace, "get", "sts,deploy,svc,secret", "-o", "name").stdout == ""
