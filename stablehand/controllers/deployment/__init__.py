"""Deployments: a ReplicaSet for each version of the template, sized to roll from the old to the new.

controller     informers, queue, one deployment at a time
rollout        order and policy: what is scaled next
replicasets    the writes of ReplicaSets, with their events
sizes          how many pods each ReplicaSet should have; pure
status         counting and conditions; pure
"""

from stablehand.controllers.deployment.controller import DeploymentController

__all__ = ["DeploymentController"]
