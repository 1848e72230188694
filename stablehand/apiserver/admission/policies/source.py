"""Policies and their bindings as they are stored, each policy compiled once and again when it changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from stablehand.apiserver.core import Core
from stablehand.machinery.cel import ConditionError
from stablehand.machinery.cel.composition import Composition
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.apiserver")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Hook(Generic[C]):
    """A policy with its bindings; `compiled` is what the plugin made of its spec."""

    policy: Obj
    compiled: C
    composition: Composition
    bindings: tuple[Obj, ...]

    @property
    def name(self) -> str:
        return str(self.policy["metadata"]["name"])

    @property
    def failure_policy(self) -> str:
        return str(self.policy["spec"].get("failurePolicy") or "Fail")


def composition_of(spec: Obj, *, objects: bool) -> Composition:
    """The composition of a policy's spec, with its variables. Errors in variables come up when they are used."""
    made = Composition(params=spec.get("paramKind") is not None, objects=objects)
    for variable in spec.get("variables") or ():
        try:
            made.add_variable(variable.get("name") or "", variable.get("expression") or "")
        except ConditionError as e:
            log.debug("variable %s of a policy: %s", variable.get("name"), e)
    return made


class Source(Generic[C]):
    """The policies of one kind that have bindings; `compile_spec` makes of a spec what its plugin evaluates."""

    def __init__(
        self,
        core: Core,
        policies: Resource,
        bindings: Resource,
        compile_spec: Callable[[Obj, Composition], C],
        *,
        objects: bool,
    ) -> None:
        self._policies = core.storage.collection(policies)
        self._bindings = core.storage.collection(bindings)
        self._compile_spec, self._objects = compile_spec, objects
        self._versions = (-1, -1)
        self._made: dict[str, tuple[Obj, C, Composition]] = {}
        self._hooks: list[Hook[C]] = []

    def hooks(self) -> list[Hook[C]]:
        """In order of the policies' names, each with its bindings in order of theirs."""
        versions = (self._policies.version, self._bindings.version)
        if versions != self._versions:
            self._versions = versions
            self._hooks = self._read()
        return self._hooks

    def _read(self) -> list[Hook[C]]:
        bound: dict[str, list[Obj]] = {}
        for _, entry in self._bindings.ordered():
            bound.setdefault((entry.obj.get("spec") or {}).get("policyName") or "", []).append(entry.obj)
        hooks, made = [], {}
        for (_, name), entry in self._policies.ordered():
            known = self._made.get(name)
            if known is None or known[0] is not entry.obj:
                spec = entry.obj.get("spec") or {}
                composition = composition_of(spec, objects=self._objects)
                known = (entry.obj, self._compile_spec(spec, composition), composition)
            made[name] = known
            if name in bound:
                hooks.append(Hook(*known, tuple(bound[name])))
        self._made = made
        return hooks
