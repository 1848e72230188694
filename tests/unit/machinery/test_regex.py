"""Go's regular expressions on Python's engine."""

import pytest

from stablehand.machinery.regex import RegexError, compile_re2


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("^abc$", "abc", "abc\n"),
        (r"^abc\z", "abc", "abc\n"),
        ("(?m)^b$", "a\nb\nc", "ab"),
        ("^(?i)abc$", "ABC", "abcd"),
        ("a(?i)b|c", "C", "AB"),
        ("(a(?i)b)c", "aBc", "aBC"),
        ("^(?:a|b)+$", "abba", "abc"),
        ("^(?P<x>a)(?<y>b)$", "ab", "a"),
        (r"^\Qa.b\E$", "a.b", "axb"),
        ("^[[:alpha:]_]+$", "ab_", "a1"),
        ("^[]a]+$", "]a", "b"),
        ("^[[a]+$", "[a", "b"),
        (r"^\p{Lu}\pL*$", "Éa", "éa"),
        (r"^[\p{L}0-9]+$", "aé1", "a-"),
        (r"^\x{41}$", "A", "B"),
        (r"^\d+$", "12", "١"),
        (r"^(([0-9]|1[0-9]{2})\.){3}[0-9]$", "1.101.1.1", "1.1.1"),
        ("^$", "", "\n"),
        ("(?s)^a.b$", "a\nb", "a\n\nb"),
        (r"^a\$$", "a$", "a"),
    ],
)
def test_matches(pattern: str, yes: str, no: str) -> None:
    assert compile_re2(pattern).search(yes)
    assert not compile_re2(pattern).search(no)


@pytest.mark.parametrize(
    "pattern", ["(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", "(", "[a", "a**b(", "\\", r"\p{Nope}", "[[:nope:]]"]
)
def test_refused(pattern: str) -> None:
    with pytest.raises(RegexError, match=r"^error parsing regexp: "):
        compile_re2(pattern)
