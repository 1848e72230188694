"""Runs the plugins in order: all that change, then all that only check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from stablehand.apiserver.core import Attributes, Core

Plugin = Callable[[Core, Attributes], Awaitable[None] | None]


class AdmissionChain:
    """`mutating` and `validating` are functions of (core, attributes), plain or coroutine; both may raise StatusError."""

    def __init__(self, core: Core, mutating: tuple[Plugin, ...], validating: tuple[Plugin, ...]) -> None:
        self._core, self._mutating, self._validating = core, mutating, validating

    async def mutate(self, attributes: Attributes) -> None:
        for plugin in self._mutating:
            result = plugin(self._core, attributes)
            if result is not None:
                await result

    async def validate(self, attributes: Attributes) -> None:
        for plugin in self._validating:
            result = plugin(self._core, attributes)
            if result is not None:
                await result


def default_chain(core: Core) -> AdmissionChain:
    """The plugins upstream enables by default that make sense here."""
    from stablehand.apiserver.admission import (
        limits,
        namespaces,
        noderestriction,
        pods,
        quota,
        rbac,
        serviceaccounts,
        storage,
    )

    return AdmissionChain(
        core,
        mutating=(
            namespaces.lifecycle,
            limits.apply_defaults,
            serviceaccounts.admit,
            pods.priority,
            pods.default_tolerations,
            pods.mirror_limits,
            storage.default_class,
            storage.protection_finalizers,
        ),
        validating=(
            namespaces.keep_system,
            limits.check,
            noderestriction.check,
            rbac.no_escalation,
            storage.check_resize,
            quota.check,
        ),
    )
