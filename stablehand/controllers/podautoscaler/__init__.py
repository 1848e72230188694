"""HorizontalPodAutoscalers (autoscaling/v2): replicas by what pods use.

controller  the loop of one autoscaler: its target's scale, its metrics, its status
metrics     what each metric of a spec says: a replica count and its status
sources     the metrics APIs (resource, custom, external)
replicas    replica counts from measured values; pure
behavior    how far and how fast a recommendation is followed; pure
"""

from stablehand.controllers.podautoscaler.controller import PodAutoscalerController

__all__ = ["PodAutoscalerController"]
