"""`make bench`: prints every figure, those of the control plane (shared/bench/controlplane.py) and those of the node.

Usage: run.py [node|controlplane]...; both without arguments.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import node  # noqa: E402
from tests.integration.conftest import Cluster  # noqa: E402


def control_plane(folder: Path) -> None:
    script = ROOT.parent / "shared" / "bench" / "controlplane.py"
    if not script.exists():
        print(f"the control plane's figures are taken by {script}, which is not here")
        return
    cluster = Cluster(folder / "data", "--no-node")
    try:
        subprocess.run([sys.executable, str(script), str(cluster.data_dir / "kubeconfig.yaml")], check=True)
    finally:
        cluster.stop()


def main() -> None:
    which = sys.argv[1:] or ["controlplane", "node"]
    # Beside the checkout's caches, so that image archives can be linked instead of copied.
    (ROOT / ".cache").mkdir(exist_ok=True)
    for name, measure in (("controlplane", control_plane), ("node", node.main)):
        if name in which:
            with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as folder:
                measure(Path(folder))


if __name__ == "__main__":
    main()
