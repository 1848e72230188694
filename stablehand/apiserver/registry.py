"""Which resources are served: the built-in table plus the custom ones that CustomResourceDefinitions add.

Routing, discovery and authorization read this; the rules of each kind are the strategies'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from stablehand.machinery.resources import RESOURCES, Resource

if TYPE_CHECKING:
    from stablehand.apiserver.strategies.base import Strategy

# The order in which upstream ranks its groups and versions in discovery (kubectl prefers the first).
GROUP_ORDER = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
    "extensions",
)


def version_rank(version: str) -> tuple[int, int, int]:
    """GA before beta before alpha, higher numbers first (version.CompareKubeAwareVersionStrings)."""
    body = version[1:]
    for rank, word in ((0, ""), (1, "beta"), (2, "alpha")):
        if word and word in body:
            major, _, minor = body.partition(word)
            if major.isdigit() and (minor.isdigit() or not minor):
                return rank, -int(major), -int(minor or 0)
        elif not word and body.isdigit():
            return rank, -int(body), 0
    return 3, 0, 0


def _same_store(a: Resource, b: Resource) -> bool:
    return a.group == b.group if b.custom else a.storage_gv == b.storage_gv


class Registry:
    """Lookup by (group, version, plural). `generation` grows when custom resources come and go."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], Resource] = {(r.group, r.version, r.plural): r for r in RESOURCES}
        self._custom: dict[str, list[Resource]] = {}
        self._strategies: dict[tuple[str, str, str], Strategy] = {}
        self._make_custom: Callable[[Resource], Strategy] | None = None
        self.generation = 0
        self._equivalent: dict[Resource, list[Resource]] = {}

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._rows.get((group, version, plural))

    def rows(self) -> Iterator[Resource]:
        yield from self._rows.values()

    def groups(self) -> list[str]:
        """Named groups in upstream's order, then custom ones by name."""
        present = {r.group for r in self._rows.values() if r.group}
        known = [g for g in GROUP_ORDER if g in present]
        return known + sorted(present - set(known))

    def versions(self, group: str) -> list[str]:
        versions = {r.version: r.legacy for r in self._rows.values() if r.group == group}
        return sorted(versions, key=lambda v: (versions[v], version_rank(v)))

    def resources(self, group: str, version: str) -> list[Resource]:
        return sorted(
            (r for r in self._rows.values() if (r.group, r.version) == (group, version)), key=lambda r: r.plural
        )

    def preferred(self, group: str, plural: str) -> Resource | None:
        """The row of the group's most preferred version."""
        for version in self.versions(group):
            row = self._rows.get((group, version, plural))
            if row is not None:
                return row
        return None

    def by_kind(self, group: str, kind: str) -> Resource | None:
        for version in self.versions(group):
            for row in self._rows.values():
                if row.group == group and row.version == version and row.kind == kind:
                    return row
        return None

    def equivalent(self, row: Resource) -> list[Resource]:
        """All rows that serve the same stored objects, `row` first."""
        known = self._equivalent.get(row)
        if known is None:
            others = [r for r in self._rows.values() if r != row and r.plural == row.plural and _same_store(r, row)]
            known = self._equivalent[row] = [row, *others]
        return known

    def strategy(self, res: Resource) -> Strategy:
        key = (res.group, res.version, res.plural)
        strategy = self._strategies.get(key)
        if strategy is None:
            from stablehand.apiserver.strategies import strategy_for

            strategy = self._strategies[key] = strategy_for(res)
        return strategy

    def set_custom(self, crd: str, rows: list[tuple[Resource, Strategy]]) -> None:
        """Replaces the resources that one CustomResourceDefinition serves."""
        for row in self._custom.pop(crd, []):
            key = (row.group, row.version, row.plural)
            self._rows.pop(key, None)
            self._strategies.pop(key, None)
        for row, strategy in rows:
            key = (row.group, row.version, row.plural)
            self._rows[key] = row
            self._strategies[key] = strategy
        if rows:
            self._custom[crd] = [row for row, _ in rows]
        self.generation += 1
        self._equivalent.clear()
