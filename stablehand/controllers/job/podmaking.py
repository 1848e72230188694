"""The pod of a job, and of one of its indexes. Pure."""

from __future__ import annotations

from stablehand.controllers.job import indexes
from stablehand.controllers.job.counting import FINALIZER
from stablehand.machinery import meta
from stablehand.machinery.hashing import random_suffix
from stablehand.machinery.podtemplates import pod_from_template
from stablehand.machinery.types import Obj

_LONGEST_PREFIX = 58  # a label's 63, less the five random letters
_VARIABLE = "JOB_COMPLETION_INDEX"


def make_pod(job: Obj, index: int | None, annotations: dict[str, str]) -> Obj:
    """A pod to be created; `annotations` come on top of the template's."""
    pod = pod_from_template(job["spec"]["template"], job)
    metadata = pod["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), FINALIZER]
    if index is None:
        return pod
    name, ending = meta.name(job), f"-{index}-"
    metadata["annotations"] = {**(metadata.get("annotations") or {}), indexes.INDEX: str(index), **annotations}
    metadata["labels"][indexes.INDEX] = str(index)
    metadata["generateName"] = name[: _LONGEST_PREFIX - len(ending)] + ending
    metadata["name"] = metadata["generateName"] + random_suffix()
    pod["spec"]["hostname"] = f"{name}-{index}"
    field = {"fieldRef": {"fieldPath": f"metadata.labels['{indexes.INDEX}']"}}
    for container in [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]:
        env = container.get("env") or []
        if not any(e.get("name") == _VARIABLE for e in env):
            container["env"] = [*env, {"name": _VARIABLE, "valueFrom": field}]
    return pod
