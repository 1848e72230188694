import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery import selectors


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", None, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("e in (x,y)", {"e": "y"}, True),
        ("e notin (x,y)", {"e": "y"}, False),
        ("!f,g", {"g": ""}, True),
        ("!f", {"f": "1"}, False),
        ("n>5", {"n": "7"}, True),
        ("n<5", {"n": "x"}, False),
        ("a in (,x)", {"a": ""}, True),
        ("a=", {"a": ""}, True),
    ],
)
def test_matches(text: str, labels: dict[str, str] | None, expected: bool) -> None:
    assert selectors.parse_selector(text).matches(labels) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(selectors.SelectorError) as caught:
        selectors.parse_selector(text)
    assert str(caught.value) == message


def test_label_selector_objects() -> None:
    assert not selectors.from_label_selector(None).matches({"a": "b"})
    assert selectors.from_label_selector({}).matches({"a": "b"})
    chosen = selectors.from_label_selector(
        {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}]}
    )
    assert chosen.matches({"app": "web"})
    assert not chosen.matches({"app": "web", "tier": "db"})
    assert str(chosen) == "app=web,tier notin (db)"


def test_field_selectors() -> None:
    terms = selectors.parse_field_selector("spec.nodeName=n1,status.phase!=Running")
    assert terms == [("spec.nodeName", "=", "n1"), ("status.phase", "!=", "Running")]
    assert selectors.match_fields(terms, {"spec": {"nodeName": "n1"}, "status": {"phase": "Pending"}})
    assert not selectors.match_fields(terms, {"spec": {}, "status": {}})
    with pytest.raises(selectors.SelectorError, match="can't understand"):
        selectors.parse_field_selector("nonsense")


_WORD = st.from_regex(r"[a-z]([a-z0-9]{0,5})", fullmatch=True).filter(lambda w: w not in ("in", "notin"))


@given(st.dictionaries(_WORD, _WORD, max_size=4), st.dictionaries(_WORD, _WORD, max_size=4))
def test_text_and_object_agree(wanted: dict[str, str], labels: dict[str, str]) -> None:
    by_object = selectors.from_label_selector({"matchLabels": wanted})
    assert selectors.parse_selector(str(by_object)) == by_object
    assert by_object.matches(labels) == all(labels.get(k) == v for k, v in wanted.items())
