"""Services' virtual addresses, node ports and external addresses, and NetworkPolicies, on nftables."""

from stablehand.network.main import NetworkConfig, NetworkError, run, teardown

__all__ = ["NetworkConfig", "NetworkError", "run", "teardown"]
