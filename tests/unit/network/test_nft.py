"""A part that nft refuses is left out, and told of; the others go in. With a kernel of our own."""

from __future__ import annotations

import re

import pytest

from stablehand.network import nft
from stablehand.network.nft import NetworkError, TableWriter
from stablehand.network.table import Key, Part

SKELETON = "table t\n"


def part(word: str) -> Part:
    return Part(elements={("services", word): "drop"}, chains={f"c_{word}": (word,)})


class Kernel:
    """Knows elements; refuses whatever has `bad` in it, and everything while `broken`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.elements: set[str] = set()
        self.broken, self.bad, self.transactions = False, "bad", 0
        monkeypatch.setattr(nft, "apply", self.apply)

    async def apply(self, commands: str) -> str:
        self.transactions += 1
        if self.broken or self.bad in commands:
            raise NetworkError("nft refused our rules: it is odd")
        for line in commands.splitlines():
            if line == SKELETON.strip():
                self.elements.clear()
            if found := re.match(r"(add|delete) element ip t services { (.*) }", line):
                words = {each.split(" : ")[0] for each in found[2].split(", ")}
                if found[1] == "add":
                    self.elements |= words
                else:
                    assert words <= self.elements
                    self.elements -= words
        return ""


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **parts: Part) -> None:
        self.kernel = Kernel(monkeypatch)
        self.parts: dict[Key, Part] = {("ns", name): each for name, each in parts.items()}
        self.told: list[Key] = []
        self.writer = TableWriter("t", SKELETON, lambda: dict(self.parts), lambda key, _why: self.told.append(key))

    async def change(self, **parts: Part) -> None:
        new = {("ns", name): each for name, each in parts.items()}
        self.parts |= new
        await self.writer.change(new)


async def test_one_odd_part_among_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, a=part("a1"), b=part("b1"))
    await world.writer.rewrite()
    await world.change(a=part("a2"), b=part("bad"), c=part("c1"))
    assert world.kernel.elements == {"a2", "b1", "c1"}  # b has what it had before
    assert world.told == [("ns", "b")]
    # Later changes are one transaction again, and nobody hears of it twice.
    before = world.kernel.transactions
    await world.change(a=part("a3"))
    await world.change(b=part("bad"))
    assert world.kernel.elements == {"a3", "b1", "c1"} and world.kernel.transactions == before + 1
    assert world.told == [("ns", "b")]
    await world.change(b=part("b2"))
    assert world.kernel.elements == {"a3", "b2", "c1"}


async def test_an_odd_part_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, a=part("a1"), b=part("bad"), c=part("c1"))
    await world.writer.rewrite()
    assert world.kernel.elements == {"a1", "c1"} and world.told == [("ns", "b")]
    await world.change(b=Part())
    assert world.kernel.elements == {"a1", "c1"}


async def test_when_everything_is_refused_it_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, a=part("a1"), b=part("b1"))
    world.kernel.broken = True
    with pytest.raises(NetworkError):
        await world.writer.rewrite()
    world.kernel.broken, world.kernel.bad = False, "add"
    with pytest.raises(NetworkError):
        await world.writer.rewrite()
    world.kernel.bad = "bad"
    await world.writer.rewrite()
    assert world.kernel.elements == {"a1", "b1"}


async def test_something_else_is_written_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, a=part("a1"), b=part("bad"))
    world.writer = TableWriter("t", SKELETON, lambda: dict(world.parts), instead=lambda _key, _part: part("closed"))
    await world.writer.rewrite()
    assert world.kernel.elements == {"a1", "closed"}
