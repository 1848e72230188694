"""Which names a definition gets when others of its group have some of them."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.customnames import set_conditions
from stablehand.machinery.conditions import get_condition

Obj = dict[str, Any]


def definition(plural: str, kind: str, short: list[str] | None = None, *, group: str = "e.com") -> Obj:
    names: Obj = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    if short:
        names["shortNames"] = short
    return {"metadata": {"name": f"{plural}.{group}"}, "spec": {"group": group, "names": names}, "status": {}}


def said(crd: Obj, kind: str) -> tuple[str, str, str]:
    found = get_condition(crd["status"], kind)
    assert found is not None
    return found["status"], found["reason"], found["message"]


def test_free_names_are_accepted() -> None:
    crd = definition("foos", "Foo", ["fo"])
    assert set_conditions(crd, [], 0)
    assert crd["status"]["acceptedNames"] == crd["spec"]["names"]
    assert said(crd, "NamesAccepted") == ("True", "NoConflicts", "no conflicts found")
    assert said(crd, "Established") == ("True", "InitialNamesAccepted", "the initial names have been accepted")
    assert not set_conditions(crd, [], 1)


def test_names_of_others_are_not() -> None:
    first = definition("foos", "Foo", ["fo"])
    set_conditions(first, [], 0)
    second = definition("bars", "Foo", ["fo", "ba"])
    set_conditions(second, [first], 0)
    assert said(second, "NamesAccepted") == ("False", "ShortNamesConflict", '"fo" is already in use')
    assert said(second, "Established") == ("False", "NotAccepted", "not all names are accepted")
    assert second["status"]["acceptedNames"] == {"plural": "bars", "kind": ""}
    second["spec"]["names"].pop("shortNames")
    set_conditions(second, [first], 0)
    assert said(second, "NamesAccepted")[1:] == ("ListKindConflict", '"FooList" is already in use')
    second["spec"]["names"] |= {"kind": "Bar", "singular": "bar", "listKind": "BarList"}
    set_conditions(second, [first], 0)
    assert said(second, "Established")[0] == "True"


def test_who_is_established_stays_so() -> None:
    first, second = definition("foos", "Foo", ["fo"]), definition("bars", "Bar")
    set_conditions(first, [], 0)
    set_conditions(second, [first], 0)
    second["spec"]["names"]["shortNames"] = ["fo"]
    set_conditions(second, [first], 0)
    assert said(second, "NamesAccepted")[0] == "False" and said(second, "Established")[0] == "True"
    assert "shortNames" not in second["status"]["acceptedNames"]


def test_groups_of_the_community_are_approved() -> None:
    crd = definition("gates", "Gate", group="net.k8s.io")
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "https://github.com/x/y/pull/1"}
    set_conditions(crd, [], 0)
    kind = "KubernetesAPIApprovalPolicyConformant"
    assert said(crd, kind) == ("True", "ApprovedAnnotation", "approved in https://github.com/x/y/pull/1")
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}
    set_conditions(crd, [], 0)
    assert said(crd, kind) == ("False", "UnapprovedAnnotation", 'not approved: "unapproved, a test"')
