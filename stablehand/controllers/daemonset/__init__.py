"""DaemonSets: one pod on every node that suits it.

controller   informers and the queue; one set at a time
placing      which nodes should have a pod, and what the pod for a node looks like; pure
updating     which pods a rolling update replaces now; pure
"""

from stablehand.controllers.daemonset.controller import DaemonSetController

__all__ = ["DaemonSetController"]
