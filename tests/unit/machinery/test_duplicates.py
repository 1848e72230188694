"""Fields said twice are found, however the document is laid out; documents without them give nothing."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery.duplicates import json_duplicates, yaml_duplicates

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_a_document_without_repetition(value: Any, indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert json_duplicates(raw, orjson.loads(raw)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a":1,"a":2}', ["a"]),
        ('{"a":1,"a":2,"a":3}', ["a"]),
        ('{"spec":{"c":[{"n":1},{"n":1,"n":2}]}}', ["spec.c[1].n"]),
        ('{"a" : 1, "a"\n: 2}', ["a"]),
        ('{"a":"x\\":","a":2}', ["a"]),
        ('{"a":{"b":1},"b":1}', []),
    ],
)
def test_repeated_fields(text: str, found: list[str]) -> None:
    assert json_duplicates(text.encode(), json.loads(text)) == found


def test_yaml_tells_lines() -> None:
    assert yaml_duplicates(b"a: 1\nb:\n  c: 1\n  c: 2\n") == ['line 4: key "c" already set in map']
