"""Storage: volume provisioners and the NFS server. Claims are bound by controllers, volumes mounted by the node.

`run(ProvisionerConfig(...))` is one provisioner; `NfsServer` is Stablehand's own NFS export.
"""

from __future__ import annotations

from stablehand.storage.errors import StorageError
from stablehand.storage.nfs import NfsServer
from stablehand.storage.provisioner import LOCAL_PROVISIONER, ProvisionerConfig, ensure_class, run

__all__ = ["LOCAL_PROVISIONER", "NfsServer", "ProvisionerConfig", "StorageError", "ensure_class", "run"]
