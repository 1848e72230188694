"""Regular expressions as Go writes them (RE2 syntax), on Python's engine.

Differences that matter are translated: `$` is the very end, \\z, \\Q…\\E, POSIX classes, \\p{…} (roughly), \\x{…}, flags in
the middle, (?<name>…). Look-around and back-references are refused, as RE2 refuses them. What RE2 promises and this does
not: linear time.
"""

from __future__ import annotations

import re
from functools import lru_cache

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
# Unicode classes by the ranges of the scripts in common use.
_UNICODE = {
    "L": r"A-Za-z\u00AA\u00B5\u00BA\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u02C1\u0370-\u03FF\u0400-\u052F\u0531-\u0587"
    r"\u05D0-\u05EA\u0620-\u064A\u0900-\u1FFF\u2C00-\u2DFF\u3041-\u318E\u31A0-\u31BF\u3400-\uA48C\uAC00-\uD7A3",
    "Lu": r"A-Z\u00C0-\u00D6\u00D8-\u00DE\u0391-\u03A9\u0410-\u042F",
    "Ll": r"a-z\u00DF-\u00F6\u00F8-\u00FF\u03B1-\u03C9\u0430-\u044F",
    "N": r"0-9\u00B2\u00B3\u00B9\u00BC-\u00BE\u0660-\u0669\u0966-\u096F\uFF10-\uFF19",
    "Nd": r"0-9\u0660-\u0669\u0966-\u096F\uFF10-\uFF19",
}
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_ESCAPE = re.compile(
    r"\\(?:Q(?P<quoted>.*?)(?:\\E|$)|p(?:\{(?P<long>\w+)\}|(?P<short>\w))|x\{(?P<hex>[0-9a-fA-F]+)\}|(?P<one>.))",
    re.DOTALL,
)


class RegexError(ValueError):
    """Not an expression that RE2 takes; str() says why, as Go's regexp does."""


@lru_cache(maxsize=2048)
def compile_re2(pattern: str) -> re.Pattern[str]:
    """The compiled expression. Raises RegexError."""
    try:
        return re.compile(translate(pattern), re.ASCII)
    except (re.error, OverflowError, ValueError) as e:
        raise RegexError(f"error parsing regexp: {e}: `{pattern}`") from None


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
                raise ValueError(f"invalid or unsupported Perl syntax: `{pattern[at : at + 4]}`")
            opened.append([])
            multiline.append(multiline[-1])
            out.append(head if head != "(" else ("(?:" if follow.startswith("?:") else "("))
            at += 1 if head == "(" and not follow.startswith("?:") else 3 if follow.startswith(("?:", "?<")) else 4
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


def _escape(pattern: str, at: int, within: bool) -> tuple[str, int]:
    """One escape, inside a class or not, and where the next character is."""
    found = _ESCAPE.match(pattern, at)
    if found is None:
        raise ValueError("trailing backslash at end of expression")
    if found["quoted"] is not None:
        return re.escape(found["quoted"]), found.end()
    if name := found["long"] or found["short"]:
        ranges = _UNICODE.get(name)
        if ranges is None:
            raise ValueError(f"invalid character class range: `{found.group()}`")
        return (ranges if within else f"[{ranges}]"), found.end()
    if found["hex"]:
        return re.escape(chr(int(found["hex"], 16))), found.end()
    one = found["one"]
    if one.isdigit() and one != "0":
        raise ValueError(f"invalid escape sequence: `{found.group()}`")
    if one == "z":
        return r"\Z", found.end()
    if one in "GKkNRXZ":
        raise ValueError(f"invalid escape sequence: `{found.group()}`")
    return found.group(), found.end()


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A bracket expression, and where it ends."""
    out = ["["]
    at += 1
    if pattern.startswith("^", at):
        out.append("^")
        at += 1
    if pattern.startswith("]", at):
        out.append(r"\]")
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        if pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
            ranges = _POSIX.get(pattern[at + 2 : end])
            if ranges is None:
                raise ValueError(f"invalid character class range: `{pattern[at : end + 2]}`")
            out.append(ranges)
            at = end + 2
        elif pattern[at] == "\\":
            text, at = _escape(pattern, at, True)
            out.append(text)
        else:
            out.append("\\[" if pattern[at] == "[" else pattern[at])
            at += 1
    if at >= len(pattern):
        raise ValueError("missing closing ]")
    return "".join(out) + "]", at + 1
