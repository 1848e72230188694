"""Local volumes: a folder of this node for each claim, as a hostPath volume tied to the node."""

from __future__ import annotations

from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.storage.provisioner import plan
from stablehand.storage.provisioner.folders import make_folder, remove_folder


class LocalBackend:
    def __init__(self, root: Path, node_name: str = "") -> None:
        self._root = root
        self.node_name = node_name

    def provision(self, claim: Obj, storage_class: Obj) -> Obj:
        path = self._root / plan.directory(claim, storage_class)
        make_folder(path)
        return {"hostPath": {"path": str(path), "type": "DirectoryOrCreate"}}

    def remove(self, pv: Obj, storage_class: Obj | None) -> None:
        source = pv["spec"].get("hostPath") or pv["spec"].get("local") or {}
        path = Path(source.get("path") or "/")
        if not path.is_relative_to(self._root):
            raise plan.PlanError(f"{path} is not below {self._root}: left alone")
        remove_folder(self._root / plan.inside(str(path.relative_to(self._root)), "the volume's path"))
