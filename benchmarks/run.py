"""`make bench`: starts a control plane and runs shared/bench/controlplane.py against it, printing each figure."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.conftest import Cluster  # noqa: E402


def main() -> None:
    script = ROOT.parent / "shared" / "bench" / "controlplane.py"
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "data", "--no-node")
        try:
            print(cluster.data_dir.with_suffix(".log").read_text())
            subprocess.run(
                [sys.executable, str(script), str(cluster.data_dir / "kubeconfig.yaml"), *sys.argv[1:]], check=True
            )
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
