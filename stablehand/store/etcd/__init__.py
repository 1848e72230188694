"""The store in an etcd cluster (v3 API, etcd 3.4 and newer), which several API servers may share.

backend      the store's contract on transactions and one watch
connection   gRPC: endpoints, TLS, user and password; which failures leave an outcome unknown
"""

from stablehand.store.etcd.backend import EtcdBackend
from stablehand.store.etcd.connection import EtcdConfig

__all__ = ["EtcdBackend", "EtcdConfig"]
