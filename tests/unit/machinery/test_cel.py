"""CEL itself: results, errors and compile errors by table, and what must hold for all values."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablehand.machinery.cel import CelError, CompileError, Environment, compile_expression
from stablehand.machinery.cel.types import DYN, INT, STRING, Field, ObjectType, list_of, map_of
from stablehand.machinery.cel.values import Duration, Opt, Timestamp, UInt, to_json

OBJECT = ObjectType("object", (), {"replicas": Field(INT, "replicas"), "__if__": Field(STRING, "if")})
ENV = Environment(
    {
        "self": DYN,
        "i": INT,
        "s": STRING,
        "l": list_of(INT),
        "m": map_of(STRING, STRING),
        "o": OBJECT,
        "a.b": INT,
    },
    objects=True,
)
VALUES: dict[str, Any] = {
    "self": {"spec": {"replicas": 3, "f": 1.5}, "l": [1, 2, 3], "m": {"a": "b"}, "n": None, "in-out": 1},
    "i": 5,
    "s": "hello",
    "l": [3, 1, 2],
    "m": {"x": "1", "y": "2"},
    "o": {"replicas": 4, "if": "z"},
    "a.b": 7,
}


def run(source: str, **more: Any) -> Any:
    return compile_expression(source, ENV).evaluate({**VALUES, **more})


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        # literals and arithmetic
        ("1 + 2 * 3 - 4 / 2 % 3", 5),
        ("-9223372036854775808", -(2**63)),
        ("0x1F", 31),
        ("7u / 2u", UInt(3)),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("1.5e2 + .5", 150.5),
        ("1.0 / 0.0", math.inf),
        ("--5", 5),
        ("!!true", True),
        (r"'a\n\x41\u00e9\101'", "a\nAéA"),
        (r"r'\n' + '''it's'''", r"\nit's"),
        (r"b'\xff' + b'é'", b"\xff\xc3\xa9"),
        ("'a' + \"b\"", "ab"),
        ("[1, 2] + [3]", [1, 2, 3]),
        ("{'a': 1, 'b': 2}['b']", 2),
        ("[1, 2, 3,]", [1, 2, 3]),
        ("null", None),
        # comparison
        ("1 < 2 && 2u <= 3u && 'a' < 'b' && 1 < 1.5 && false < true", True),
        ("dyn(1) == 1.0 && dyn(1u) == 1", True),
        ("dyn(1) == true", False),
        ("[[1], [2]] == [[1], [2]]", True),
        ("{'a': 1} == {'a': 1}", True),
        ("self.n == null", True),
        ("2 in [1, 2] && 'x' in m && !('z' in m)", True),
        ("dyn(2.0) in [1, 2]", True),
        ("0.0 / 0.0 == 0.0 / 0.0", False),
        ("0.0 / 0.0 <= 1.0", False),
        # logic absorbs errors on either side
        ("false && 1 / 0 > 1", False),
        ("1 / 0 > 1 && false", False),
        ("1 / 0 > 1 || true", True),
        ("true ? 1 : 1 / 0", 1),
        # selection
        ("self.spec.replicas <= 5", True),
        ("self['in-out']", 1),
        ("o.__if__", "z"),
        ("a.b", 7),
        ("has(self.spec) && !has(self.x) && has(o.replicas)", True),
        ("self.l[0] + self.l[dyn(1.0)]", 3),
        # optionals
        ("self.?spec.?replicas.orValue(0)", 3),
        ("self.?nope.replicas.orValue(9)", 9),
        ("self.?spec.nope.orValue(9)", 9),
        ("self.l[?7].hasValue()", False),
        ("self[?'l'][0].value()", 1),
        ("[?self.?x, ?self.spec.?replicas]", [3]),
        ("{?'a': self.?x, 'b': 1}", {"b": 1}),
        ("optional.ofNonZeroValue('').or(optional.of('d')).value()", "d"),
        ("optional.of(2).optMap(v, v * 2).value()", 4),
        ("optional.of(2).optFlatMap(v, optional.none()).hasValue()", False),
        ("optional.none() == optional.none()", True),
        # macros
        ("l.all(x, x > 0) && l.exists(x, x == 3) && l.exists_one(x, x == 1) && !l.existsOne(x, x > 1)", True),
        ("l.map(x, x * 2)", [6, 2, 4]),
        ("l.map(x, x > 1, x * 2)", [6, 4]),
        ("l.filter(x, x > 1)", [3, 2]),
        ("m.map(k, k + '!')", ["x!", "y!"]),
        ("m.all(k, v, k < 'z' && v != '')", True),
        ("l.exists(i, v, i == 1 && v == 1)", True),
        ("l.transformList(i, v, i + v)", [3, 2, 4]),
        ("l.transformList(i, v, v > 1, i)", [0, 2]),
        ("m.transformMap(k, v, v == '1', v + k)", {"x": "1x"}),
        ("m.transformMapEntry(k, v, {v: k})", {"1": "x", "2": "y"}),
        ("[[1], [2, 3]].all(x, x.exists(y, y > 0))", True),
        ("[1, 0, 2].exists(x, 2 / x == 2)", True),
        ("[0, 1].all(x, 1 / x > 5)", False),
        ("l.all(i, i > 0) && i == 5", True),
        # types
        ("type(1) == int && type('') == string && type([]) == list && type(null) == null_type", True),
        ("type(type(1)) == type", True),
        ("int('42') + int(3.9) + int(2u)", 47),
        ("string(1) + string(2.5) + string(true) + string(b'x') + string(1e30)", "12.5truex1e+30"),
        ("double('1.5') + double(2)", 3.5),
        ("bool('true') && !bool('0')", True),
        ("uint(3)", UInt(3)),
        # objects
        ("Object{spec: Object.spec{a: 1, ?b: optional.none()}}", {"spec": {"a": 1}}),
        ("JSONPatch{op: 'add', path: '/x', value: [1]}.path", "/x"),
    ],
)
def test_results(source: str, wanted: Any) -> None:
    found = run(source)
    assert type(found) is type(wanted) or isinstance(found, type(wanted))
    assert found == wanted


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("-(-9223372036854775808)", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("self.x", "no such key: x"),
        ("self.spec.x.y", "no such key: x"),
        ("m['z']", "no such key: z"),
        ("l[3]", "index out of bounds: 3"),
        ("l[-1]", "index out of bounds: -1"),
        ("self.l.x", "no such overload"),
        ("self.spec + 1", "no such overload"),
        ("self.spec < self.l", "no such overload"),
        ("self.l.all(x, x)", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
        ("int('x')", "type conversion error from 'string' to 'int': strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("{'a': 1, 'a': 2}", "Failed with repeated key: a"),
        ("1 / 0 > 1 || false", "division by zero"),
    ],
)
def test_errors(source: str, message: str) -> None:
    with pytest.raises(CelError) as caught:
        run(source)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("o.x > 1", "ERROR: <input>:1:2: undefined field 'x'\n | o.x > 1\n | .^"),
        ("x", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^"),
        ("foo(1)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(1)\n | ...^"),
        ("s.foo()", "ERROR: <input>:1:6: undeclared reference to 'foo' (in container '')\n | s.foo()\n | .....^"),
        (
            "i + s",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | i + s\n | ..^",
        ),
        (
            "s.size(1)",
            "ERROR: <input>:1:7: found no matching overload for 'size' applied to 'string.(int)'\n"
            " | s.size(1)\n | ......^",
        ),
        (
            "1 == 1.0",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, double)'\n | 1 == 1.0\n | ..^",
        ),
        ("i.x", "ERROR: <input>:1:2: type 'int' does not support field selection\n | i.x\n | .^"),
        (
            "i.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or "
            "dynamic)\n | i.all(x, true)\n | ^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("s.matches('[')", "ERROR: <input>:1:11: invalid matches argument\n | s.matches('[')\n | ..........^"),
        ("a b", "ERROR: <input>:1:3: Syntax error: mismatched input 'b' expecting <EOF>\n | a b\n | ..^"),
        ("1 # 2", "ERROR: <input>:1:3: Syntax error: token recognition error at: '#'\n | 1 # 2\n | ..^"),
        ("if", "ERROR: <input>:1:1: reserved identifier: if\n | if\n | ^"),
        ("has(x)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(x)\n | ....^"),
        ("l.map(1, 2)", "ERROR: <input>:1:7: argument must be a simple name\n | l.map(1, 2)\n | ......^"),
        ("true &&\n x", "ERROR: <input>:2:2: undeclared reference to 'x' (in container '')\n |  x\n | .^"),
        ("Foo{a: 1}", "ERROR: <input>:1:4: undeclared reference to 'Foo' (in container '')\n | Foo{a: 1}\n | ...^"),
    ],
)
def test_compile_errors(source: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_expression(source, ENV)
    assert str(caught.value) == message


def test_all_issues_are_told() -> None:
    with pytest.raises(CompileError) as caught:
        compile_expression("x + y > o.z", ENV)
    assert [issue.text for issue in caught.value.issues] == [
        "undeclared reference to 'x' (in container '')",
        "undeclared reference to 'y' (in container '')",
        "undefined field 'z'",
    ]


def test_an_unfinished_expression() -> None:
    with pytest.raises(CompileError, match=r"<input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'\['"):
        compile_expression("1 +", ENV)


def test_what_has_no_end_is_cut_off() -> None:
    many = list(range(1000))
    with pytest.raises(CelError, match="operation cancelled: actual cost limit exceeded"):
        run("self.all(x, self.all(y, self.all(z, true)))", self=many)
    deep = "(" * 500 + "1" + ")" * 500
    with pytest.raises(CompileError, match="expression recursion limit exceeded"):
        compile_expression(deep, ENV)
    assert run("1" + " + 1" * 90) == 91


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_divide_as_in_go(a: int, b: int) -> None:
    if b == 0 or (a, b) == (-(2**63), -1):
        return
    env = Environment({"a": INT, "b": INT})
    found = compile_expression("[a / b, a % b]", env).evaluate({"a": a, "b": b})
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    assert found == [quotient, a - quotient * b]


@settings(deadline=None)
@given(st.text())
def test_strings_are_what_they_say(text: str) -> None:
    quoted = run("strings.quote(s)", s=text)
    if all(c.isprintable() for c in text):
        assert run(quoted) == text
    assert run("size(s)", s=text) == len(text)
    assert run("s.split('').join('')", s=text) == text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values)
def test_every_value_equals_itself_and_survives(value: Any) -> None:
    assert run("self == dyn(self) && !(self != self) && self in [self]", self=value) is True
    assert to_json(run("self", self=value)) == value


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_compiles_or_is_a_compile_error(source: str) -> None:
    try:
        run(source)
    except (CompileError, CelError):
        pass


def test_values_print_as_json() -> None:
    assert to_json([UInt(1), Timestamp(0), Duration(1_500_000_000), Opt("x")]) == [
        1,
        "1970-01-01T00:00:00Z",
        "1.5s",
        "x",
    ]
