"""Speaking to containerd: CRI runtime.v1, and containerd's own event stream. Only here does the node use grpc."""
