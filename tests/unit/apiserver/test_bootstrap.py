"""System roles at a start on an older data directory: what is missing is added, what somebody added or froze stays."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.authz.bootstrap_roles import cluster_role_bindings, cluster_roles, reconciled

ROLE = next(r for r in cluster_roles() if r["metadata"]["name"] == "system:kube-scheduler")
BINDING = next(b for b in cluster_role_bindings() if b["metadata"]["name"] == "system:kube-scheduler")


def stored(obj: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "uid": "u"}, **changes}


def test_what_is_whole_is_left_alone() -> None:
    assert reconciled(stored(ROLE), ROLE) is None and reconciled(stored(BINDING), BINDING) is None


def test_missing_rules_come_and_added_ones_stay() -> None:
    own = {"verbs": ["get"], "apiGroups": ["own"], "resources": ["things"]}
    found = reconciled(stored(ROLE, rules=[own, *ROLE["rules"][1:]]), ROLE)
    assert found is not None and found["metadata"]["uid"] == "u"
    assert found["rules"] == [own, *ROLE["rules"][1:], ROLE["rules"][0]]


def test_missing_subjects_come() -> None:
    found = reconciled(stored(BINDING, subjects=[]), BINDING)
    assert found is not None and found["subjects"] == BINDING["subjects"]


def test_autoupdate_false() -> None:
    frozen = stored(ROLE, rules=[])
    frozen["metadata"]["annotations"] = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    assert reconciled(frozen, ROLE) is None
