"""What a job's policies may say."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.apiserver.strategies.jobpolicies import validate_policies


def texts(**spec: Any) -> list[str]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c"}]}
    base = {"completionMode": "Indexed", "completions": 5, "parallelism": 1, "template": {"spec": pod}}
    return [f"{e.field}: {e.detail}" for e in validate_policies({**base, **spec}, "spec")]


def failure(**rule: Any) -> Any:
    return {"rules": [{"action": "Ignore", **rule}]}


CODES = {"operator": "In", "values": [1, 2]}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"backoffLimitPerIndex": 1, "maxFailedIndexes": 2, "managedBy": "example.com/x"}, ""),
        ({"maxFailedIndexes": 1}, "spec.backoffLimitPerIndex: when maxFailedIndexes is specified"),
        ({"completionMode": "NonIndexed", "backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex: requires indexed"),
        ({"backoffLimitPerIndex": 1, "maxFailedIndexes": 6}, "spec.maxFailedIndexes: must be less than"),
        ({"managedBy": "x"}, "spec.managedBy: must be a domain-prefixed path"),
        ({"podFailurePolicy": failure(onExitCodes=CODES)}, ""),
        ({"podFailurePolicy": failure()}, "spec.podFailurePolicy.rules[0]: specifying one of"),
        (
            {"podFailurePolicy": failure(onExitCodes=CODES, onPodConditions=[{"type": "Ready"}])},
            "spec.podFailurePolicy.rules[0]: specifying both",
        ),
        ({"podFailurePolicy": failure(action="FailIndex", onExitCodes=CODES)}, "spec.podFailurePolicy.rules[0].action"),
        ({"podFailurePolicy": failure(onExitCodes={**CODES, "containerName": "d"})}, "spec.podFailurePolicy.rules[0].onExitCodes.containerName"),
        ({"podFailurePolicy": failure(onExitCodes={"operator": "In", "values": [0]})}, "spec.podFailurePolicy.rules[0].onExitCodes.values[0]"),
        ({"podFailurePolicy": failure(onExitCodes={"operator": "In", "values": [2, 1]})}, "spec.podFailurePolicy.rules[0].onExitCodes.values: must be ordered"),
        ({"podFailurePolicy": failure(onExitCodes=CODES), "podReplacementPolicy": "TerminatingOrFailed"}, "spec.podReplacementPolicy"),
        ({"successPolicy": {"rules": [{"succeededIndexes": "0-1,3", "succeededCount": 2}]}}, ""),
        ({"successPolicy": {"rules": []}}, "spec.successPolicy.rules: at least one"),
        ({"successPolicy": {"rules": [{}]}}, "spec.successPolicy.rules[0]: at least one"),
        ({"successPolicy": {"rules": [{"succeededIndexes": "3,1"}]}}, "spec.successPolicy.rules[0].succeededIndexes"),
        ({"successPolicy": {"rules": [{"succeededIndexes": "5"}]}}, "spec.successPolicy.rules[0].succeededIndexes"),
        ({"successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 3}]}}, "spec.successPolicy.rules[0].succeededCount"),
        ({"completionMode": "NonIndexed", "successPolicy": {"rules": [{"succeededCount": 1}]}}, "spec.successPolicy: requires indexed"),
    ],
)  # fmt: skip
def test_rules(spec: dict[str, Any], field: str) -> None:
    found = texts(**spec)
    assert (found == []) if not field else any(t.startswith(field) for t in found), found
