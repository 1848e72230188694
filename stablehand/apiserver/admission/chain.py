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
        await self._run(self._mutating, attributes)
        if attributes.changed:
            # What a webhook added (a sidecar container, say) gets its defaults too; only once, as upstream does.
            attributes.mutations_seen = attributes.calls
            await self._run(self._mutating, attributes)

    async def validate(self, attributes: Attributes) -> None:
        await self._run(self._validating, attributes)

    async def _run(self, plugins: tuple[Plugin, ...], attributes: Attributes) -> None:
        for plugin in plugins:
            result = plugin(self._core, attributes)
            if result is not None:
                await result


def default_chain(core: Core) -> AdmissionChain:
    """The plugins upstream enables by default that make sense here."""
    from stablehand.apiserver.admission import (
        certificates,
        ingresses,
        limits,
        namespaces,
        noderestriction,
        nodes,
        pods,
        podsecurity,
        priorities,
        quota,
        rbac,
        serviceaccounts,
        storage,
        topology,
    )
    from stablehand.apiserver.admission.policies.plugin import Policies
    from stablehand.apiserver.admission.webhooks.plugin import Webhooks

    policies, webhooks = Policies(core), Webhooks(core)
    return AdmissionChain(
        core,
        mutating=(
            namespaces.lifecycle,
            limits.apply_defaults,
            serviceaccounts.admit,
            nodes.taint,
            priorities.priority,
            pods.runtime_class,
            pods.default_tolerations,
            pods.mirror_limits,
            topology.label,
            storage.default_class,
            storage.protection_finalizers,
            certificates.requester,
            ingresses.default_class,
            policies.mutate,
            webhooks.mutate,
        ),
        validating=(
            namespaces.keep_system,
            limits.check,
            serviceaccounts.check,
            noderestriction.check,
            podsecurity.check,
            priorities.check_default,
            rbac.no_escalation,
            storage.check_resize,
            certificates.check,
            certificates.check_subject,
            nodes.check_resize,
            policies.validate,
            webhooks.validate,
            quota.check,
        ),
    )
