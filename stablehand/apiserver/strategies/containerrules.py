"""Rules of a container that depend on the pod around it: claims of devices, huge pages, resizing, restart rules, how
mounts are shared. Part of containers.py's work, which is the only caller."""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.machinery.fielderrors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
    too_many,
)
from stablehand.machinery.types import Obj

_ACTIONS = ("Restart", "RestartAllContainers")
_MAX_RULES, _MAX_CODES = 20, 255


def validate_in_pod(container: Obj, spec: Obj, path: str) -> list[FieldError]:
    resources = container.get("resources") or {}
    errors = _claims(resources.get("claims") or [], spec, f"{path}.resources.claims")
    errors.extend(_huge_pages(resources, f"{path}.resources"))
    errors.extend(_resizing(container.get("resizePolicy") or [], spec, f"{path}.resizePolicy"))
    errors.extend(_restart_rules(container, path))
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        errors.extend(_mount(mount, container, f"{path}.volumeMounts[{index}]"))
    return errors


def _claims(claims: list[Obj], spec: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    known = {c.get("name") for c in spec.get("resourceClaims") or ()}
    for index, claim in enumerate(claims):
        name = claim.get("name") or ""
        if not name:
            errors.append(required(f"{path}[{index}]"))
        elif name not in known:
            error = not_found(f"{path}[{index}]", name)
            detail = "must be one of the names in pod.spec.resourceClaims" + ("" if known else " which is empty")
            errors.append(FieldError(error.type, error.field, name, detail))
        if claim in claims[:index]:
            errors.append(duplicate(f"{path}[{index}]", name))
    return errors


def _huge_pages(resources: Obj, path: str) -> list[FieldError]:
    asked = {*(resources.get("limits") or ()), *(resources.get("requests") or ())}
    if any(name.startswith("hugepages-") for name in asked) and not asked & {"cpu", "memory"}:
        return [required(path, "HugePages require cpu or memory")]
    return []


def _resizing(policies: list[Obj], spec: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen = set()
    for index, policy in enumerate(policies):
        name = policy.get("resourceName")
        if name in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
        restart = policy.get("restartPolicy")
        if spec.get("restartPolicy") == "Never" and restart not in (None, "NotRequired"):
            text = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid(f"{path}[{index}].restartPolicy", restart, text))
    return errors


def _restart_rules(container: Obj, path: str) -> list[FieldError]:
    rules = container.get("restartPolicyRules") or []
    if not rules:
        return []
    errors: list[FieldError] = []
    if not container.get("restartPolicy"):
        text = "must specify restartPolicy when restart rules are used"
        errors.append(required(f"{path}.restartPolicy", text))
    if len(rules) > _MAX_RULES:
        errors.append(too_many(f"{path}.restartPolicyRules", len(rules), _MAX_RULES))
    for index, rule in enumerate(rules):
        where = f"{path}.restartPolicyRules[{index}]"
        errors.extend(checks.one_of(rule.get("action"), _ACTIONS, f"{where}.action"))
        codes = rule.get("exitCodes")
        if codes is None:
            errors.append(required(f"{where}.exitCodes", "must be specified"))
            continue
        operator, values = codes.get("operator"), codes.get("values") or []
        if operator not in ("In", "NotIn"):
            errors.append(not_supported(f"{where}.exitCodes.operator", operator or "", ("In", "NotIn")))
        if not values:
            errors.append(invalid(f"{where}.exitCodes.values", values, "must specify at least 1 value"))
        elif len(values) > _MAX_CODES:
            errors.append(too_many(f"{where}.exitCodes.values", len(values), _MAX_CODES))
        for at in sorted(checks.duplicates(values)):
            errors.append(duplicate(f"{where}.exitCodes.values[{at}]", values[at]))
    return errors


def _mount(mount: Obj, container: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    propagation = mount.get("mountPropagation")
    if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        text = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden(f"{path}.mountPropagation", text))
    if mount.get("recursiveReadOnly") in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            text = "may only be specified when readOnly is true"
            errors.append(forbidden(f"{path}.recursiveReadOnly", text))
        if propagation not in (None, "None"):
            text = "may only be specified when mountPropagation is None or not specified"
            errors.append(forbidden(f"{path}.recursiveReadOnly", text))
    return errors
