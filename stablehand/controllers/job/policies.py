"""What a job's podFailurePolicy and successPolicy say. Pure."""

from __future__ import annotations

from stablehand.controllers.job import indexes
from stablehand.machinery import meta
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.types import Obj


def failure_action(job: Obj, pod: Obj) -> tuple[str, str]:
    """What becomes of a failed pod: FailJob, FailIndex, Ignore or Count, and the rule that says so in words."""
    status = pod.get("status") or {}
    where = f"{meta.namespace(pod)}/{meta.name(pod)}"
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        action: str = rule.get("action") or "Count"
        end = f"matching {action} rule at index {number}"
        codes = rule.get("onExitCodes")
        if codes:
            found = _exit_code(codes, status)
            if found is not None:
                return action, f"Container {found[0]} for pod {where} failed with exit code {found[1]} {end}"
            continue
        for pattern in rule.get("onPodConditions") or ():
            condition = get_condition(status, pattern.get("type") or "")
            if condition is not None and condition.get("status") == (pattern.get("status") or "True"):
                return action, f"Pod {where} has condition {pattern.get('type')} {end}"
    return "Count", ""


def _exit_code(requirement: Obj, status: Obj) -> tuple[str, int] | None:
    """The first container (name, exit code) that meets an onExitCodes requirement; success meets none."""
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if requirement.get("containerName") and requirement["containerName"] != container.get("name"):
            continue
        terminated = (container.get("state") or {}).get("terminated")
        code = int((terminated or {}).get("exitCode") or 0)
        if code and (code in (requirement.get("values") or ())) == (requirement.get("operator") == "In"):
            return container.get("name") or "", code
    return None


def success_met(job: Obj, done: set[int]) -> str | None:
    """The message of the first success rule that the completed indexes meet, or None."""
    completions = int(job["spec"].get("completions") or 0)
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = {i for i in indexes.parse(rule["succeededIndexes"]) if i < completions}
            met = len(wanted & done) >= int(count) if count is not None else wanted <= done
        else:
            met = count is not None and len(done) >= int(count)
        if met and done:
            return f"Matched rules at index {number}"
    return None
