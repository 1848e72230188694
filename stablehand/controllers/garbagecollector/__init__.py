"""Deletes what no owner wants any more: background, foreground and orphan deletion.

controller   watches every kind; decides about one object after a live look at it
graph        who owns whom; uids and references only, no objects
"""

from stablehand.controllers.garbagecollector.controller import GarbageCollector

__all__ = ["GarbageCollector"]
