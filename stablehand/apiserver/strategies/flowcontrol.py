"""FlowSchemas and PriorityLevelConfigurations: defaults and rules (pkg/apis/flowcontrol)."""

from __future__ import annotations

import math

from stablehand.apiserver.flowcontrol import objects
from stablehand.apiserver.strategies.base import Strategy
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

_METHODS = ("ByNamespace", "ByUser")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
_MAX_QUEUES = 10_000_000
_MAX_PRECEDENCE = 10_000


class _FlowStrategy(Strategy):
    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def validate(self, obj: Obj) -> list[FieldError]:
        errors = self.validate_spec(obj)
        name = obj["metadata"].get("name") or ""
        fixed = objects.fixed_spec(self.res.key, name)
        if fixed is not None and obj.get("spec") != fixed:
            errors.append(invalid("spec", obj.get("spec"), f"spec of '{name}' must equal the fixed value"))
        return errors + _conditions(obj)

    def validate_spec(self, obj: Obj) -> list[FieldError]:
        raise NotImplementedError

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        return _conditions(new)


def _conditions(obj: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    seen = set()
    for index, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        path, kind = f"status.conditions[{index}].type", condition.get("type") or ""
        if kind in seen:
            errors.append(duplicate(path, kind))
        seen.add(kind)
        if not kind:
            errors.append(required(path, "must not be empty"))
    return errors


class FlowSchemaStrategy(_FlowStrategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("matchingPrecedence"):
            spec["matchingPrecedence"] = 1000
        spec.setdefault("priorityLevelConfiguration", {"name": ""})

    def validate_spec(self, obj: Obj) -> list[FieldError]:
        spec, name = obj["spec"], obj["metadata"].get("name")
        errors: list[FieldError] = []
        path, value = "spec.matchingPrecedence", spec["matchingPrecedence"]
        if value <= 0:
            errors.append(invalid(path, value, "must be a positive value"))
        if value > _MAX_PRECEDENCE:
            errors.append(invalid(path, value, f"must not be greater than {_MAX_PRECEDENCE}"))
        if value == 1 and name != "exempt":
            errors.append(invalid(path, value, "only the schema named 'exempt' may have matchingPrecedence 1"))
        method = spec.get("distinguisherMethod")
        if method is not None and method.get("type") not in _METHODS:
            errors.append(not_supported("spec.distinguisherMethod.type", method, _METHODS))
        path, level = "spec.priorityLevelConfiguration.name", spec["priorityLevelConfiguration"].get("name")
        if level:
            errors.extend(invalid(path, level, text) for text in names.dns1123_subdomain(level))
        else:
            errors.append(required(path, "must reference a priority level"))
        for index, rule in enumerate(spec.get("rules") or ()):
            errors.extend(_policy(rule, f"spec.rules[{index}]"))
        return errors


def _policy(rule: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, subject in enumerate(rule.get("subjects") or ()):
        errors.extend(_subject(subject, f"{path}.subjects[{index}]"))
    if not rule.get("subjects"):
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        errors.append(required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for index, item in enumerate(rule.get("resourceRules") or ()):
        errors.extend(_resource_rule(item, f"{path}.resourceRules[{index}]"))
    for index, item in enumerate(rule.get("nonResourceRules") or ()):
        errors.extend(_path_rule(item, f"{path}.nonResourceRules[{index}]"))
    return errors


def _subject(subject: Obj, path: str) -> list[FieldError]:
    kind = subject.get("kind") or ""
    field = _SUBJECTS.get(kind)
    if field is None:
        return [not_supported(f"{path}.kind", kind, tuple(_SUBJECTS))]
    errors: list[FieldError] = []
    value = subject.get(field)
    if value is None:
        errors.append(required(f"{path}.{field}", f"{field} is required when subject kind is '{kind}'"))
    else:
        if not value.get("name"):
            errors.append(required(f"{path}.{field}.name"))
        elif field == "serviceAccount" and value["name"] != "*":
            found = names.dns1123_subdomain(value["name"])
            errors.extend(invalid(f"{path}.{field}.name", value["name"], text) for text in found)
        if field == "serviceAccount":
            namespace = value.get("namespace")
            where = f"{path}.{field}.namespace"
            if not namespace:
                errors.append(required(where, "must specify namespace for service account"))
            else:
                errors.extend(invalid(where, namespace, text) for text in names.dns1123_label(namespace))
    for other_kind, other in (("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")):
        if other != field and subject.get(other) is not None:
            text = f"{other} is forbidden when subject kind is not '{other_kind}'"
            errors.append(forbidden(f"{path}.{other}", text))
    return errors


def _verbs(rule: Obj, path: str) -> list[FieldError]:
    verbs = rule.get("verbs") or []
    if not verbs:
        return [required(f"{path}.verbs", "verbs must contain at least one value")]
    if "*" in verbs:
        return _alone(verbs, f"{path}.verbs", "verbs")
    return [] if set(verbs) <= set(_VERBS) else [not_supported(f"{path}.verbs", verbs, _VERBS)]


def _alone(values: list[str], path: str, what: str) -> list[FieldError]:
    if len(values) > 1 and "*" in values:
        return [invalid(path, values, f"if '*' is present, must not specify other {what}")]
    return []


def _resource_rule(rule: Obj, path: str) -> list[FieldError]:
    errors = _verbs(rule, path)
    for field, what, text in (
        ("apiGroups", "api groups", "resource rules must supply at least one api group"),
        ("resources", "resources", "resource rules must supply at least one resource"),
    ):
        values = rule.get(field) or []
        where = f"{path}.{field}"
        errors.extend(_alone(values, where, what) if values else [required(where, text)])
    namespaces = rule.get("namespaces") or []
    where = f"{path}.namespaces"
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(where, text))
    elif "*" in namespaces:
        errors.extend(_alone(namespaces, where, "namespaces"))
    else:
        intro = "each member of this list must be '*' or a DNS-1123 label; "
        for index, name in enumerate(namespaces):
            errors.extend(invalid(f"{where}[{index}]", name, intro + text) for text in names.dns1123_label(name))
    return errors


def _path_rule(rule: Obj, path: str) -> list[FieldError]:
    errors = _verbs(rule, path)
    urls = rule.get("nonResourceURLs") or []
    where = f"{path}.nonResourceURLs"
    if not urls:
        errors.append(required(where, "nonResourceURLs must contain at least one value"))
    elif "*" in urls:
        errors.extend(_alone(urls, where, "non-resource URLs"))
    else:
        for index, url in enumerate(urls):
            if (why := _bad_url(url)) is not None:
                errors.append(invalid(f"{where}[{index}]", url, why))
    return errors


def _bad_url(url: str) -> str | None:
    if not url:
        return "must not be empty"
    if url == "/":
        return None
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    stars = url.count("*")
    if stars > 1 or (stars == 1 and not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return None


class PriorityLevelStrategy(_FlowStrategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("type") == "Exempt":
            exempt = spec.setdefault("exempt", {})
            exempt.setdefault("nominalConcurrencyShares", 0)
            exempt.setdefault("lendablePercent", 0)
        limited = spec.get("limited")
        if isinstance(limited, dict):
            if limited.get("nominalConcurrencyShares") is None:
                limited["nominalConcurrencyShares"] = 30
            limited.setdefault("lendablePercent", 0)
            response = limited.setdefault("limitResponse", {})
            if isinstance(queuing := response.get("queuing"), dict):
                for field, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
                    if not queuing.get(field):
                        queuing[field] = value

    def validate_spec(self, obj: Obj) -> list[FieldError]:
        spec, name = obj["spec"], obj["metadata"].get("name")
        errors: list[FieldError] = []
        kind = spec.get("type") or ""
        if (name == "exempt") != (kind == "Exempt"):
            errors.append(invalid("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'"))
        if kind == "Exempt":
            if spec.get("limited") is not None:
                errors.append(forbidden("spec.limited", "must be nil if the type is not Limited"))
            errors.extend(_shares(spec.get("exempt") or {}, "spec.exempt"))
        elif kind == "Limited":
            if spec.get("exempt") is not None:
                errors.append(forbidden("spec.exempt", "must be nil if the type is Limited"))
            if spec.get("limited") is None:
                errors.append(required("spec.limited", "must not be empty when type is Limited"))
            else:
                errors.extend(_shares(spec["limited"], "spec.limited"))
                errors.extend(_response(spec["limited"].get("limitResponse") or {}, "spec.limited.limitResponse"))
        else:
            errors.append(not_supported("spec.type", kind, ("Exempt", "Limited")))
        return errors


def _shares(limits: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    shares, lendable = limits.get("nominalConcurrencyShares"), limits.get("lendablePercent")
    if shares is not None and shares < 0:
        errors.append(invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))
    if lendable is not None and not 0 <= lendable <= 100:
        errors.append(invalid(f"{path}.lendablePercent", lendable, "must be between 0 and 100, inclusive"))
    borrowing = limits.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        text = "if specified, must be a non-negative integer"
        errors.append(invalid(f"{path}.borrowingLimitPercent", borrowing, text))
    return errors


def _response(response: Obj, path: str) -> list[FieldError]:
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind == "Reject":
        text = "must be nil if limited.limitResponse.type is not Limited"
        return [forbidden(f"{path}.queuing", text)] if queuing is not None else []
    if kind != "Queue":
        return [not_supported(f"{path}.type", kind, ("Queue", "Reject"))]
    if queuing is None:
        return [required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")]
    return _queuing(queuing, f"{path}.queuing")


def _queuing(queuing: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    queues, hand, length = (queuing.get(k) or 0 for k in ("queues", "handSize", "queueLengthLimit"))
    if length <= 0:
        errors.append(invalid(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        errors.append(invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > _MAX_QUEUES:
        errors.append(invalid(f"{path}.queues", queues, f"must not be greater than {_MAX_QUEUES}"))
    where = f"{path}.handSize"
    if hand <= 0:
        errors.append(invalid(where, hand, "must be positive"))
    elif hand > queues:
        errors.append(invalid(where, hand, f"should not be greater than queues ({queues})"))
    elif _entropy(queues, hand) > 60:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than 60"
        errors.append(invalid(where, hand, text))
    return errors


def _entropy(queues: int, hand: int) -> int:
    """Bits of a hash that it takes to deal a hand (shufflesharding.RequiredEntropyBits)."""
    return math.ceil(math.log2(queues) * hand)


STRATEGIES = {objects.SCHEMAS.key: FlowSchemaStrategy, objects.LEVELS.key: PriorityLevelStrategy}
