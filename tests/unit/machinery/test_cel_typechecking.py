"""Type checking of ValidatingAdmissionPolicies against the kinds they are about."""

from typing import Any

from stablehand.machinery.cel.schemas import declare_custom_kind, declare_kind
from stablehand.machinery.cel.typechecking import expression_warnings, resources_of
from stablehand.machinery.schema import schema_for

DEPLOYMENT = schema_for("apps/v1", "Deployment")
assert DEPLOYMENT is not None


def test_the_kinds_that_rules_name() -> None:
    def rule(groups: list[str], versions: list[str], resources: list[str]) -> dict[str, Any]:
        return {"apiGroups": groups, "apiVersions": versions, "resources": resources, "operations": ["*"]}

    rules = [
        rule(["apps"], ["v1"], ["deployments", "deployments/scale", "*"]),
        rule(["*"], ["v1"], ["pods"]),
        rule([""], ["v1"], ["pods"]),
    ]
    spec = {"matchConstraints": {"resourceRules": rules}}
    assert resources_of(spec) == [("", "v1", "pods"), ("apps", "v1", "deployments")]


def test_warnings() -> None:
    assert DEPLOYMENT is not None
    custom = declare_custom_kind({"type": "object", "properties": {"spec": {"type": "object"}}})
    kinds = [("apps/v1, Kind=Deployment", declare_kind(DEPLOYMENT)), ("example.com/v1, Kind=Foo", custom)]
    spec = {
        "variables": [{"name": "n", "expression": "object.spec.replicas"}],
        "validations": [
            {"expression": "object.metadata.name != ''", "messageExpression": "object.metadata.nope"},
            {"expression": "variables.n == 'x'"},
            {"expression": "oldObject == null || object.kind == oldObject.kind"},
        ],
    }
    found = expression_warnings(spec, kinds, None)
    assert [w["fieldRef"] for w in found] == ["spec.validations[0].messageExpression", "spec.validations[1].expression"]
    first, second = found[0]["warning"].split("\n\n")
    text = "ERROR: <input>:1:16: undefined field 'nope'\n | object.metadata.nope\n | ...............^"
    assert first == f"apps/v1, Kind=Deployment: {text}"
    assert second == f"example.com/v1, Kind=Foo: {text}\n"
    assert found[1]["warning"].startswith(
        "apps/v1, Kind=Deployment: ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(int, string)'"
    )
    assert (
        expression_warnings({"validations": [{"expression": "object.metadata.namespace != ''"}]}, kinds[:1], None) == []
    )
