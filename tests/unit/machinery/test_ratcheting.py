"""An update of a custom resource may keep what is wrong with the parts that it does not touch."""

from __future__ import annotations

from typing import Any

from stablehand.machinery.structural import compile_structural, validate_custom

Obj = dict[str, Any]
WORD = {"type": "string", "pattern": "^[a-z]+$"}
ITEM = {"type": "object", "properties": {"k": {"type": "string"}, "w": WORD}}
KEYED = {"type": "array", "items": ITEM, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
SPEC = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": {"type": "integer", "maximum": 5},
        "w": WORD,
        "listed": {"type": "array", "maxItems": 2, "items": WORD},
        "keyed": KEYED,
        "mapped": {"type": "object", "additionalProperties": WORD},
        "either": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    },
}
SCHEMA = compile_structural({"type": "object", "properties": {"spec": SPEC}})


def wrong(new: Obj, old: Obj | None = None) -> list[str]:
    made = {"spec": new}
    return [e.field for e in validate_custom(SCHEMA, made, {"spec": old} if old is not None else None)]


OLD: Obj = {
    "w": "W",
    "listed": ["A"],
    "keyed": [{"k": "a", "w": "A"}, {"k": "b", "w": "b"}],
    "mapped": {"x": "X", "y": "y"},
    "either": "no",
    "n": 9,
}


def test_what_is_left_alone_may_stay() -> None:
    fields = {"spec.n", "spec.w", "spec.listed[0]", "spec.keyed[0].w", "spec.mapped.x", "spec.either"}
    assert set(wrong(OLD)) == fields
    assert wrong({**OLD, "new": 1}, OLD) == []
    changed = {**OLD, "keyed": [{"k": "c", "w": "c"}, {"k": "a", "w": "A"}], "mapped": {"x": "X", "z": "z"}}
    assert wrong(changed, OLD) == []


def test_what_is_touched_is_checked() -> None:
    assert wrong({**OLD, "w": "V", "n": 8}, OLD) == ["spec.w", "spec.n"]
    # Items of other lists have no counterparts: a list that changed is checked whole.
    assert wrong({**OLD, "listed": ["A", "b"]}, OLD) == ["spec.listed[0]"]
    assert wrong({**OLD, "keyed": [{"k": "a", "w": "B"}]}, OLD) == ["spec.keyed[0].w"]
    assert wrong({k: v for k, v in OLD.items() if k != "n"}, OLD) == ["spec.n"]


def test_duplicates_that_were_there_may_stay() -> None:
    assert wrong({"n": 1, "set": ["a", "a"]}, {"n": 1}) == ["spec.set[1]"]
    assert wrong({"n": 2, "set": ["a", "a", "b", "b"]}, {"n": 1, "set": ["a", "a"]}) == []
