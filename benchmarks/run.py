"""`make bench`: prints every figure, those of the control plane (shared/bench/controlplane.py) and those of the node.

Usage: run.py [node|controlplane]...; both without arguments.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import node  # noqa: E402
from tests.integration.conftest import Cluster  # noqa: E402

# What Kubernetes 1.36 with etcd 3.6 gave on such a machine: as it is / with its client limits raised.
UPSTREAM = {
    "ordered_per_pod_ms": "104 / 16",
    "rolling_update_per_pod_ms": "202 / 24",
    "ordered_scale_down_per_pod_ms": "103 / 8",
    "parallel_pods_per_s": "19.5 / 239",
    "parallel_scale_down_pods_per_s": "19.5 / 563",
    "api_creates_per_s": "1850",
    "watch_events_missed": "0",
    "create_to_watch_p99_ms": "22",
    "api_gets_per_s": "4000",
    "list_2000_ms": "17",
}


def control_plane(folder: Path) -> None:
    script = ROOT.parent / "shared" / "bench" / "controlplane.py"
    if not script.exists():
        print(f"the control plane's figures are taken by {script}, which is not here")
        return
    cluster = Cluster(folder / "data", "--no-node")
    try:
        kubeconfig, out = str(cluster.data_dir / "kubeconfig.yaml"), folder / "figures.json"
        command = [sys.executable, str(script), kubeconfig, "--json", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        figures = json.loads(out.read_text())
        for name, upstream in UPSTREAM.items():
            value = figures[name]
            print(
                f"{name:32} {value if isinstance(value, int | float) else value[0]:10.2f}   Kubernetes 1.36: {upstream}"
            )
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
