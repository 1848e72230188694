"""Pod security: what the labels of a namespace ask for."""

from __future__ import annotations

import pytest

from stablehand.machinery.podsecurity.levels import LevelVersion, Policy, is_labelled, policy_of, stricter

P = "pod-security.kubernetes.io/"
LAX = LevelVersion()


@pytest.mark.parametrize(
    ("labels", "policy"),
    [
        (None, Policy(LAX, LAX, LAX)),
        ({"other": "x"}, Policy(LAX, LAX, LAX)),
        ({"enforce": "baseline"}, Policy(LevelVersion("baseline"), LAX, LAX)),
        ({"warn": "restricted", "warn-version": "v1.0"}, Policy(LAX, LAX, LevelVersion("restricted", 0))),
        ({"audit": "baseline", "audit-version": "latest"}, Policy(LAX, LevelVersion("baseline"), LAX)),
        ({"enforce-version": "v1.25"}, Policy(LevelVersion("privileged", 25), LAX, LAX)),
    ],
)
def test_labels(labels: dict[str, str] | None, policy: Policy) -> None:
    found = labels and {key if key == "other" else P + key: value for key, value in labels.items()}
    assert policy_of(found) == (policy, [])


@pytest.mark.parametrize(
    ("label", "value", "policy"),
    [
        ("enforce", "strict", Policy(LevelVersion("restricted"), LAX, LAX)),
        ("enforce", "", Policy(LevelVersion("restricted"), LAX, LAX)),
        ("audit", "Baseline", Policy(LAX, LAX, LAX)),
        ("warn", "none", Policy(LAX, LAX, LAX)),
        *(
            ("warn-version", v, Policy(LAX, LAX, LAX))
            for v in ("v1", "1.25", "v1.025", "v2.0", "v1.25.1", "", "v1.1\n")
        ),
    ],
)
def test_wrong_labels(label: str, value: str, policy: Policy) -> None:
    found, errors = policy_of({P + label: value})
    assert found == policy
    words = 'must be "latest" or "v1.x"' if "version" in label else "must be one of privileged, baseline, restricted"
    assert [(e.field, e.bad_value, e.detail) for e in errors] == [(f"metadata.labels[{P}{label}]", value, words)]


def test_names() -> None:
    assert [str(LevelVersion("baseline", m)) for m in (None, 0, 34)] == [
        "baseline:latest",
        "baseline:v1.0",
        "baseline:v1.34",
    ]
    assert stricter(LevelVersion("restricted"), LevelVersion("baseline"))
    assert not stricter(LevelVersion("baseline"), LevelVersion("baseline", 3))
    assert not is_labelled(None) and not is_labelled({"a": "b", P + "warn-version": "v1.1"})
    assert is_labelled({P + "audit": "baseline"})
