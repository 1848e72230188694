"""x-kubernetes-validations on custom resources: evaluation, transition rules, ratcheting, checks of the rules."""

from typing import Any

import pytest

from stablehand.machinery.cel.schemas import escape
from stablehand.machinery.customrules import compile_rules, evaluate_rules
from stablehand.machinery.fielderrors import FORBIDDEN
from stablehand.machinery.rulechecks import check_rules

Schema = dict[str, Any]


def schema(properties: dict[str, Schema], *rules: Any) -> Schema:
    listed = [{"rule": rule} if isinstance(rule, str) else rule for rule in rules]
    return {"type": "object", "properties": properties, "x-kubernetes-validations": listed}


def root(spec: Schema) -> Schema:
    return {"type": "object", "properties": {"spec": spec}}


def messages(spec: Schema, new: Any, old: Any = None) -> list[str]:
    node = compile_rules(root(spec))
    assert node is not None
    errors, _ = evaluate_rules(node, {"spec": new}, None if old is None else {"spec": old})
    return [e.message() for e in errors]


INT = {"type": "integer"}


def rule(kind: str, *rules: Any, **more: Any) -> Schema:
    listed = [{"rule": r} if isinstance(r, str) else r for r in rules]
    return {"type": kind, "x-kubernetes-validations": listed, **more}


def test_rules_see_their_part_of_the_object() -> None:
    spec = schema({"n": rule("integer", "self <= 5"), "min": INT}, "self.min <= self.n")
    assert messages(spec, {"n": 3, "min": 1}) == []
    assert messages(spec, {"n": 7, "min": 8}) == [
        "spec: Invalid value: failed rule: self.min <= self.n",
        "spec.n: Invalid value: 7: failed rule: self <= 5",
    ]
    assert messages(spec, {"min": 1}) == [
        'spec: Invalid value: "object": no such key: n evaluating rule: self.min <= self.n'
    ]


def test_messages_reasons_and_field_paths() -> None:
    given = {
        "rule": "self.n > 5",
        "messageExpression": "'n is ' + string(self.n)",
        "message": "plain",
        "reason": "FieldValueForbidden",
        "fieldPath": ".n",
    }
    assert messages(schema({"n": INT}, given), {"n": 1}) == ["spec.n: Forbidden: n is 1"]
    broken = {**given, "messageExpression": "string(1 / (self.n - 1))"}
    assert messages(schema({"n": INT}, broken), {"n": 1}) == ["spec.n: Forbidden: plain"]


def test_lists_maps_and_types_of_the_schema() -> None:
    spec = schema(
        {
            "list": {"type": "array", "items": rule("string", "self != 'x'")},
            "map": {"type": "object", "additionalProperties": rule("number", "self / 2.0 > 1.0")},
            "when": rule("string", "self > timestamp('2026-01-01T00:00:00Z')", format="date-time"),
            "data": rule("string", "size(self) == 2", format="byte"),
            "set": rule("array", "self == ['b', 'a']", items={"type": "string"}, **{"x-kubernetes-list-type": "set"}),
            "any": {
                "x-kubernetes-int-or-string": True,
                "x-kubernetes-validations": [{"rule": "self == 1 || self == 'a'"}],
            },
            "if": INT,
            "a-b": INT,
        },
        "!has(self.__if__) || self.__if__ == self.a__dash__b",
    )
    good = {
        "list": ["a"], "map": {"k": 3}, "when": "2026-06-01T00:00:00Z", "data": "YWI=", "set": ["a", "b"], "any": "a",
        "if": 1, "a-b": 1,
    }  # fmt: skip
    assert messages(spec, good) == []
    bad = {"list": ["a", "x"], "map": {"k": 1}, "any": 2, "if": 1, "a-b": 2}
    assert [m.partition(":")[0] for m in messages(spec, bad)] == ["spec", "spec.list[1]", "spec.map[k]", "spec.any"]


def test_all_of_rules() -> None:
    spec = {"type": "object", "properties": {"n": INT}}
    spec["allOf"] = [{"properties": {"n": {"x-kubernetes-validations": [{"rule": "self > 1"}]}}}]  # type: ignore[assignment]
    assert messages(spec, {"n": 1}) == ["spec.n: Invalid value: 1: failed rule: self > 1"]


def test_transition_rules() -> None:
    optional = {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": True, "message": "shrinks"}
    item = schema({"name": {"type": "string"}, "port": rule("integer", "self == oldSelf")})
    ports = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    spec = schema({"fixed": rule("string", "self == oldSelf"), "grows": rule("integer", optional), "ports": ports})
    old = {"fixed": "a", "grows": 2, "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}
    assert messages(spec, old) == []
    assert messages(
        spec, {"fixed": "b", "grows": 1, "ports": [{"name": "b", "port": 3}, {"name": "c", "port": 9}]}, old
    ) == [
        'spec.fixed: Invalid value: "b": failed rule: self == oldSelf',
        "spec.grows: Invalid value: 1: shrinks",
        "spec.ports[0].port: Invalid value: 3: failed rule: self == oldSelf",
    ]
    assert messages(spec, {"fixed": "b"}, {}) == []


def test_what_an_update_left_alone_is_only_warned_of() -> None:
    spec = schema(
        {"n": rule("integer", "self < 5"), "m": INT, "l": {"type": "array", "items": rule("integer", "self < 5")}}
    )
    node = compile_rules(root(spec))
    assert node is not None
    old = {"spec": {"n": 9, "m": 1, "l": [9]}}
    errors, tolerated = evaluate_rules(node, {"spec": {"n": 9, "m": 2, "l": [9]}}, old)
    assert errors == []
    assert [e.field for e in tolerated] == ["spec.n", "spec.l[0]"]
    errors, _ = evaluate_rules(node, {"spec": {"n": 8, "m": 1, "l": [9, 1]}}, old)
    assert [e.field for e in errors] == ["spec.n", "spec.l[0]"]


def test_the_root_has_name_and_kind() -> None:
    made = {**root({"type": "object"}), "x-kubernetes-validations": [{"rule": "self.metadata.name == self.kind"}]}
    node = compile_rules(made)
    assert node is not None
    errors, _ = evaluate_rules(node, {"kind": "Foo", "metadata": {"name": "x"}, "spec": {}}, None)
    assert [e.message() for e in errors] == ["<nil>: Invalid value: failed rule: self.metadata.name == self.kind"]


AT = "v.properties[spec].x-kubernetes-validations"


def test_checks_of_what_rules_mean() -> None:
    spec = schema(
        {"n": INT, "l": {"type": "array", "items": rule("integer", "self == oldSelf")}},
        "self.x > 1",
        "self.n",
        {"rule": "self.n > 1", "messageExpression": "self.n", "optionalOldSelf": True},
    )
    found = [e.message() for e in check_rules(root(spec), "v")]
    shown = 'apiextensions.ValidationRule{Rule:"self.x > 1", Message:"", MessageExpression:"", '
    shown += 'Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:"", OptionalOldSelf:(*bool)(nil)}'
    text = "compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x > 1\n | ....^"
    assert found[0] == f"{AT}[0].rule: Invalid value: {shown}: {text}"
    assert found[1].startswith(f"{AT}[1].rule: Invalid value: ") and found[1].endswith("must evaluate to a bool")
    assert [m.partition(": ")[0] for m in found[2:]] == [
        f"{AT}[2].messageExpression",
        f"{AT}[2].optionalOldSelf",
        "v.properties[spec].properties[l].items.x-kubernetes-validations[0].rule",
    ]
    assert found[-1].endswith("within v.properties[spec].properties[l]")


def test_checks_of_how_rules_are_written() -> None:
    """Their CEL is not looked at then."""
    spec = schema(
        {"n": INT},
        "self.x > 1",
        {"rule": "self.n > 1", "fieldPath": ".nope", "reason": "X"},
        {"rule": " ", "message": "\n"},
        {"rule": "self.n > 1 ||\nself.n < 0", "messageExpression": " "},
        {"rule": "true", "message": " "},
        {"rule": "true", "message": "a\nb"},
    )
    assert [e.message().partition(": supported")[0] for e in check_rules(root(spec), "v")] == [
        f'{AT}[1].reason: Unsupported value: "X"',
        f'{AT}[1].fieldPath: Invalid value: ".nope": fieldPath must be a valid path',
        f"{AT}[2].rule: Required value: rule is not specified",
        f"{AT}[3].message: Required value: message must be specified if rule contains line breaks",
        f"{AT}[3].messageExpression: Required value: messageExpression must be non-empty if specified",
        f'{AT}[4].message: Invalid value: " ": message must be non-empty if specified',
        f'{AT}[5].message: Invalid value: "a\\nb": message must not contain line breaks',
    ]


def test_rules_on_what_they_cannot_see() -> None:
    spec = {"x-kubernetes-preserve-unknown-fields": True, "x-kubernetes-validations": [{"rule": "true"}]}
    (found,) = check_rules(root(spec), "v")
    assert found.message().startswith(f"{AT}: Internal error: internal error: failed to construct type information")


def test_names_are_escaped() -> None:
    assert [escape(n) for n in ("a", "if", "a-b", "a.b/c", "__x__", "1a")] == [
        "a", "__if__", "a__dash__b", "a__dot__b__slash__c", "__underscores__x__underscores__", None,
    ]  # fmt: skip


# Rules as published CRDs have them (Gateway API, Karpenter, cluster-api and others), on a schema with what they name.
TEXT = {"type": "string"}


def listed(**properties: Schema) -> Schema:
    return {"type": "array", "items": {"type": "object", "properties": properties}}


PUBLISHED: Schema = {
    "type": "object",
    "properties": {
        "listeners": listed(name=TEXT, port=INT, protocol=TEXT, hostname=TEXT),
        "parents": listed(group=TEXT, namespace=TEXT, name=TEXT, sectionName=TEXT, port=INT),
        "rules": listed(matches=listed(path=TEXT), filters=listed(type=TEXT), request=TEXT),
        "req": listed(key=TEXT, operator=TEXT, values={"type": "array", "items": TEXT}, minValues=INT),
        "labels": {"type": "object", "additionalProperties": TEXT},
        "any": {"x-kubernetes-int-or-string": True},
        "ttl": {"type": "string", "format": "duration"},
        "created": {"type": "string", "format": "date-time"},
        "ips": {"type": "array", "items": TEXT},
        "weights": {"type": "array", "items": {"type": "number"}},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": True},
        "enabled": {"type": "boolean"},
        "type": TEXT,
        "value": TEXT,
    },
}


@pytest.mark.parametrize(
    "text",
    [
        "self.listeners.all(l1, self.listeners.exists_one(l2, l1.port == l2.port && (has(l1.hostname) && "
        "has(l2.hostname) ? l1.hostname == l2.hostname : !has(l1.hostname) && !has(l2.hostname))))",
        "(self.rules.size() > 0 ? self.rules[0].matches.size() : 0) + (self.rules.size() > 1 ? 1 : 0) <= 128",
        "self.parents.all(p1, self.parents.all(p2, p1.name == p2.name && (!has(p1.__namespace__) || "
        "p1.__namespace__ == '') ? ((!has(p1.port) || p1.port == 0) == (!has(p2.port) || p2.port == 0)) : true))",
        r'''self.type == 'IPAddress' ? self.value.matches(r"""^(([0-9]|2[0-4][0-9])\.){3}([0-9]+)$""") : true''',
        "self.rules.all(r, !has(r.request) || duration(r.request) != duration('0s'))",
        "self.rules.all(r, r.filters.filter(f, f.type == 'RequestRedirect').size() <= 1)",
        "self.req.all(x, (has(x.minValues) && x.operator == 'In') ? x.values.size() >= x.minValues : true)",
        "self.labels.all(x, x in ['a', 'b'] || !x.find('^([^/]+)').endsWith('kubernetes.io'))",
        "type(self.any) == string ? self.any == '99%' : self.any == 42",
        "self.created + self.ttl < timestamp('2030-01-01T00:00:00Z') || self.created == null",
        "self.value.contains('/') ? isCIDR(self.value) : isIP(self.value)",
        "self.ips.all(i, ip(i).family() == 4) && self.ips.map(x, x.split('/')[0]).all(x, ip.isCanonical(x))",
        "self.weights.sum() == 1.0 && self.weights.map(w, w * 2.0).max() < 5.0",
        "!has(self.embedded) || self.embedded.kind == 'Foo' && self.embedded.metadata.name != ''",
        "quantity(self.any).isGreaterThan(quantity('1Gi')) || int(self.any) > 0",
        "self.labels['a'] == 'b' && self.labels.a == 'b' && 'a' in self.labels",
        "self.?labels[?'a'].orValue('x') == 'x'",
        "[has(self.value), has(self.type)].filter(x, x == true).size() == 1",
        "self.rules.map(r, r.matches.size()).sum() <= 128",
        "self == oldSelf && self.listeners == oldSelf.listeners",
        "self.enabled",
        "(self.enabled ? [] : ['a']) + ['b'] == ['b']",
        "(self.enabled ? optional.none() : optional.of(true)).orValue(false)",
        "self.?value.optMap(v, v.size() > 3).orValue(true)",
        "!format.dns1123Label().validate(self.value).hasValue()",
    ],
)
def test_published_rules_compile(text: str) -> None:
    found = check_rules(root({**PUBLISHED, "x-kubernetes-validations": [{"rule": text}]}), "v", lenient=True)
    assert [e.message() for e in found if e.type != FORBIDDEN] == []
