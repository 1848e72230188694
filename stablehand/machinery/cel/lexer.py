"""Source text to tokens, and the values of literals."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from stablehand.machinery.cel.errors import CompileError, Issue
from stablehand.machinery.cel.values import UInt

_TRIPLE = r'"""(?:[^\\]|\\.)*?"""|\'\'\'(?:[^\\]|\\.)*?\'\'\''
_SINGLE = r'"(?:[^"\\\n\r]|\\.)*"|\'(?:[^\'\\\n\r]|\\.)*\''
_RAW_TRIPLE = r'""".*?"""|\'\'\'.*?\'\'\''
_RAW_SINGLE = r'"[^"\n\r]*"|\'[^\'\n\r]*\''
_TOKEN = re.compile(
    rf"""(?P<space>[\t\n\f\r ]+|//[^\n]*)
    |(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
    |(?P<uint>(?:0x[0-9a-fA-F]+|\d+)[uU])
    |(?P<int>0x[0-9a-fA-F]+|\d+)
    |(?P<rawbytes>(?:[bB][rR]|[rR][bB])(?:{_RAW_TRIPLE}|{_RAW_SINGLE}))
    |(?P<raw>[rR](?:{_RAW_TRIPLE}|{_RAW_SINGLE}))
    |(?P<bytes>[bB](?:{_TRIPLE}|{_SINGLE}))
    |(?P<string>{_TRIPLE}|{_SINGLE})
    |(?P<ident>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{{}}])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.|$))",
    re.DOTALL,
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
MAX_INT, MIN_INT, MAX_UINT = 2**63 - 1, -(2**63), 2**64 - 1


class Token(NamedTuple):
    kind: str  # float uint int string bytes ident op end
    text: str
    pos: int
    value: Any = None


def tokens(source: str) -> list[Token]:
    """All tokens, the last of kind "end". Raises CompileError. Integers keep their magnitude (the parser knows signs)."""
    out: list[Token] = []
    pos = 0
    while pos < len(source):
        found = _TOKEN.match(source, pos)
        if found is None:
            raise CompileError(source, [Issue(pos, f"Syntax error: token recognition error at: '{source[pos]}'")])
        kind, text = found.lastgroup or "", found.group()
        if kind != "space":
            out.append(_token(source, kind, text, pos))
        pos = found.end()
    out.append(Token("end", "<EOF>", len(source)))
    return out


def _token(source: str, kind: str, text: str, pos: int) -> Token:
    if kind in ("ident", "op"):
        return Token(kind, text, pos)
    if kind == "float":
        return Token(kind, text, pos, float(text))
    if kind == "int":
        return Token(kind, text, pos, int(text, 0) if text[:2] == "0x" else int(text))
    if kind == "uint":
        number = int(text[:-1], 16 if text[:2] == "0x" else 10)
        if number > MAX_UINT:
            raise CompileError(source, [Issue(pos, "invalid uint literal")])
        return Token(kind, text, pos, UInt(number))
    if kind == "raw":
        return Token("string", text, pos, _unquoted(text[1:]))
    if kind == "rawbytes":
        return Token("bytes", text, pos, _unquoted(text[2:]).encode())
    try:
        if kind == "bytes":
            return Token(kind, text, pos, _bytes(_unquoted(text[1:])))
        return Token(kind, text, pos, _string(_unquoted(text)))
    except ValueError as e:
        raise CompileError(source, [Issue(pos, str(e))]) from None


def _unquoted(text: str) -> str:
    width = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1
    return text[width:-width]


def _string(text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        simple, two, four, eight, octal, bad = found.groups()
        if simple:
            return _SIMPLE.get(simple, simple)
        if bad is not None:
            raise ValueError(f"Syntax error: token recognition error at: '\\{bad}'")
        point = int(octal, 8) if octal else int(two or four or eight, 16)
        if point > 0x10FFFF or 0xD800 <= point < 0xE000:
            raise ValueError("invalid unicode code point")
        return chr(point)

    return _ESCAPE.sub(replace, text) if "\\" in text else text


def _bytes(text: str) -> bytes:
    """In bytes literals \\xHH and octals are bytes, all else is UTF-8."""
    out, at = b"", 0
    for found in _ESCAPE.finditer(text):
        out += text[at : found.start()].encode()
        simple, two, four, eight, octal, bad = found.groups()
        if bad is not None or four or eight:
            raise ValueError("invalid escape in bytes literal")
        out += (_SIMPLE.get(simple, simple)).encode() if simple else bytes([int(octal, 8) if octal else int(two, 16)])
        at = found.end()
    return out + text[at:].encode()
