"""Validation of pod specs and pod templates, shared by pods and everything that makes them.

Defaults are in poddefaults.py, containers in containers.py, volumes in podvolumes.py.
"""

from __future__ import annotations

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.containers import user_ids, validate_containers
from stablehand.apiserver.strategies.metadata import validate_annotations, validate_labels
from stablehand.apiserver.strategies.podcross import validate_together
from stablehand.apiserver.strategies.podhost import validate_host
from stablehand.apiserver.strategies.podvolumes import validate_volumes
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MAX_INT32 = 2**31 - 1


def validate_template(template: Obj, path: str) -> list[FieldError]:
    """A PodTemplateSpec."""
    meta = template.get("metadata") or {}
    errors = validate_labels(meta.get("labels") or {}, f"{path}.metadata.labels")
    errors.extend(validate_annotations(meta.get("annotations") or {}, f"{path}.metadata.annotations"))
    errors.extend(validate_pod_spec(template.get("spec") or {}, f"{path}.spec", is_pod=False))
    if (template.get("spec") or {}).get("ephemeralContainers"):
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return errors


def validate_pod_spec(spec: Obj, path: str, *, is_pod: bool) -> list[FieldError]:
    volumes, errors = validate_volumes(spec.get("volumes") or [], f"{path}.volumes")
    errors.extend(validate_containers(spec, path, volumes, is_pod=is_pod))
    errors.extend(validate_together(spec, path))
    errors.extend(checks.one_of(spec.get("restartPolicy"), RESTART_POLICIES, f"{path}.restartPolicy"))
    errors.extend(checks.one_of(spec.get("dnsPolicy"), DNS_POLICIES, f"{path}.dnsPolicy"))
    if selector := spec.get("nodeSelector"):
        errors.extend(validate_labels(selector, f"{path}.nodeSelector"))
    if context := spec.get("securityContext"):
        errors.extend(_pod_security(context, spec, f"{path}.securityContext"))
    for index, ref in enumerate(spec.get("imagePullSecrets") or ()):
        if not ref.get("name"):
            errors.append(required(f"{path}.imagePullSecrets[{index}].name"))
    if affinity := spec.get("affinity"):
        errors.extend(_affinity(affinity, f"{path}.affinity"))
    errors.extend(_dns_config(spec, path))
    errors.extend(validate_host(spec, path))
    if tolerations := spec.get("tolerations"):
        errors.extend(validate_tolerations(tolerations, f"{path}.tolerations"))
    if constraints := spec.get("topologySpreadConstraints"):
        errors.extend(_spread(constraints, f"{path}.topologySpreadConstraints"))
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        where = f"{path}.hostAliases[{index}]"
        errors.extend(checks.named(alias.get("ip") or "", names.ip_address, f"{where}.ip"))
        for host in alias.get("hostnames") or ():
            errors.extend(checks.named(host, names.dns1123_subdomain, f"{where}.hostnames"))
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        errors.extend(checks.named(kind, names.qualified_name, f"{path}.readinessGates[{index}].conditionType"))
    gates = spec.get("schedulingGates") or ()
    for index, gate in enumerate(gates):
        where = f"{path}.schedulingGates[{index}]"
        errors.extend(checks.named(gate.get("name") or "", names.qualified_name, where))
    for index in sorted(checks.duplicates(g.get("name") for g in gates)):
        errors.append(duplicate(f"{path}.schedulingGates[{index}].name", gates[index].get("name")))
    for key, rule in (
        ("serviceAccountName", names.dns1123_subdomain),
        ("nodeName", names.dns1123_subdomain),
        ("priorityClassName", names.dns1123_subdomain),
        ("runtimeClassName", names.dns1123_subdomain),
        ("hostname", names.dns1123_label),
        ("subdomain", names.dns1123_label),
    ):
        if value := spec.get(key):
            errors.extend(checks.named(value, rule, f"{path}.{key}"))
    if (deadline := spec.get("activeDeadlineSeconds")) is not None:
        errors.extend(checks.between(deadline, 1, _MAX_INT32, f"{path}.activeDeadlineSeconds"))
    allowed = ("Never", "PreemptLowerPriority")
    errors.extend(checks.optional_one_of(spec.get("preemptionPolicy"), allowed, f"{path}.preemptionPolicy"))
    if (system := spec.get("os")) is not None:
        errors.extend(checks.one_of(system.get("name"), ("linux", "windows"), f"{path}.os.name"))
    if overhead := spec.get("overhead"):
        errors.extend(checks.quantity_map(overhead, f"{path}.overhead"))
    if resources := spec.get("resources"):
        errors.extend(checks.resource_requirements(resources, f"{path}.resources"))
    return errors


def _shared_sysctl(name: str, spec: Obj, path: str) -> list[FieldError]:
    """A sysctl of a namespace that the pod shares with its host would change the host."""
    if spec.get("hostNetwork") and name.startswith("net."):
        return [invalid(path, name, "may not be specified when 'hostNetwork' is true")]
    ipc = name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or name == "kernel.sem"
    if spec.get("hostIPC") and ipc:
        return [invalid(path, name, "may not be specified when 'hostIPC' is true")]
    return []


def _pod_security(context: Obj, spec: Obj, path: str) -> list[FieldError]:
    errors = user_ids(context, path)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        errors.extend(checks.between(group, 0, _MAX_INT32, f"{path}.supplementalGroups[{index}]"))
    allowed = ("Always", "OnRootMismatch")
    errors.extend(checks.optional_one_of(context.get("fsGroupChangePolicy"), allowed, f"{path}.fsGroupChangePolicy"))
    policy = context.get("supplementalGroupsPolicy")
    errors.extend(checks.optional_one_of(policy, ("Merge", "Strict"), f"{path}.supplementalGroupsPolicy"))
    for index, sysctl in enumerate(context.get("sysctls") or ()):
        where, name = f"{path}.sysctls[{index}].name", sysctl.get("name") or ""
        if not name:
            errors.append(required(where))
        elif problems := names.sysctl(name):
            errors.extend(invalid(where, name, text) for text in problems)
        else:
            errors.extend(_shared_sysctl(name.replace("/", "."), spec, where))
    for index in sorted(checks.duplicates(s.get("name") for s in context.get("sysctls") or ())):
        errors.append(duplicate(f"{path}.sysctls[{index}].name", context["sysctls"][index].get("name")))
    return errors


def _dns_config(spec: Obj, path: str) -> list[FieldError]:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if not config:
            return [required(f"{path}.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.dnsConfig.nameservers", text)]
    errors: list[FieldError] = []
    if config:
        servers, searches = config.get("nameservers") or [], config.get("searches") or []
        if len(servers) > 3:
            errors.append(invalid(f"{path}.dnsConfig.nameservers", servers, "must not have more than 3 nameservers"))
        for index, server in enumerate(servers):
            errors.extend(checks.named(server, names.ip_address, f"{path}.dnsConfig.nameservers[{index}]"))
        if len(searches) > 32:
            errors.append(invalid(f"{path}.dnsConfig.searches", searches, "must not have more than 32 search paths"))
        for index, search in enumerate(searches):
            # Underscores, and a single dot, are in use: "_tcp.example.com", ".".
            plain = search.removesuffix(".").replace("_", "a")
            found = names.dns1123_subdomain(plain) if search != "." else []
            errors.extend(invalid(f"{path}.dnsConfig.searches[{index}]", search, text) for text in found)
        for index, option in enumerate(config.get("options") or ()):
            if not option.get("name"):
                errors.append(required(f"{path}.dnsConfig.options[{index}]", "must not be empty"))
    return errors


def validate_tolerations(tolerations: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(tolerations):
        where = f"{path}[{index}]"
        key, op, value = one.get("key") or "", one.get("operator") or "", one.get("value") or ""
        effect = one.get("effect") or ""
        if key:
            errors.extend(checks.named(key, names.qualified_name, f"{where}.key"))
        elif op != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid(f"{where}.operator", op, text))
        if one.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{where}.effect", effect, text))
        if op in ("", "Equal"):
            errors.extend(invalid(f"{where}.operator", value, text) for text in names.label_value(value))
        elif op == "Exists":
            if value:
                errors.append(invalid(f"{where}.operator", one, "value must be empty when `operator` is 'Exists'"))
        elif op not in ("Gt", "Lt"):
            errors.append(not_supported(f"{where}.operator", op, ("Equal", "Exists", "Lt", "Gt")))
        if effect and effect not in EFFECTS:
            errors.append(not_supported(f"{where}.effect", effect, EFFECTS))
    return errors


def _spread(constraints: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(constraints):
        where = f"{path}[{index}]"
        skew = one.get("maxSkew") or 0
        if skew <= 0:
            errors.append(invalid(f"{where}.maxSkew", skew, "must be greater than 0"))
        errors.extend(checks.must_have(one.get("topologyKey"), f"{where}.topologyKey", "can not be empty"))
        errors.extend(
            checks.one_of(
                one.get("whenUnsatisfiable"), ("DoNotSchedule", "ScheduleAnyway"), f"{where}.whenUnsatisfiable"
            )
        )
        errors.extend(checks.label_selector(one.get("labelSelector"), f"{where}.labelSelector"))
        least = one.get("minDomains")
        if least is not None and least <= 0:
            errors.append(invalid(f"{where}.minDomains", least, "must be greater than 0"))
        if least is not None and one.get("whenUnsatisfiable") not in (None, "", "DoNotSchedule"):
            text = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not " + str(one["whenUnsatisfiable"])
            errors.append(invalid(f"{where}.minDomains", least, text))
        for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            errors.extend(checks.optional_one_of(one.get(key), ("Honor", "Ignore"), f"{where}.{key}"))
        keys = one.get("matchLabelKeys") or []
        if keys and one.get("labelSelector") is None:
            text = "must not be specified when labelSelector is not set"
            errors.append(forbidden(f"{where}.matchLabelKeys", text))
        for at, label in enumerate(keys):
            errors.extend(checks.named(label, names.qualified_name, f"{where}.matchLabelKeys[{at}]"))
    pairs = [(c.get("topologyKey"), c.get("whenUnsatisfiable")) for c in constraints]
    for index in sorted(checks.duplicates(pairs)):
        shown = f"{{{pairs[index][0]}, {pairs[index][1]}}}"
        errors.append(duplicate(f"{path}[{index}].{{topologyKey, whenUnsatisfiable}}", shown))
    return errors


# --- affinity ---------------------------------------------------------------------------------------------------


def _affinity(affinity: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if node := affinity.get("nodeAffinity"):
        needed = node.get("requiredDuringSchedulingIgnoredDuringExecution")
        where = f"{path}.nodeAffinity"
        if needed is not None:
            errors.extend(validate_node_selector(needed, f"{where}.requiredDuringSchedulingIgnoredDuringExecution"))
        for index, term in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            at = f"{where}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
            errors.extend(_weight(term, at))
            errors.extend(_node_term(term.get("preference") or {}, f"{at}.preference"))
    for key in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(key) or {}
        for index, term in enumerate(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            at = f"{path}.{key}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"
            errors.extend(_pod_term(term, at))
        for index, term in enumerate(terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            at = f"{path}.{key}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
            errors.extend(_weight(term, at))
            errors.extend(_pod_term(term.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm"))
    return errors


def _weight(term: Obj, path: str) -> list[FieldError]:
    weight = term.get("weight") or 0
    return [] if 1 <= weight <= 100 else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _pod_term(term: Obj, path: str) -> list[FieldError]:
    errors = checks.label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    errors.extend(checks.label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector"))
    for name in term.get("namespaces") or ():
        errors.extend(checks.named(name, names.dns1123_label, f"{path}.namespaces"))
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        if term.get(field) and term.get("labelSelector") is None:
            text = "must not be specified when labelSelector is not set"
            errors.append(forbidden(f"{path}.{field}", text))
        for index, name in enumerate(term.get(field) or ()):
            errors.extend(checks.named(name, names.qualified_name, f"{path}.{field}[{index}]"))
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    else:
        errors.extend(checks.named(key, names.qualified_name, f"{path}.topologyKey"))
    return errors


def validate_node_selector(selector: Obj, path: str) -> list[FieldError]:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: list[FieldError] = []
    for index, term in enumerate(terms):
        errors.extend(_node_term(term, f"{path}.nodeSelectorTerms[{index}]"))
    return errors


def _node_term(term: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(term.get("matchFields") or ()):
        errors.extend(_node_field(one, f"{path}.matchFields[{index}]"))
    for index, one in enumerate(term.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{index}]"
        if one.get("operator") not in ("Gt", "Lt"):
            errors.extend(checks.selector_operator(one, where))
        elif len(one.get("values") or ()) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{where}.values", text))
        errors.extend(checks.named(one.get("key") or "", names.qualified_name, f"{where}.key"))
    return errors


def _node_field(one: Obj, path: str) -> list[FieldError]:
    """A node is chosen by its name, and by one."""
    errors: list[FieldError] = []
    op, values, key = one.get("operator") or "", one.get("values") or [], one.get("key") or ""
    if op not in ("In", "NotIn"):
        errors.append(invalid(f"{path}.operator", op, "not a valid selector operator"))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", text))
    if key != "metadata.name":
        return [*errors, invalid(f"{path}.key", key, "not a valid field selector key")]
    for index, value in enumerate(values):
        errors.extend(checks.named(value, names.dns1123_subdomain, f"{path}.values[{index}]"))
    return errors


def template_labels_match(selector: Obj | None, template: Obj) -> bool:
    from stablehand.machinery.selectors import SelectorError, from_label_selector

    try:
        return from_label_selector(selector).matches((template.get("metadata") or {}).get("labels"))
    except SelectorError:
        return True
