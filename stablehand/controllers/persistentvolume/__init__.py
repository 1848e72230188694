"""Binds claims to volumes, and sees to volumes whose claim has gone.

controller   informers and the queue; one claim or one volume at a time
claims       what a claim needs: a match, a class, a provisioner, or the news that its volume is lost
binding      the four writes of a binding, in their order, and of its end
reclaim      what becomes of released volumes
"""

from stablehand.controllers.persistentvolume.controller import PersistentVolumeController

__all__ = ["PersistentVolumeController"]
