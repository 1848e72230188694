"""What rules are estimated to cost: with limits in the schema and without, and what is said when it is too much.

The expected numbers are those of upstream's TestCostEstimation (apiextensions-apiserver pkg/apiserver/schema/cel).
"""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.machinery.cel import Environment, compile_expression
from stablehand.machinery.cel.declsizes import declared
from stablehand.machinery.cel.schemas import declare
from stablehand.machinery.rulechecks import check_rules

Raw = dict[str, Any]


def primitive(kind: str) -> Raw:
    if kind == "int-or-string":
        return {"x-kubernetes-int-or-string": True}
    return {"type": "string", "format": kind} if kind in ("date", "date-time", "duration", "byte") else {"type": kind}


def array(items: Raw, most: int | None = None) -> Raw:
    return {"type": "array", "items": items, **({} if most is None else {"maxItems": most})}


def mapped(values: Raw, most: int | None = None) -> Raw:
    return {"type": "object", "additionalProperties": values, **({} if most is None else {"maxProperties": most})}


def text(most: int | None = None) -> Raw:
    return {"type": "string", **({} if most is None else {"maxLength": most})}


def record(**fields: Raw) -> Raw:
    return {"type": "object", "properties": fields}


def needed(**fields: Raw) -> Raw:
    return {**record(**fields), "required": list(fields)}


def cost(schema: Raw, rule: str) -> int:
    scope, sizes = declare(schema), declared(schema)
    assert scope is not None and sizes is not None
    return compile_expression(rule, Environment({"self": scope, "oldSelf": scope})).cost(sizes.size_at).most


CASES: list[tuple[Raw, str, int]] = [
    (array(primitive("number")), "self.all(x, true)", 4718591),
    (array(primitive("number"), 10), "self.all(x, true)", 32),
    (array(primitive("string")), "self.all(x, true)", 3145727),
    (array(primitive("boolean")), "self.all(x, true)", 1887437),
    (array(array(primitive("number"))), "self.all(x, true)", 3145727),
    (array(primitive("int-or-string")), "self.all(x, true)", 4718591),
    (array(primitive("duration")), "self.all(x, true)", 2359295),
    (array(primitive("date")), "self.all(x, true)", 725936),
    (array(primitive("date-time")), "self.all(x, true)", 428963),
    (mapped(primitive("number")), "self.all(x, true)", 1348169),
    (mapped(primitive("string"), 3), "self.all(x, true)", 11),
    (mapped(primitive("boolean")), "self.all(x, true)", 943718),
    (mapped(primitive("number")), "has(self.x)", 1),
    (mapped(mapped(primitive("number"))), "self.all(x, true)", 1179647),
    (mapped(primitive("date-time")), "self.all(x, true)", 349526),
    (text(), "self.contains('test')", 314574),
    (text(10), "self.contains('test')", 5),
    (text(), "self.startsWith('test')", 2),
    (text(), 'size(self + "hello") > size("hello")', 314578),
    (text(4), 'size(self + "hello") > size("hello")', 7),
    (array(primitive("number")), "self[1] == 0.0", 2),
    (array(primitive("string")), "self[1] == self[1]", 314577),
    (array(primitive("number"), 10), "self.all(x, self.all(y, true))", 352),
    (array(primitive("number"), 10), "self.all(x, self.all(y, self.all(z, true)))", 3552),
    (text(), 'self.matches("x")', 314574),
    (text(50), 'self.matches("x")', 22),
    (text(), '"".matches("(((((((((())))))))))[0-9]")', 7),
    (text(), 'self.matches("")', 1),
    (mapped(text()), "self.all(x, x.contains(self[x]))", 2752507),
    (mapped(text(10), 10), "self.all(x, x.contains(self[x]))", 72),
    (text(0), 'self == "x"', 1),
    (text(), 'self == "x"', 2),
    (primitive("byte"), 'self == b"x"', 2),
    (array(primitive("number")), "self.all(x, x == 0.0)", 6291454),
    (array(primitive("number"), 3 * 1024 * 2048), "self.all(x, x == 0.0)", 25165826),
    (array(primitive("int-or-string")), "self[0] == 5", 3),
    (array(array(primitive("number"))), "self[0][0] == -1.0", 3),
    (array(mapped(primitive("number"))), "self.all(x, x.y == 25.2)", 6291452),
    (array(mapped(primitive("number")), 12), "self.all(x, x.y == 25.2)", 74),
    (array(mapped(primitive("number"))), "self[0].x > 2.0", 4),
    (array(primitive("duration")), "self[0].getHours() == 2", 4),
    (text(), "self.find('[0-9]+') == ''", 629147),
    (text(10), "self.find('[0-9]+') == ''", 11),
    (array(text()), "self.join(' ') == 'aa bb'", 329853068905),
    (array(text(10), 10), "self.join(' ') == 'aa bb'", 43),
    (array(text()), "self.isSorted() == true", 329854432052),
    (array(text(10), 10), "self.isSorted() == true", 52),
    (
        record(str=text(), before=text(2), after=text(4)),
        "self.str.replace(self.before, self.after) == 'does not matter'",
        629154,
    ),
    (
        record(str=text(4), before=text(2), after=text(4)),
        "self.str.replace(self.before, self.after) == 'does not matter'",
        12,
    ),
    (record(str=text(), separator=text()), "self.str.split(self.separator) == []", 629160),
    (record(str=text(10), separator=text(10)), "self.str.split(self.separator) == []", 22),
    (text(), "self.lowerAscii() == 'lower!'", 314575),
    (mapped(primitive("integer")), "oldSelf.size() == self.size()", 5),
    (mapped(primitive("date-time")), 'self["a"] == self["b"]', 8),
    ({"type": "string", "enum": ["A", "B", "LongValue"]}, "self.contains('A')", 2),
    ({"type": "string", "enum": ["A", "LongValue"], "maxLength": 1000}, "self.contains('A')", 401),
]


@pytest.mark.parametrize(("schema", "rule", "expected"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_the_estimate_is_upstreams(schema: Raw, rule: str, expected: int) -> None:
    assert cost(schema, rule) == expected


def test_what_macros_build_has_a_size() -> None:
    items = array(text(10), 10)
    assert cost(items, "self.map(x, x + '!').all(y, y.size() > 3)") < cost(
        array(text(), 10), "self.all(y, y.contains(y))"
    )
    assert cost(items, "self.filter(x, x == 'a').size() < 3") == 10 * (2 + 13) + 10 + 4
    assert cost(array(text()), "sets.contains(self, ['a'])") > 1000000
    assert cost(record(a=text(5)), "self.?a.optMap(v, v.size() < 3).orValue(true)") < 40


def root(**fields: Raw) -> Raw:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}


def test_too_dear_a_rule_is_refused() -> None:
    nested = array(array(primitive("string")))
    nested["items"]["items"]["x-kubernetes-validations"] = [{"rule": "self.contains('a')"}]
    (one, total) = check_rules(root(l=nested), "v")[:1] + check_rules(root(l=nested), "v")[-1:]
    where = "v.properties[spec].properties[l].items.items.x-kubernetes-validations[0].rule"
    advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and "
    advice += "strings are declared)"
    assert (
        one.message() == f"{where}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}"
    )
    assert total.message() == (
        "v: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by "
        f"factor of more than 100x {advice}"
    )
    # A schema that is stored already is only asked for its total.
    assert [e.field for e in check_rules(root(l=nested), "v", lenient=True)] == [where, "v"]
    nested["items"]["maxItems"] = nested["maxItems"] = 10
    nested["items"]["items"]["maxLength"] = 100
    assert check_rules(root(l=nested), "v") == []


def test_the_factor_is_printed_as_upstream_prints_it() -> None:
    wide = {**array(text(), 32), "x-kubernetes-validations": [{"rule": "self.all(x, x.matches('^[a-z]*$'))"}]}
    (found,) = check_rules(root(l=wide), "v")
    assert "exceeds budget by factor of 2.0x (try" in found.detail


def test_message_expressions_cost_too() -> None:
    wide = array(text())
    wide["x-kubernetes-validations"] = [{"rule": "true", "messageExpression": "self.join(',')"}]
    assert "estimated messageExpression cost exceeds budget" in check_rules(root(l=wide), "v")[0].detail


def test_what_string_makes_has_no_known_size() -> None:
    """Upstream refuses such messages too (kubernetes issue 124234); format() is the way."""
    assert cost(primitive("integer"), "'got ' + string(self)") > 10**18
    assert cost(primitive("integer"), "'got %d'.format([self])") < 20
