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
        (r"^\PL+$", "12", "a1"),
        (r"^\p{^Lu}[^\p{Greek}]\p{Sc}$", "ab€", "Ab€"),
        (r"^[[:^digit:]]$", "é", "1"),
        ("^a{,2}$", "a{,2}", "aa"),
        (r"^\101\07$", "A\a", "B"),
        ("(?:^*a)(b$)+", "ab", "a"),
        ("^a{2}?$", "aa", "a"),
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


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("a[b", "missing closing ]: `[b`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("(|+)", "missing argument to repetition operator: `+`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a++", "invalid nested repetition operator: `++`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\e", r"invalid escape sequence: `\e`"),
        ("\\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
    ],
)
def test_errors_are_gos(pattern: str, said: str) -> None:
    with pytest.raises(RegexError) as caught:
        compile_re2(pattern)
    assert str(caught.value) == f"error parsing regexp: {said}"
