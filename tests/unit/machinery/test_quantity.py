from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery import quantity


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1000m", "1"),
        ("1.5", "1500m"),
        ("1024Mi", "1Gi"),
        ("0.5Gi", "512Mi"),
        ("1500Mi", "1500Mi"),
        ("1e3", "1e3"),
        ("100k", "100k"),
        ("0", "0"),
        ("0Mi", "0"),
        ("0.5Ki", "512"),
        ("-3k", "-3k"),
        ("1.0", "1"),
    ],
)
def test_canonical(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1 Gi", "--1", "1Kx"])
def test_refused(text: str) -> None:
    with pytest.raises(quantity.QuantityError):
        quantity.parse(text)


def test_arithmetic() -> None:
    assert quantity.add("500m", "0.5") == "1"
    assert quantity.add("0", "1Gi", "1Gi") == "2Gi"
    assert quantity.compare("1Gi", "1G") == 1
    assert quantity.milli("100m") == 100
    assert quantity.milli("1n") == 1
    assert quantity.to_bytes("1Ki") == 1024
    assert quantity.format_bytes(1 << 30) == "1Gi"
    assert quantity.format_milli(1500) == "1500m"
    assert quantity.parse(2) == Decimal(2)


_QUANTITIES = st.builds(
    lambda n, s: f"{n}{s}",
    st.integers(-(10**6), 10**6),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3"]),
)


@given(_QUANTITIES)
def test_canonical_keeps_the_value_and_is_stable(text: str) -> None:
    once = quantity.canonical(text)
    assert quantity.parse(once) == quantity.parse(text)
    assert quantity.canonical(once) == once
