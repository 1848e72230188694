"""DeviceClasses, ResourceClaims and their templates: whether the CEL of their device selectors can be used.

Follows pkg/apis/resource/validation and dynamic-resource-allocation/cel. Devices are not allocated here; what is
written is checked all the same, so that it can move to a cluster that does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stablehand.apiserver.strategies.base import Strategy
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, required, too_long, too_many
from stablehand.machinery.types import Obj

_MOST_SELECTORS, _LONGEST, _DEAREST = 32, 10 * 1024, 1_000_000


class DeviceClassStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        return super().validate(obj) + list(
            _selectors((obj.get("spec") or {}).get("selectors") or (), "spec.selectors")
        )


class ClaimStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        return super().validate(obj) + list(_claim(obj.get("spec") or {}, "spec"))


class ClaimTemplateStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        inner = (obj.get("spec") or {}).get("spec") or {}
        return super().validate(obj) + list(_claim(inner, "spec.spec"))


def _claim(spec: Obj, path: str) -> Iterator[FieldError]:
    for index, request in enumerate((spec.get("devices") or {}).get("requests") or ()):
        where = f"{path}.devices.requests[{index}]"
        if (exactly := request.get("exactly")) is not None:
            yield from _selectors(exactly.get("selectors") or (), f"{where}.exactly.selectors")
        for at, choice in enumerate(request.get("firstAvailable") or ()):
            yield from _selectors(choice.get("selectors") or (), f"{where}.firstAvailable[{at}].selectors")


def _selectors(selectors: Sequence[Obj], path: str) -> Iterator[FieldError]:
    if len(selectors) > _MOST_SELECTORS:
        yield too_many(path, len(selectors), _MOST_SELECTORS)
    for index, selector in enumerate(selectors):
        where = f"{path}[{index}].cel"
        if selector.get("cel") is None:
            yield required(where)
            continue
        yield from _expression(selector["cel"].get("expression") or "", f"{where}.expression")


def _expression(text: str, path: str) -> Iterator[FieldError]:
    if len(text.encode()) > _LONGEST:
        yield too_long(path, "", _LONGEST)
        return
    from stablehand.machinery.cel import CompileError
    from stablehand.machinery.cel.devices import compile_selector, selector_cost
    from stablehand.machinery.cel.types import BOOL, DYN

    try:
        program = compile_selector(text)
    except CompileError as e:
        yield invalid(path, text, f"compilation failed: {e}")
        return
    if program.type not in (BOOL, DYN):
        yield invalid(path, text, f"must evaluate to bool or the unknown type, not {program.type}")
    elif selector_cost(program) > _DEAREST:
        yield forbidden(path, "too complex, exceeds cost limit")


_GROUP = "resource.k8s.io"
STRATEGIES = {
    f"deviceclasses.{_GROUP}": DeviceClassStrategy,
    f"resourceclaims.{_GROUP}": ClaimStrategy,
    f"resourceclaimtemplates.{_GROUP}": ClaimTemplateStrategy,
}
