"""Aggregated ClusterRoles: their rules are those of the roles that their selectors choose."""

from __future__ import annotations

from stablehand.client import Client
from stablehand.machinery import meta
from stablehand.machinery.resources import resource
from stablehand.machinery.selectors import from_label_selector
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result, writes


class ClusterRoleAggregationController(Controller):
    name = "clusterrole-aggregation"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=1)
        self._client = client.with_manager("clusterrole-aggregation-controller")
        self._roles = informers.get(resource("clusterroles.rbac.authorization.k8s.io"))
        self.wait_for = [self._roles]
        self._roles.on_change(self._role_changed)

    def _role_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        for role in self._roles.items():
            if role.get("aggregationRule"):
                self.enqueue(meta.name(role))
        if event != "DELETED" and new.get("aggregationRule"):
            self.enqueue(meta.name(new))

    async def reconcile(self, key: str) -> Result | None:
        role = self._roles.cached("", key)
        if role is None or not role.get("aggregationRule"):
            return None
        rules: list[Obj] = []
        for label_selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
            selector = from_label_selector(label_selector)
            for other in sorted(self._roles.items(), key=meta.name):
                if meta.name(other) != key and selector.matches(meta.labels(other)):
                    rules.extend(r for r in other.get("rules") or () if r not in rules)
        if rules != (role.get("rules") or []):
            await writes.update(self._client, self._roles, {**role, "rules": rules})
        return None
