"""The CEL of device selectors is checked when it is written."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.apiserver.strategies import strategy_for
from stablehand.machinery.resources import resource

CLASSES = strategy_for(resource("deviceclasses.resource.k8s.io"))
CLAIMS = strategy_for(resource("resourceclaims.resource.k8s.io"))
GOOD = 'device.driver == "d" && device.attributes["d"].model.startsWith("A") && "x" in device.capacity["d"]'
TEN = str(list(range(10)))


def messages(*expressions: str) -> list[str]:
    selectors: list[dict[str, Any]] = [{"cel": {"expression": text}} for text in expressions]
    return [e.message() for e in CLASSES.validate({"spec": {"selectors": selectors}})]


def test_good_selectors() -> None:
    memory = 'device.capacity["d"].memory.compareTo(quantity("10Gi")) >= 0'
    assert messages(GOOD, memory, 'device.attributes["d"].healthy', "!device.allowMultipleAllocations") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("device.nope == 1", "Invalid value: \"device.nope == 1\": compilation failed: ERROR: <input>:1:7: undefined field"),
        ("device.driver", 'Invalid value: "device.driver": must evaluate to bool or the unknown type, not string'),
        ("x" * 10241, "Too long: may not be more than 10240 bytes"),
        (f"{TEN}.all(a, {TEN}.all(b, {TEN}.all(c, {TEN}.all(d, {TEN}.all(e, {TEN}.all(f, 'x'.find('y') == ''))))))", "Forbidden: too "),
    ],
)  # fmt: skip
def test_bad_selectors(text: str, said: str) -> None:
    (found,) = messages(text)
    assert found.startswith(f"spec.selectors[0].cel.expression: {said}")


def test_claims() -> None:
    one = {"name": "a", "exactly": {"deviceClassName": "x", "selectors": [{"cel": {"expression": "1"}}]}}
    other = {"name": "b", "firstAvailable": [{"name": "c", "deviceClassName": "x", "selectors": [{}]}]}
    found = CLAIMS.validate({"spec": {"devices": {"requests": [one, other]}}})
    assert [e.field for e in found] == [
        "spec.devices.requests[0].exactly.selectors[0].cel.expression",
        "spec.devices.requests[1].firstAvailable[0].selectors[0].cel",
    ]
