"""Formats of strings in schemas of custom resources."""

from __future__ import annotations

import pytest

from stablehand.machinery.structuralformats import FORMATS


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "fe80::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("date-time", "2026-01-01T00:00:00.5Z", "2026-01-01"),
        ("date", "2026-12-31", "2026-13-01"),
        ("duration", "1h30m", "1x"),
        ("byte", "YQ==", "Y?"),
        ("email", "a@example.com", "a"),
        ("hostname", "a.example.com", "a_b"),
        ("uri", "https://a/b", "a"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("mac", "00:11:22:33:44:55", "00:11"),
        ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
        ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("isbn10", "0-306-40615-2", "0-306-40615-3"),
        ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
        ("isbn", "0306406152", "1"),
        ("ssn", "111-11-1111", "111-11"),
        ("hexcolor", "#fff", "#ff"),
        ("rgbcolor", "rgb(0, 10, 255)", "rgb(0,0,256)"),
        ("k8s-short-name", "a-b", "a.b"),
        ("k8s-long-name", "a.b", "A"),
    ],
)
def test_formats(form: str, good: str, bad: str) -> None:
    assert FORMATS[form](good) and not FORMATS[form](bad)
