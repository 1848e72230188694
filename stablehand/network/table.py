"""A table of nftables as data: what each owner (a Service, the policies) brings, and the smallest transaction from one
state to the next. Pure text; nft applies it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

Key = tuple[str, str]
# (map or set of the table, element)
Element = tuple[str, str]


@dataclass(slots=True)
class Part:
    """The rules of one owner. An element's value is its verdict, or "" in a set.

    `flows` are no rules: where UDP clients of (address, port) are led ("": any address of this node), for the clearing
    of connections that lead elsewhere.
    """

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[Element, str] = field(default_factory=dict)
    flows: dict[tuple[str, int], frozenset[tuple[str, int]]] = field(default_factory=dict)

    def has_rules(self) -> bool:
        return bool(self.elements or self.chains or self.sets)


def digest(*words: object) -> str:
    """A name for a chain or set: nft's are too short for those of objects."""
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()[:16]


class Table:
    """What the kernel has (as far as we wrote it), and the transactions that lead on from there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: dict[Key, Part] = {}
        # Two owners may bring one element (an endpoint's hairpin, a doubled external address): the first has it.
        self._claims: dict[Element, dict[Key, str]] = {}
        self._before: tuple[dict[Key, Part], dict[Element, dict[Key, str]]] = ({}, {})

    def undo(self) -> None:
        """Takes the last change back: nft refused it, and a transaction changes all or nothing."""
        parts, claims = self._before
        for key, part in parts.items():
            self.parts.pop(key, None)
            if part.has_rules():
                self.parts[key] = part
        for element, owners in claims.items():
            self._claims.pop(element, None)
            if owners:
                self._claims[element] = owners
        self._before = ({}, {})

    def change(self, parts: dict[Key, Part]) -> str:
        """Takes in new parts (an empty one removes an owner); the nft commands for the difference."""
        before: dict[Element, str | None] = {}
        old_parts: dict[Key, Part] = {}
        old_claims: dict[Element, dict[Key, str]] = {}
        self._before = (old_parts, old_claims)
        old_chains: dict[str, tuple[str, ...]] = {}
        old_sets: dict[str, str] = {}
        new_chains: dict[str, tuple[str, ...]] = {}
        new_sets: dict[str, str] = {}
        for key, part in parts.items():
            old = self.parts.get(key) or Part()
            if old == part:
                continue
            old_parts[key] = old
            self.parts.pop(key, None)
            if part.has_rules():
                self.parts[key] = part
            old_chains |= old.chains
            old_sets |= old.sets
            new_chains |= part.chains
            new_sets |= part.sets
            for element in old.elements.keys() | part.elements.keys():
                before.setdefault(element, self._value(element))
                claims = self._claims.setdefault(element, {})
                if element not in old_claims:
                    old_claims[element] = dict(claims)
                if element in part.elements:
                    claims[key] = part.elements[element]
                else:
                    claims.pop(key, None)
                if not claims:
                    del self._claims[element]
        gone: dict[str, list[str]] = {}
        come: dict[str, list[str]] = {}
        for element in sorted(before):
            was, now = before[element], self._value(element)
            if was != now:
                if was is not None:
                    gone.setdefault(element[0], []).append(element[1])
                if now is not None:
                    come.setdefault(element[0], []).append(f"{element[1]} : {now}" if now else element[1])
        return self._commands(gone, come, (old_chains, new_chains), (old_sets, new_sets))

    def _value(self, element: Element) -> str | None:
        return next(iter(self._claims.get(element, {}).values()), None)

    def _commands(
        self,
        gone: dict[str, list[str]],
        come: dict[str, list[str]],
        chains: tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]],
        sets: tuple[dict[str, str], dict[str, str]],
    ) -> str:
        table = f"ip {self.name}"
        (old_chains, new_chains), (old_sets, new_sets) = chains, sets
        changed = [c for c in new_chains if old_chains.get(c) != new_chains[c]]
        removed = [c for c in old_chains if c not in new_chains]
        out = [f"delete element {table} {where} {{ {', '.join(each)} }}" for where, each in gone.items()]
        out += [f"add set {table} {s} {{ {text} }}" for s, text in new_sets.items() if s not in old_sets]
        out += [f"add chain {table} {c}" for c in changed if c not in old_chains]
        out += [f"flush chain {table} {c}" for c in [*(c for c in changed if c in old_chains), *removed]]
        out += [f"add rule {table} {c} {rule}" for c in changed for rule in new_chains[c]]
        out += [f"delete chain {table} {c}" for c in removed]
        out += [f"delete set {table} {s}" for s in old_sets if s not in new_sets]
        out += [f"add element {table} {where} {{ {', '.join(each)} }}" for where, each in come.items()]
        return "".join(f"{line}\n" for line in out)
