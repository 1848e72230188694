"""NFS volumes: a folder of one export for each claim, as nfs-subdir-external-provisioner makes them.

`root` is where the export is mounted (or the exported folder itself); `server`:`path` is what pods mount.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.storage.provisioner import plan
from stablehand.storage.provisioner.folders import make_folder, remove_folder


class NfsBackend:
    node_name = ""

    def __init__(self, root: Path, server: str, path: str) -> None:
        self._root, self._server, self._path = root, server, path

    def provision(self, claim: Obj, storage_class: Obj) -> Obj:
        folder = plan.directory(claim, storage_class)
        make_folder(self._root / folder)
        return {"nfs": {"server": self._server, "path": posixpath.join(self._path, folder)}}

    def remove(self, pv: Obj, storage_class: Obj | None) -> None:
        if storage_class is None:
            raise plan.PlanError(f"storage class {pv['spec'].get('storageClassName')!r} not found")
        exported = (pv["spec"].get("nfs") or {}).get("path") or ""
        below = posixpath.relpath(exported, self._path) if exported else ""
        folder = self._root / plan.inside(below, "the volume's path")
        if not folder.exists():
            return
        action = plan.on_delete(storage_class)
        if action == plan.DELETE:
            remove_folder(folder)
        elif action == plan.ARCHIVE:
            folder.rename(self._root / f"archived-{folder.name}")
