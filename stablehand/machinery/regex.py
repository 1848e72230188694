"""Regular expressions as Go writes them (RE2 syntax), on Python's engine.

Differences that matter are translated: `$` is the very end, \\z, \\Q…\\E, POSIX classes, \\p{…}, \\x{…}, flags in
the middle, (?<name>…). Look-around and back-references are refused, as RE2 refuses them. What RE2 promises and this does
not: linear time.
"""

from __future__ import annotations

import re
from functools import lru_cache

from stablehand.machinery.unicodeclasses import ranges

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_ESCAPE = re.compile(
    r"\\(?:Q(?P<quoted>.*?)(?:\\E|$)|[pP](?:\{(?P<long>\^?\w+)\}|(?P<short>\w))|x\{(?P<hex>[0-9a-fA-F]+)\}"
    r"|(?P<octal>0[0-7]{0,2}|[1-7][0-7]{1,2})|(?P<one>.))",
    re.DOTALL,
)


class RegexError(ValueError):
    """Not an expression that RE2 takes; str() says why, as Go's regexp does."""


@lru_cache(maxsize=2048)
def compile_re2(pattern: str) -> re.Pattern[str]:
    """The compiled expression. Raises RegexError."""
    try:
        return re.compile(translate(pattern), re.ASCII)
    except re.error as e:
        raise RegexError(f"error parsing regexp: {_gos_words(e, pattern)}") from None
    except (OverflowError, ValueError) as e:
        raise RegexError(f"error parsing regexp: {e}") from None


# What Python's engine says, and what Go's does; those after which Go shows the whole expression.
_WORDS = (
    ("missing ), unterminated subpattern", "missing closing )", True),
    ("unbalanced parenthesis", "unexpected )", True),
    ("nothing to repeat", "missing argument to repetition operator", False),
    ("multiple repeat", "invalid nested repetition operator", False),
    ("min repeat greater than max repeat", "invalid repeat count", False),
    ("bad character range", "invalid character class range", False),
    ("bad escape", "invalid escape sequence", False),
    ("bad character in group name", "invalid named capture", False),
    ("redefinition of group name", "duplicate capture group name", False),
)


def _gos_words(error: re.error, pattern: str) -> str:
    for ours, gos, whole in _WORDS:
        if error.msg.startswith(ours):
            at = error.pos or 0
            return f"{gos}: `{pattern if whole else str(error.pattern)[at : at + 2] or pattern}`"
    return f"{error.msg}: `{pattern}`"


def translate(pattern: str) -> str:
    """The expression in Python's syntax. Raises ValueError for what RE2 has not."""
    out: list[str] = []
    at = 0
    # For each open group: the texts that flags in its middle opened, to be closed with it; and whether (?m) holds.
    opened: list[list[str]] = [[]]
    multiline = [False]
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            text, at = _escape(pattern, at, False)
            out.append(text)
            continue
        if char == "[":
            text, at = _class(pattern, at)
            out.append(text)
            continue
        if char == "(" and (flags := _FLAGS.match(pattern, at)):
            on, off = flags[1].replace("U", ""), (flags[2] or "").replace("U", "")
            prefix = f"(?{on}{'-' + off if off else ''}:"
            now = ("m" in on) or (multiline[-1] and "m" not in off)
            if flags[3] == ":":
                opened.append([])
                multiline.append(now)
                out.append(prefix)
            else:
                multiline[-1] = now
                opened[-1].append(prefix)
                out.append(prefix)
            at = flags.end()
            continue
        if char == "(":
            head = "(?P<" if pattern.startswith(("(?<", "(?P<"), at) else "("
            follow = pattern[at + 1 : at + 4]
            if follow.startswith("?") and not follow.startswith(("?:", "?P<")) and not re.match(r"\?<\w", follow):
                raise ValueError(f"invalid or unsupported Perl syntax: `{pattern[at : at + 3]}`")
            opened.append([])
            multiline.append(multiline[-1])
            out.append(head if head != "(" else ("(?:" if follow.startswith("?:") else "("))
            at += 1 if head == "(" and not follow.startswith("?:") else 3 if follow.startswith(("?:", "?<")) else 4
            continue
        if char in "*+?{":
            at = _quantifier(pattern, at, out)
            continue
        if char == ")" and len(opened) > 1:
            out.append(")" * (len(opened.pop()) + 1))
            multiline.pop()
        elif char == "|" and opened[-1]:
            out.append(")" * len(opened[-1]) + "|" + "".join(opened[-1]))
        elif char == "$" and not multiline[-1]:
            out.append(r"\Z")
        else:
            out.append(char)
        at += 1
    out.append(")" * len(opened[0]))
    return "".join(out)


_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")
_MOST_REPEATS = 1000


def _repeat(pattern: str, at: int) -> re.Match[str] | None:
    """A counted repetition at this place; what only looks like one ("{,5}") is text."""
    return _COUNT.match(pattern, at)


def _quantifier(pattern: str, at: int, out: list[str]) -> int:
    """One repetition operator with its "?"; where the next character is. Raises ValueError as RE2 refuses it."""
    start = at
    if pattern[at] == "{":
        count = _repeat(pattern, at)
        if count is None:
            out.append("\\{")
            return at + 1
        low, high = int(count[1]), int(count[3] or 0)
        if low > _MOST_REPEATS or high > _MOST_REPEATS or (count[3] and high < low):
            raise ValueError(f"invalid repeat count: `{count[0]}`")
        at = count.end()
    else:
        at += 1
    if out and out[-1] in (r"\b", r"\B", "^", "$", r"\Z", r"\A"):
        out[-1] = f"(?:{out[-1]})"  # RE2 repeats what is empty, too
    if pattern.startswith("?", at):
        at += 1
    if at < len(pattern) and (pattern[at] in "*+?" or (pattern[at] == "{" and _repeat(pattern, at))):
        following = _repeat(pattern, at)
        end = following.end() if following else at + 1
        raise ValueError(f"invalid nested repetition operator: `{pattern[start:end]}`")
    if not out or out[-1] in ("(", "(?:", "|") or out[-1].endswith("<"):
        raise ValueError(f"missing argument to repetition operator: `{pattern[start:at]}`")
    out.append(pattern[start:at])
    return at


def _escape(pattern: str, at: int, within: bool) -> tuple[str, int]:
    """One escape, inside a class or not, and where the next character is."""
    found = _ESCAPE.match(pattern, at)
    if found is None:
        raise ValueError("trailing backslash at end of expression: ``")
    if found["quoted"] is not None:
        return re.escape(found["quoted"]), found.end()
    if name := found["long"] or found["short"]:
        inside = ranges(name.removeprefix("^"), (pattern[at + 1] == "P") != name.startswith("^"))
        if inside is None:
            raise ValueError(f"invalid character class range: `{found.group()}`")
        return (inside if within else f"[{inside}]"), found.end()
    if found["hex"] or found["octal"]:
        code = int(found["hex"], 16) if found["hex"] else int(found["octal"], 8)
        if code > 0x10FFFF:
            raise ValueError(f"invalid escape sequence: `{found.group()}`")
        return f"\\U{code:08x}", found.end()
    one = found["one"]
    if one == "z":
        return r"\Z", found.end()
    if one not in "aftnrvxdDsSwWAbB" and (one.isalnum() or not one.isascii()):
        raise ValueError(f"invalid escape sequence: `{found.group()}`")
    if one == "x" and not re.match("[0-9a-fA-F]{2}", pattern[found.end() : found.end() + 2]):
        raise ValueError(f"invalid escape sequence: `{pattern[at : found.end() + 2]}`")
    if within and one in "AbB":
        raise ValueError(f"invalid escape sequence: `{found.group()}`")
    return found.group(), found.end()


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A bracket expression, and where it ends."""
    out, start = ["["], at
    at += 1
    if pattern.startswith("^", at):
        out.append("^")
        at += 1
    if pattern.startswith("]", at):
        out.append(r"\]")
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        if pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
            name = pattern[at + 2 : end]
            inside = _POSIX.get(name.removeprefix("^"))
            if inside is None:
                raise ValueError(f"invalid character class range: `{pattern[at : end + 2]}`")
            out.append(_without(inside) if name.startswith("^") else inside)
            at = end + 2
        elif pattern[at] == "\\":
            text, at = _escape(pattern, at, True)
            out.append(text)
        else:
            out.append("\\[" if pattern[at] == "[" else pattern[at])
            at += 1
    if at >= len(pattern):
        raise ValueError(f"missing closing ]: `{pattern[start:]}`")
    return "".join(out) + "]", at + 1


@lru_cache(maxsize=32)
def _without(inside: str) -> str:
    """The ranges of all characters that a POSIX class leaves out: what is not ASCII, and of ASCII the rest."""
    known = re.compile(f"[{inside}]", re.ASCII)
    rest = "".join(f"\\x{code:02x}" for code in range(128) if not known.match(chr(code)))
    return rest + "\\x80-\\U0010ffff"
