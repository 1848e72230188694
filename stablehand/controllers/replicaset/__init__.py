"""ReplicaSets and ReplicationControllers: so many pods of one template, no matter which.

controller     informers, queue, one set at a time
status         counting and conditions; pure
"""

from stablehand.controllers.replicaset.controller import (
    ReplicaSetController,
    ReplicationControllerController,
)

__all__ = ["ReplicaSetController", "ReplicationControllerController"]
