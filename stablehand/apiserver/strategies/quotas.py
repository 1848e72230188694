"""ResourceQuotas: which names can be limited, and which scopes go with them. Counting is machinery.quota."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, invalid, required
from stablehand.machinery.types import Obj

_COMPUTE = frozenset({"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})
_CLAIMS = frozenset({"persistentvolumeclaims", "requests.storage"})
_STANDARD = (
    _COMPUTE
    | _CLAIMS
    | {"ephemeral-storage", "limits.ephemeral-storage", "requests.ephemeral-storage", "pods", "resourcequotas"}
    | {"services", "services.nodeports", "services.loadbalancers", "replicationcontrollers", "secrets", "configmaps"}
)
_POD_SCOPES = _COMPUTE | {"pods"}
# Scope -> the names that it can be applied to.
_SCOPES = {
    "Terminating": _POD_SCOPES,
    "NotTerminating": _POD_SCOPES,
    "BestEffort": frozenset({"pods"}),
    "NotBestEffort": _POD_SCOPES,
    "PriorityClass": _POD_SCOPES,
    "CrossNamespacePodAffinity": _POD_SCOPES,
    "VolumeAttributesClass": _CLAIMS,
}
_VALUED = ("PriorityClass", "VolumeAttributesClass")  # the scopes with values; of the others there is only Exists
_PAIRS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


def is_standard(name: str) -> bool:
    return name in _STANDARD or name.startswith(("hugepages-", "requests.hugepages-"))


class QuotaStrategy(Strategy):
    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj.get("spec") or {}
        hard = spec.get("hard") or {}
        errors: list[FieldError] = []
        for name in hard:
            path = f"spec.hard[{name}]"
            errors.extend(checks.named(name, names.qualified_name, path))
            if "/" not in name and not is_standard(name):
                errors.append(invalid(path, name, "must be a standard resource for quota"))
        errors.extend(checks.quantity_map(hard, "spec.hard"))
        scopes = spec.get("scopes") or []
        errors.extend(_scopes(scopes, hard, "spec.scopes", scopes))
        terms = (spec.get("scopeSelector") or {}).get("matchExpressions") or []
        path = "spec.scopeSelector.matchExpressions"
        errors.extend(_scopes([term.get("scopeName") for term in terms], hard, f"{path}.scopeName", None))
        for term in terms:
            scope, operator, values = term.get("scopeName"), term.get("operator"), term.get("values") or []
            if scope in _SCOPES and scope not in _VALUED and operator != "Exists":
                text = (
                    "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "
                    "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                    "ResourceQuotaScopeCrossNamespacePodAffinity"
                )
                errors.append(invalid(f"{path}.operator", operator, text))
            if operator in ("In", "NotIn") and not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{path}.values", text))
            elif operator in ("Exists", "DoesNotExist") and values:
                text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid(f"{path}.values", values, text))
            elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
                errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        if ((new.get("spec") or {}).get("scopes") or []) != ((old.get("spec") or {}).get("scopes") or []):
            errors.append(invalid("spec.scopes", (new.get("spec") or {}).get("scopes"), "field is immutable"))
        return errors


def _scopes(scopes: list[str], hard: Obj, path: str, shown: list[str] | None) -> list[FieldError]:
    """`shown` is the value that errors name; None: the scope itself."""
    errors: list[FieldError] = []
    for scope in scopes:
        value = scope if shown is None else shown
        allowed = _SCOPES.get(scope)
        if allowed is None:
            errors.append(invalid(path, value, "unsupported scope"))
        elif any(is_standard(name) and name not in allowed for name in hard):
            errors.append(invalid(path, value, "unsupported scope applied to resource"))
    for pair in _PAIRS:
        if set(pair) <= set(scopes):
            errors.append(invalid(path, scopes, "conflicting scopes"))
    return errors


STRATEGIES = {"resourcequotas": QuotaStrategy}
