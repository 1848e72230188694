"""StatefulSets: pods with stable names, order and storage.

controller     informers and the queue; looks a name up and hands it on
set_control    order and policy: which pod is made, waited for or deleted next
pod_control    the writes of pods and claims, with their events
status         what is counted, and the writing of it
replica        what the policy asks about one pod
identity       names, labels, volumes and claim owners; pure
"""

from stablehand.controllers.statefulset.controller import StatefulSetController

__all__ = ["StatefulSetController"]
