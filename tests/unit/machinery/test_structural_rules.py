"""Which schemas of definitions are acceptable, and what is said of the others.

The situations are those of upstream's validation_test.go files (apiextensions validation, schema, defaulting).
"""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.machinery.openapirules import Leniency, check_openapi, leniency_for
from stablehand.machinery.structuraldefaults import check_defaults, has_unpruned, prune_value
from stablehand.machinery.structuralpaths import resolve_path
from stablehand.machinery.structuralrules import check_structural

Raw = dict[str, Any]
STRING = {"type": "string"}
PRESERVE = "x-kubernetes-preserve-unknown-fields"


def root(**properties: Raw) -> Raw:
    return {"type": "object", "properties": properties}


def structural(schema: Raw) -> list[str]:
    return [e.message() for e in check_structural(schema, "s")]


def openapi(schema: Raw, leniency: Leniency | None = None) -> list[str]:
    return [e.message() for e in check_openapi(schema, "s", leniency or Leniency())]


A = "s.properties[a]"
INT_OR_STRING = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


@pytest.mark.parametrize(
    "schema",
    [
        {
            **STRING,
            "pattern": r"^\p{L}+(?i)x$",
            "anyOf": [{"minLength": 1}, {"format": "ipv4"}],
            "not": {"enum": ["x"]},
        },
        INT_OR_STRING,
        {"x-kubernetes-int-or-string": True, "allOf": [{"anyOf": INT_OR_STRING["anyOf"]}, {"pattern": "x"}]},
        {PRESERVE: True},
        {"type": "object", "x-kubernetes-embedded-resource": True, PRESERVE: True},
        {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"kind": STRING, "metadata": root()}},
        {"type": "object", "additionalProperties": True},
        {"type": "array", "items": {"type": "object", "properties": {"b": STRING}, "oneOf": [{"required": ["b"]}]}},
        {**root(b=root(c=STRING)), "allOf": [{"properties": {"b": {"properties": {"c": {"minLength": 1}}}}}]},
    ],
)
def test_structural_schemas(schema: Raw) -> None:
    made = root(a=schema, metadata={"type": "object", "properties": {"name": {**STRING, "maxLength": 9}}})
    assert structural(made) == [] and openapi(made) == []


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({}, f"{A}.type: Required value: must not be empty for specified object fields"),
        ({"type": "array"}, f"{A}.items: Required value: must be specified"),
        (
            {"type": "array", "items": {}},
            f"{A}.items.type: Required value: must not be empty for specified array items",
        ),
        ({**STRING, "anyOf": [{"type": "string"}]}, f"{A}.anyOf[0].type: Forbidden: must be empty to be structural"),
        (
            {**root(), "oneOf": [{"additionalProperties": True}]},
            f"{A}.oneOf[0].additionalProperties: Forbidden: must be undefined to be structural",
        ),
        (
            {**STRING, "not": {"x-kubernetes-validations": [{"rule": "true"}]}},
            f"{A}.not.x-kubernetes-validations: Forbidden: must be empty to be structural",
        ),
        (
            {**STRING, "allOf": [{"default": "x"}]},
            f"{A}.allOf[0].default: Forbidden: must be undefined to be structural",
        ),
        (
            {**STRING, "allOf": [{"nullable": True}]},
            f"{A}.allOf[0].nullable: Forbidden: must be false to be structural",
        ),
        (
            {**root(metadata=root()), "anyOf": [{"properties": {"metadata": {}}}]},
            f"{A}.anyOf[0].properties[metadata]: Forbidden: must not be specified in a nested context",
        ),
        (
            {"x-kubernetes-int-or-string": True, PRESERVE: True},
            f"{A}.{PRESERVE}: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ),
        (
            {"type": "string", "x-kubernetes-embedded-resource": True, PRESERVE: True},
            f'{A}.type: Invalid value: "string": must be object if x-kubernetes-embedded-resource is true',
        ),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True},
            f"{A}.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without {PRESERVE}",
        ),
    ],
)
def test_schemas_that_are_not_structural(schema: Raw, said: str) -> None:
    assert structural(root(a=schema)) == [said]


def test_what_the_roots_junctors_speak_of_has_a_schema() -> None:
    """Only the root's: those further down are not looked at, as upstream."""
    made = {**root(a=STRING, l={"type": "array", "items": STRING}), "allOf": [{"properties": {"b": {"minLength": 1}}}]}
    assert structural(made) == ["s.properties[b]: Required value: because it is defined in s.allOf[0].properties[b]"]
    made["allOf"] = [{"properties": {"a": {"items": {"minLength": 1}}, "l": {"items": {"minLength": 1}}}}]
    where = "s.allOf[0].properties[a].items"
    assert structural(made) == [f"{A}.items: Required value: because it is defined in {where}"]
    assert structural(root(a={**root(), "allOf": [{"properties": {"b": {"minLength": 1}}}]})) == []


def test_patterns_must_compile() -> None:
    (said,) = structural(root(a={**STRING, "pattern": "a(?=b)"}))
    start = (
        f'{A}.pattern: Invalid value: "a(?=b)": must be a valid regular expression, but isn\'t: error parsing regexp'
    )
    assert said.startswith(start)


def test_roots() -> None:
    assert structural({}) == ["s.type: Required value: must not be empty at the root"]
    assert structural({"type": "array", "items": STRING}) == [
        's.type: Invalid value: "array": must be object at the root'
    ]
    assert structural({"type": "object", "additionalProperties": STRING}) == [
        "s.additionalProperties: Forbidden: must not be used at the root"
    ]
    what = "must not specify anything other than name and generateName, but metadata is implicitly specified"
    assert structural(root(metadata={"type": "object", "properties": {"labels": {"type": "object"}}})) == [
        f"s.properties[metadata]: Forbidden: {what}"
    ]
    assert structural(root(kind={"type": "integer"})) == [
        's.properties[kind].type: Invalid value: "integer": must be string'
    ]


MAP = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
ITEM = {"type": "object", "properties": {"k": STRING}, "required": ["k"]}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "file"}, [f'{A}.type: Unsupported value: "file": supported values: "array", "boolean", "integer"']),
        ({**STRING, "$ref": "#/x"}, [f"{A}.$ref: Forbidden: $ref is not supported"]),
        ({**STRING, "definitions": {"x": STRING}}, [f"{A}.definitions: Forbidden: definitions is not supported"]),
        (
            {"type": "array", "items": [STRING]},
            [f"{A}.items: Forbidden: items must be a schema object and not an array"],
        ),
        ({"type": "array", "items": STRING, "uniqueItems": True}, [f"{A}.uniqueItems: Forbidden: uniqueItems cannot"]),
        (
            {**root(b=STRING), "additionalProperties": STRING},
            [f"{A}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
        ),
        ({**root(), PRESERVE: False}, [f"{A}.{PRESERVE}: Invalid value: false: must be true or undefined"]),
        (
            {**STRING, "x-kubernetes-map-type": "atomic"},
            [f'{A}.type: Invalid value: "string": must be object if x-kubernetes-map-type is specified'],
        ),
        (
            {**root(), "x-kubernetes-map-type": "x"},
            [f'{A}.x-kubernetes-map-type: Unsupported value: "x": supported values: "atomic", "granular"'],
        ),
        (
            {**root(), "x-kubernetes-list-type": "set"},
            [f'{A}.type: Invalid value: "object": must be array if x-kubernetes-list-type is specified'],
        ),
        (
            {"type": "array", "items": root(), "x-kubernetes-list-type": "set"},
            [f"{A}.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with"],
        ),
        (
            {"type": "array", "items": STRING, "x-kubernetes-list-map-keys": ["k"]},
            [f"{A}.x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty"],
        ),
        (
            {"type": "array", "items": ITEM, "x-kubernetes-list-type": "map"},
            [f"{A}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"],
        ),
        (
            {"type": "array", "items": STRING, **MAP},
            [
                f'{A}.items.type: Invalid value: "string": must be object if parent array\'s x-kubernetes-list-type is map'
            ],
        ),
        (
            {"type": "array", "items": ITEM, **MAP, "x-kubernetes-list-map-keys": ["k", "k", "z"]},
            [
                f'{A}.x-kubernetes-list-map-keys: Invalid value: ["k","k","z"]: must not contain duplicate entries',
                f'{A}.x-kubernetes-list-map-keys: Invalid value: ["k","k","z"]: entries must all be names of item properties',
            ],
        ),
        (
            {"type": "array", "items": {**ITEM, "required": [], "nullable": True}, **MAP},
            [
                f"{A}.items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
                f"{A}.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it",
            ],
        ),
    ],
)
def test_what_openapi_schemas_may_not_say(schema: Raw, said: list[str]) -> None:
    found = openapi(root(a=schema))
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True))


def test_defaults_in_metadata() -> None:
    named = {"type": "object", "properties": {"name": {**STRING, "default": "x"}}}
    assert openapi(root(metadata=named)) == [
        "s.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"
    ]


def test_what_is_stored_already_may_stay() -> None:
    old = root(a={"type": "array", "items": root(), "x-kubernetes-list-type": "set"}, b={"type": "file"})
    leniency = leniency_for([old])
    assert leniency == Leniency(types=True, non_atomic_sets=True)
    assert openapi(old, leniency) == []


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer", "default": "x"}, 'Invalid value: "string":  in body must be of type integer: "string"'),
        ({**STRING, "enum": ["a"], "default": "b"}, 'Unsupported value: "b": supported values: "a"'),
        ({**root(b=STRING), "default": {"c": 1}}, 'Invalid value: {"c":1}: must not have unknown fields'),
        ({**root(b=STRING), "required": ["b"], "default": {}}, "Required value"),
        (
            {**STRING, "default": "b", "x-kubernetes-validations": [{"rule": "self == 'a'"}]},
            "Invalid value: \"b\": failed rule: self == 'a'",
        ),
        (
            {"type": "array", "items": STRING, "default": ["a", "a"], "x-kubernetes-list-type": "set"},
            'Duplicate value: "a"',
        ),
    ],
)
def test_defaults_must_be_good_values(schema: Raw, said: str) -> None:
    found = [e.message() for e in check_defaults(root(a=schema), "s")]
    assert len(found) == 1 and found[0].startswith(f"{A}.default") and found[0].endswith(said)


def test_good_defaults() -> None:
    free = {"type": "object", PRESERVE: True, "default": {"x": {"y": 1}}}
    nested = {**root(b={**STRING, "default": "c"}), "default": {}}
    assert check_defaults(root(a=free, b=nested, c={"type": "array", "items": nested, "default": [{}]}), "s") == []
    assert not has_unpruned(root(a=free)) and has_unpruned(root(a={**root(), "default": {"z": 1}}))


def test_pruning() -> None:
    schema = root(a=STRING, m={"type": "object", "additionalProperties": root(b=STRING)}, f={PRESERVE: True})
    value = {"a": "x", "z": 1, "m": {"k": {"b": "x", "c": 1}}, "f": {"g": 1}}
    assert prune_value(schema, value) == {"a": "x", "m": {"k": {"b": "x"}}, "f": {"g": 1}}


def test_paths_into_schemas() -> None:
    schema = root(a=root(**{"b.c": STRING}), m={"type": "object", "additionalProperties": {"type": "integer"}})
    assert resolve_path(schema, ".a['b.c']")[0] == ["a", "b.c"]
    assert resolve_path(schema, ".m.x")[1] == {"type": "integer"}
    for text, why in (
        (".z", "does not refer to a valid field"),
        ("a", "expected [ or . but got: a"),
        (".a[b]", "expected single quoted string but got b"),
        (".a.", "unexpected end of JSON path"),
    ):
        with pytest.raises(ValueError, match=why.replace("[", r"\[").replace(".", r"\.")):
            resolve_path(schema, text)
    with pytest.raises(ValueError, match="array notation is not allowed"):
        resolve_path(schema, "['a']", brackets=False)
