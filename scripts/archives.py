"""The archives of images that the demo and the tests run, built from Debian packages once and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LAYERS = ("aiokit", "machinery", "client", "runtime", "storage")


def archive(name: str, folder: Path, progress: Callable[[str], None] = lambda line: None) -> Path:
    """The path of <folder>/<name>.tar, built if it is missing or, for our own program's image, older than the program.

    `progress` hears every five seconds of what goes on. Raises SystemExit when it cannot be built.
    """
    path = folder / f"{name}.tar"
    if path.exists() and (name != "provisioner" or path.stat().st_mtime >= _newest_source()):
        return path
    path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    progress(f"building the image {name} ...")
    command = [sys.executable, "-m", "stablehand", "image", "build", name, "--output", str(folder)]
    build = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while True:
        try:
            status = build.wait(5)
            break
        except subprocess.TimeoutExpired:
            progress(f"building the image {name} ... {time.monotonic() - began:.0f} s")
    if status:
        raise SystemExit(status)
    progress(f"built the image {name} in {time.monotonic() - began:.0f} s ({path.stat().st_size / 1e6:.0f} MB)")
    return path


def place(source: Path, folder: Path) -> bool:
    """Puts an archive into a node's images folder, from which it is imported at start; True if it was not there yet."""
    target = folder / source.name
    folder.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return False
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return True


def _newest_source() -> float:
    """When what the provisioner runs was last changed."""
    package = ROOT / "stablehand"
    files = [file for layer in _LAYERS for file in (package / layer).rglob("*.py")]
    files += [package / "cli" / f"{name}.py" for name in ("main", "apart", "provisioner")]
    return max(file.stat().st_mtime for file in files)
