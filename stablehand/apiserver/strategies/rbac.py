"""Roles and bindings. Escalation checks need the caller: they are authorization's."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import path_name
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, invalid, not_supported, required
from stablehand.machinery.types import Obj

GROUP = "rbac.authorization.k8s.io"


class RoleStrategy(Strategy):
    name_rule = staticmethod(path_name)

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        for index, rule in enumerate(obj.get("rules") or ()):
            path = f"rules[{index}]"
            if not rule.get("verbs"):
                errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
            if rule.get("nonResourceURLs"):
                if self.res.namespaced:
                    text = "namespaced rules cannot apply to non-resource URLs"
                    errors.append(invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"], text))
                if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                    text = "rules cannot apply to both regular resources and non-resource URLs"
                    errors.append(invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"], text))
                continue
            if not rule.get("apiGroups"):
                errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
            if not rule.get("resources"):
                errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
        for index, selector in enumerate((obj.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()):
            errors.extend(checks.label_selector(selector, f"aggregationRule.clusterRoleSelectors[{index}]"))
        return errors


class BindingStrategy(Strategy):
    name_rule = staticmethod(path_name)

    def default(self, obj: Obj) -> None:
        ref = obj.setdefault("roleRef", {})
        if not ref.get("apiGroup"):
            ref["apiGroup"] = GROUP
        for subject in obj.get("subjects") or ():
            if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = GROUP

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        ref = obj.get("roleRef") or {}
        if ref.get("apiGroup") != GROUP:
            errors.append(not_supported("roleRef.apiGroup", ref.get("apiGroup"), (GROUP,)))
        kinds = ("Role", "ClusterRole") if self.res.namespaced else ("ClusterRole",)
        if ref.get("kind") not in kinds:
            errors.append(not_supported("roleRef.kind", ref.get("kind") or "", kinds))
        if not ref.get("name"):
            errors.append(required("roleRef.name"))
        else:
            errors.extend(checks.named(ref["name"], names.path_segment, "roleRef.name"))
        for index, subject in enumerate(obj.get("subjects") or ()):
            errors.extend(self._subject(subject, f"subjects[{index}]"))
        return errors

    def _subject(self, subject: Obj, path: str) -> list[FieldError]:
        errors: list[FieldError] = []
        kind, name, group = subject.get("kind") or "", subject.get("name") or "", subject.get("apiGroup") or ""
        if not name:
            errors.append(required(f"{path}.name"))
        if kind == "ServiceAccount":
            if name:
                errors.extend(checks.named(name, names.dns1123_subdomain, f"{path}.name"))
            if group:
                errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
            # A RoleBinding's ServiceAccount without a namespace is one of its own namespace.
            if not subject.get("namespace") and not self.res.namespaced:
                errors.append(required(f"{path}.namespace"))
        elif kind in ("User", "Group"):
            if group != GROUP:
                errors.append(not_supported(f"{path}.apiGroup", group, (GROUP,)))
        else:
            errors.append(not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        if new.get("roleRef") != old.get("roleRef"):
            errors.append(invalid("roleRef", new.get("roleRef"), "cannot change roleRef"))
        return errors


STRATEGIES = {
    f"roles.{GROUP}": RoleStrategy,
    f"clusterroles.{GROUP}": RoleStrategy,
    f"rolebindings.{GROUP}": BindingStrategy,
    f"clusterrolebindings.{GROUP}": BindingStrategy,
}
