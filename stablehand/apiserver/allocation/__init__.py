"""What the API server hands out to Services: cluster addresses and node ports."""

from __future__ import annotations

from stablehand.apiserver.allocation.services import Allocation, ServiceAllocator

__all__ = ["Allocation", "ServiceAllocator"]
