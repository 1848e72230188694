"""The hashes that name revisions and ReplicaSets: FNV-1 and FNV-1a (32 bits), and the alphabet of generated names."""

from __future__ import annotations

import random

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_OFFSET, _PRIME, _MASK = 2166136261, 16777619, 0xFFFFFFFF


def fnv1_32(data: bytes) -> int:
    """FNV-1, 32 bits: multiply, then xor (Go's fnv.New32)."""
    value = _OFFSET
    for byte in data:
        value = (value * _PRIME & _MASK) ^ byte
    return value


def fnv1a_32(data: bytes) -> int:
    """FNV-1a, 32 bits: xor, then multiply (Go's fnv.New32a)."""
    value = _OFFSET
    for byte in data:
        value = (value ^ byte) * _PRIME & _MASK
    return value


def safe_encode(text: str) -> str:
    """Maps every character onto an alphabet without vowels, so that no hash spells a word (rand.SafeEncodeString)."""
    return "".join(ALPHABET[ord(char) % len(ALPHABET)] for char in text)


def random_suffix(length: int = 5) -> str:
    """The random end of a generated name."""
    return "".join(random.choices(ALPHABET, k=length))
