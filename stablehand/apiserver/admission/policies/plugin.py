"""The two admission plugins of policies. CEL is loaded with the first policy that is bound, not with every server."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.resources import resource

if TYPE_CHECKING:
    from stablehand.apiserver.admission.policies.mutating import MutatingPolicies
    from stablehand.apiserver.admission.policies.validating import ValidatingPolicies

_GROUP = "admissionregistration.k8s.io"


class Policies:
    """`mutate` and `validate` are admission plugins."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._mutating_bindings = core.storage.collection(resource(f"mutatingadmissionpolicybindings.{_GROUP}"))
        self._validating_bindings = core.storage.collection(resource(f"validatingadmissionpolicybindings.{_GROUP}"))

    @cached_property
    def _mutating(self) -> MutatingPolicies:
        from stablehand.apiserver.admission.policies.mutating import MutatingPolicies

        return MutatingPolicies(self._core)

    @cached_property
    def _validating(self) -> ValidatingPolicies:
        from stablehand.apiserver.admission.policies.validating import ValidatingPolicies

        return ValidatingPolicies(self._core)

    async def mutate(self, core: Core, a: Attributes) -> None:
        if self._mutating_bindings.entries:
            await self._mutating.mutate(core, a)

    async def validate(self, core: Core, a: Attributes) -> None:
        if self._validating_bindings.entries:
            await self._validating.validate(core, a)
