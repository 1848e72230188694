"""What discovery says of groups that other servers serve, from the resource lists they gave when last looked at."""

from __future__ import annotations

from stablehand.apiserver.aggregation.services import ApiServices
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.types import Obj

GroupVersion = tuple[str, str]


class RemoteDiscovery:
    """`lists` holds the last APIResourceList of each remote group version."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services
        self.lists: dict[GroupVersion, Obj] = {}

    def groups(self) -> list[str]:
        """Remote groups, those with the higher priority first."""
        ranks: dict[str, int] = {}
        for (group, _), service in self._services.all_remote().items():
            ranks[group] = max(ranks.get(group, 0), service["spec"].get("groupPriorityMinimum") or 0)
        return sorted(ranks, key=lambda g: (-ranks[g], g))

    def _versions(self, group: str) -> list[tuple[str, Obj]]:
        found = [(v, s) for (g, v), s in self._services.all_remote().items() if g == group]
        return sorted(found, key=lambda item: (-(item[1]["spec"].get("versionPriority") or 0), item[0]))

    def group(self, group: str) -> Obj | None:
        """The APIGroup (without kind), of what is available."""
        versions = [{"groupVersion": f"{group}/{v}", "version": v} for v, s in self._versions(group) if _available(s)]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]} if versions else None

    def aggregated(self, group: str) -> Obj:
        """The APIGroupDiscovery item; what cannot be reached is told as it was last, and Stale."""
        versions = []
        for version, service in self._versions(group):
            listed = self.lists.get((group, version)) or {}
            versions.append(
                {
                    "version": version,
                    "resources": _resources(group, version, listed.get("resources") or []),
                    "freshness": "Current" if _available(service) else "Stale",
                }
            )
        return {"metadata": {"name": group, "creationTimestamp": None}, "versions": versions}


def _available(service: Obj) -> bool:
    condition = get_condition(service.get("status"), "Available")
    return condition is not None and condition["status"] == "True"


def _kind(group: str, version: str, entry: Obj) -> Obj:
    return {
        "group": entry.get("group") or group,
        "version": entry.get("version") or version,
        "kind": entry.get("kind", ""),
    }


def _resources(group: str, version: str, entries: list[Obj]) -> list[Obj]:
    out: dict[str, Obj] = {}
    for entry in entries:
        if "/" in entry["name"]:
            continue
        found: Obj = {
            "resource": entry["name"],
            "responseKind": _kind(group, version, entry),
            "scope": "Namespaced" if entry.get("namespaced") else "Cluster",
            "singularResource": entry.get("singularName") or "",
            "verbs": entry.get("verbs") or [],
        }
        found |= {k: entry[k] for k in ("shortNames", "categories") if entry.get(k)}
        out[entry["name"]] = found
    for entry in entries:
        name, slash, sub = entry["name"].partition("/")
        if slash and name in out:
            item = {
                "subresource": sub,
                "responseKind": _kind(group, version, entry),
                "verbs": entry.get("verbs") or [],
            }
            out[name].setdefault("subresources", []).append(item)
    return list(out.values())
