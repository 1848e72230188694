"""Ranges of sizes and costs: at least, at most. Arithmetic stops at the largest 64-bit number, as cel-go's does."""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Range:
    least: int
    most: int

    def __add__(self, other: Range) -> Range:
        return Range(min(self.least + other.least, MAX), min(self.most + other.most, MAX))

    def __mul__(self, other: Range) -> Range:
        return Range(min(self.least * other.least, MAX), min(self.most * other.most, MAX))

    def scaled(self, factor: float) -> Range:
        """Times a factor, rounded up."""
        return Range(_scaled(self.least, factor), _scaled(self.most, factor))

    def union(self, other: Range) -> Range:
        return Range(min(self.least, other.least), max(self.most, other.most))


def _scaled(value: int, factor: float) -> int:
    product = math.ceil(float(value) * factor)
    return MAX if product >= 2.0**64 else product


def exactly(value: int) -> Range:
    return Range(value, value)


FREE, ONE, UNKNOWN = exactly(0), exactly(1), Range(0, MAX)
