"""What every kind of provisioner does with folders: make, remove, rename. Blocking; callers use a thread."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from stablehand.machinery.types import Obj


class Backend(Protocol):
    """One kind of volume. Both raise PlanError or OSError."""

    node_name: str

    def provision(self, claim: Obj, storage_class: Obj) -> Obj:
        """Makes the folder; answers the volume's source."""

    def remove(self, pv: Obj, storage_class: Obj | None) -> None:
        """Does with the folder what its class says; a folder that is gone already is success."""


def make_folder(path: Path) -> None:
    """mkdir -p, then open to all whatever the umask says."""
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, 0o777)


def remove_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
