"""Tokens to a syntax tree: precedence climbing, and the macros, which are syntax and not functions."""

from __future__ import annotations

from typing import NoReturn

from stablehand.machinery.cel.ast import (
    Call,
    Ident,
    Index,
    ListLiteral,
    Literal,
    Logic,
    Macro,
    MapLiteral,
    Node,
    Select,
    Struct,
    Ternary,
)
from stablehand.machinery.cel.errors import CompileError, Issue
from stablehand.machinery.cel.lexer import MAX_INT, Token, tokens

_RELATIONS = ("<", "<=", ">=", ">", "==", "!=", "in")
_SUMS, _PRODUCTS = ("+", "-"), ("*", "/", "%")
_RESERVED = frozenset(
    {
        "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
        "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
_KEYWORDS = frozenset({"true", "false", "null", "in"})
_EXPECTED = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
# (name, number of arguments) -> number of variables, when called on a value
_MACROS = {
    ("all", 2): 1, ("exists", 2): 1, ("exists_one", 2): 1, ("existsOne", 2): 1, ("map", 2): 1, ("map", 3): 1,
    ("filter", 2): 1, ("all", 3): 2, ("exists", 3): 2, ("existsOne", 3): 2, ("exists_one", 3): 2,
    ("transformList", 3): 2, ("transformList", 4): 2, ("transformMap", 3): 2, ("transformMap", 4): 2,
    ("transformMapEntry", 3): 2, ("transformMapEntry", 4): 2, ("optMap", 2): 1, ("optFlatMap", 2): 1,
}  # fmt: skip
MAX_DEPTH = 100
MAX_SIZE = 100_000


def parse(source: str) -> Node:
    """The tree of an expression. Raises CompileError."""
    if len(source) > MAX_SIZE:
        text = f"expression code point size exceeds limit: size: {len(source)}, limit {MAX_SIZE}"
        raise CompileError("", [Issue(0, text)])
    return _Parser(source).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokens(source)
        self.at = 0
        self.depth = 0

    # --- tokens

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def is_op(self, *texts: str) -> bool:
        token = self.tokens[self.at]
        return token.kind == "op" and token.text in texts

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, text: str) -> Token | None:
        return self.take() if self.is_op(text) else None

    def expect(self, text: str) -> Token:
        if self.is_op(text):
            return self.take()
        self.unexpected(f"'{text}'")

    def fail(self, pos: int, text: str) -> NoReturn:
        raise CompileError(self.source, [Issue(pos, text)])

    def unexpected(self, expecting: str) -> NoReturn:
        self.fail(self.token.pos, f"Syntax error: mismatched input '{self.token.text}' expecting {expecting}")

    # --- expressions

    def whole(self) -> Node:
        node = self.expression()
        if self.token.kind != "end":
            self.unexpected("<EOF>")
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(self.token.pos, f"expression recursion limit exceeded: {MAX_DEPTH}")
        node = self.disjunction()
        if mark := self.accept("?"):
            yes = self.disjunction()
            self.expect(":")
            node = Ternary(mark.pos, node, yes, self.expression())
        self.depth -= 1
        return node

    def disjunction(self) -> Node:
        first = self.conjunction()
        terms = [(first.pos, first)]
        while mark := self.accept("||"):
            terms.append((mark.pos, self.conjunction()))
        return first if len(terms) == 1 else Logic(terms[1][0], False, terms)

    def conjunction(self) -> Node:
        first = self.binary(0)
        terms = [(first.pos, first)]
        while mark := self.accept("&&"):
            terms.append((mark.pos, self.binary(0)))
        return first if len(terms) == 1 else Logic(terms[1][0], True, terms)

    def binary(self, level: int) -> Node:
        operators = (_RELATIONS, _SUMS, _PRODUCTS)[level]
        node = self.binary(level + 1) if level < 2 else self.unary()
        while True:
            token = self.token
            if token.text not in operators or token.kind not in ("op", "ident"):
                return node
            self.at += 1
            right = self.binary(level + 1) if level < 2 else self.unary()
            name = "@in" if token.text == "in" else f"_{token.text}_"
            node = Call(token.pos, name, None, [node, right])

    def unary(self) -> Node:
        if not self.is_op("!", "-"):
            return self.member()
        mark = self.take()
        if mark.text == "-" and self.token.kind in ("int", "float"):
            self.tokens[self.at] = self.token._replace(value=-self.token.value, pos=mark.pos)
            return self.member()
        count = 1
        while self.is_op(mark.text):
            self.take()
            count += 1
        node = self.member()
        return Call(mark.pos, f"{mark.text}_", None, [node]) if count % 2 else node

    def member(self) -> Node:
        node = self.primary()
        while True:
            if mark := self.accept("."):
                optional = self.accept("?") is not None
                name = self.identifier()
                if self.is_op("(") and not optional:
                    node = self.call(name, node)
                else:
                    node = Select(mark.pos, node, name, optional)
            elif mark := self.accept("["):
                optional = self.accept("?") is not None
                index = self.expression()
                self.expect("]")
                node = Index(mark.pos, node, index, optional)
            elif self.is_op("{") and (struct := _dotted(node)):
                node = self.struct(struct)
            else:
                return node

    def identifier(self) -> str:
        """A field's or a function's name after a dot: reserved words may stand there, keywords not."""
        if self.token.kind != "ident" or self.token.text in _KEYWORDS:
            self.fail(self.token.pos, f"Syntax error: no viable alternative at input '.{self.token.text}'")
        return self.take().text

    def primary(self) -> Node:
        token = self.token
        if token.kind in ("float", "uint", "string", "bytes"):
            self.at += 1
            return Literal(token.pos, token.value)
        if token.kind == "int":
            self.at += 1
            if not -MAX_INT - 1 <= token.value <= MAX_INT:
                self.fail(token.pos, "invalid int literal")
            return Literal(token.pos, token.value)
        if token.kind == "ident" and token.text != "in":
            self.at += 1
            if token.text in ("true", "false"):
                return Literal(token.pos, token.text == "true")
            if token.text == "null":
                return Literal(token.pos, None)
            if token.text in _RESERVED:
                self.fail(token.pos, f"reserved identifier: {token.text}")
            return self.call(token.text, None) if self.is_op("(") else Ident(token.pos, token.text)
        if self.accept("("):
            node = self.expression()
            self.expect(")")
            return node
        if self.accept("["):
            return self.list_literal(token.pos)
        if self.accept("{"):
            return self.map_literal(token.pos)
        if self.accept("."):
            name = self.identifier()
            return self.call(name, None) if self.is_op("(") else Ident(token.pos, name)
        self.unexpected(_EXPECTED)

    def list_literal(self, pos: int) -> Node:
        items: list[tuple[Node, bool]] = []
        while not self.is_op("]"):
            optional = self.accept("?") is not None
            items.append((self.expression(), optional))
            if not self.accept(","):
                break
        self.expect("]")
        return ListLiteral(pos, items)

    def map_literal(self, pos: int) -> Node:
        entries: list[tuple[Node, Node, bool]] = []
        while not self.is_op("}"):
            optional = self.accept("?") is not None
            key = self.expression()
            self.expect(":")
            entries.append((key, self.expression(), optional))
            if not self.accept(","):
                break
        self.expect("}")
        return MapLiteral(pos, entries)

    def struct(self, name: str) -> Node:
        pos = self.expect("{").pos
        fields: list[tuple[int, str, Node, bool]] = []
        while not self.is_op("}"):
            optional = self.accept("?") is not None
            field = self.identifier()
            colon = self.expect(":")
            fields.append((colon.pos, field, self.expression(), optional))
            if not self.accept(","):
                break
        self.expect("}")
        return Struct(pos, name, fields)

    # --- calls and macros

    def call(self, name: str, target: Node | None) -> Node:
        pos = self.expect("(").pos
        args: list[Node] = []
        while not self.is_op(")"):
            args.append(self.expression())
            if not self.accept(","):
                break
        self.expect(")")
        if target is None:
            return self.has(pos, args) if name == "has" and len(args) == 1 else Call(pos, name, None, args)
        variables = _MACROS.get((name, len(args)))
        if variables is None or (isinstance(target, Ident) and target.name == "cel"):
            return Call(pos, name, target, args)
        names: list[str] = []
        for arg in args[:variables]:
            if not isinstance(arg, Ident):
                self.fail(arg.pos, "argument must be a simple name")
            names.append(arg.name)
        kind = "exists_one" if name == "existsOne" else name
        return Macro(pos, kind, target, names, args[variables:])

    def has(self, pos: int, args: list[Node]) -> Node:
        arg = args[0]
        if not isinstance(arg, Select) or arg.optional:
            self.fail(arg.pos, "invalid argument to has() macro")
        return Select(pos, arg.operand, arg.field, test=True)


def _dotted(node: Node) -> str:
    """The name that a chain of plain selections spells, or ""."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.optional and not node.test:
        prefix = _dotted(node.operand)
        return f"{prefix}.{node.field}" if prefix else ""
    return ""
