"""Status of ValidatingAdmissionPolicies: what type checking against the kinds they are about says, and of which
generation. Whether a policy may be stored at all was the API server's to say; a warning here changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stablehand.client import Client, NotFound
from stablehand.machinery import meta
from stablehand.machinery.resources import RESOURCES, resource
from stablehand.machinery.schema import schema_for
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result, writes

if TYPE_CHECKING:
    from stablehand.machinery.cel.types import Type

_CRDS = resource("customresourcedefinitions.apiextensions.k8s.io")


class PolicyStatusController(Controller):
    name = "validatingadmissionpolicy-status"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("validatingadmissionpolicy-status-controller")
        self._policies = informers.get(resource("validatingadmissionpolicies.admissionregistration.k8s.io"))
        self.wait_for = [self._policies]
        self._policies.on_change(self._policy_changed)

    def _policy_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED":
            self.enqueue(meta.name(new))

    async def reconcile(self, key: str) -> Result | None:
        policy = self._policies.cached("", key)
        if policy is None or meta.deletion_timestamp(policy):
            return None
        generation = policy["metadata"].get("generation")
        status = policy.get("status") or {}
        if status.get("observedGeneration") == generation:
            return None
        # CEL is loaded with the first policy, not with every controller manager.
        from stablehand.machinery.cel.typechecking import expression_warnings, resources_of

        spec = policy.get("spec") or {}
        kinds = [found for wanted in resources_of(spec) if (found := await self._kind(*wanted)) is not None]
        warnings = expression_warnings(spec, kinds, await self._params(spec.get("paramKind")))
        checked = {"expressionWarnings": warnings} if warnings else {}
        changed = {**policy, "status": {**status, "observedGeneration": generation, "typeChecking": checked}}
        await writes.update(self._client, self._policies, changed, subresource="status")
        return None

    async def _kind(self, group: str, version: str, plural: str) -> tuple[str, Type] | None:
        """A kind as warnings name it, and its type; None for one that is not known."""
        from stablehand.machinery.cel.schemas import declare_kind

        for row in RESOURCES:
            if (row.group, row.version, row.plural) == (group, version, plural):
                schema = schema_for(row.api_version, row.kind)
                return None if schema is None else (_shown(row.api_version, row.kind), declare_kind(schema))
        return await self._custom(group, version, plural)

    async def _custom(self, group: str, version: str, plural: str) -> tuple[str, Type] | None:
        from stablehand.machinery.cel.schemas import declare_custom_kind

        if not group:
            return None
        try:
            crd = await self._client.get(_CRDS, f"{plural}.{group}")
        except NotFound:
            return None
        for served in crd["spec"]["versions"]:
            if served["name"] == version:
                found = declare_custom_kind((served.get("schema") or {}).get("openAPIV3Schema") or {})
                return _shown(f"{group}/{version}", crd["spec"]["names"]["kind"]), found
        return None

    async def _params(self, kind: Obj | None) -> Type | None:
        """The type of `params`; None where there are none, or any."""
        from stablehand.machinery.cel.schemas import declare_kind

        if kind is None:
            return None
        schema = schema_for(kind.get("apiVersion") or "", kind.get("kind") or "")
        return None if schema is None else declare_kind(schema)


def _shown(api_version: str, kind: str) -> str:
    """A GroupVersionKind as Go prints it; the core group is empty."""
    return f"{api_version if '/' in api_version else '/' + api_version}, Kind={kind}"
