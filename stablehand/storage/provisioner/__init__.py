"""Makes volumes for claims and removes them again. Pure decisions are in `plan`, folders in `local` and `nfs`."""

from __future__ import annotations

from stablehand.storage.provisioner.classes import ensure_class
from stablehand.storage.provisioner.config import LOCAL_PROVISIONER, ProvisionerConfig
from stablehand.storage.provisioner.main import run

__all__ = ["LOCAL_PROVISIONER", "ProvisionerConfig", "ensure_class", "run"]
