"""Unicode classes of regular expressions (\\p{Lu}, \\p{Greek}) as ranges of a Python bracket expression.

General categories come from Python's Unicode tables; scripts are told from the names of their characters, which takes
in nearly all of theirs. A class is worked out when a pattern asks for it (some 50 ms), and kept.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain

_SCRIPTS = {
    "Arabic", "Armenian", "Balinese", "Bengali", "Bopomofo", "Braille", "Cherokee", "Coptic", "Cyrillic", "Devanagari",
    "Ethiopic", "Georgian", "Gothic", "Greek", "Gujarati", "Gurmukhi", "Han", "Hangul", "Hebrew", "Hiragana", "Javanese",
    "Kannada", "Katakana", "Khmer", "Lao", "Latin", "Malayalam", "Mongolian", "Myanmar", "Ogham", "Oriya", "Runic",
    "Sinhala", "Syriac", "Tamil", "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh", "Yi",
}  # fmt: skip
_NAMED = {"Han": "CJK"}
_MAJOR = frozenset("CLMNPSZ")
_LAST = sys.maxunicode
# Where characters are at all, and the planes of private use, which are of one class.
_ASSIGNED = (range(0x32400), range(0xE0000, 0xE0200))
_PRIVATE = ((0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))


@lru_cache(maxsize=64)
def ranges(name: str, negated: bool = False) -> str | None:
    """The inside of a bracket expression for the class, or for all that is not in it; None: there is no such class."""
    if name == "Any" and not negated:
        return _written(0, _LAST)
    wanted = _members(name)
    if wanted is None:
        return None
    runs = list(_runs(code for code in chain(*_ASSIGNED) if wanted(chr(code))))
    runs += [run for run in _PRIVATE if wanted(chr(run[0]))]
    return "".join(_written(first, last) for first, last in (_others(runs) if negated else runs))


def _members(name: str) -> Callable[[str], bool] | None:
    """Whether a character is of the class."""
    if name in _SCRIPTS:
        prefix = _NAMED.get(name, name.upper()) + " "
        return lambda char: unicodedata.name(char, "").startswith(prefix)
    if name[0] in _MAJOR and (len(name) == 1 or (len(name) == 2 and name[1].islower())):
        return lambda char: (category := unicodedata.category(char)).startswith(name) and category != "Cn"
    return None


def _runs(codes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Codes that follow each other, as (first, last)."""
    first = last = -2
    for code in codes:
        if code != last + 1:
            if first >= 0:
                yield first, last
            first = code
        last = code
    if first >= 0:
        yield first, last


def _others(runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is between the runs."""
    at = 0
    for first, last in runs:
        if first > at:
            yield at, first - 1
        at = last + 1
    if at <= _LAST:
        yield at, _LAST


def _written(first: int, last: int) -> str:
    low = f"\\U{first:08x}"
    return low if first == last else f"{low}-\\U{last:08x}"
