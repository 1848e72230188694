"""Ingresses, their classes, network policies."""

from __future__ import annotations

import ipaddress

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy, bump_generation
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

OLD_CLASS = "kubernetes.io/ingress.class"  # the annotation from before there were IngressClasses
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_PROTOCOLS = ("SCTP", "TCP", "UDP")


class IngressStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        obj.setdefault("spec", {})

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"loadBalancer": {}}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        backend, rules = spec.get("defaultBackend"), spec.get("rules") or []
        if not rules and backend is None:
            text = "either `defaultBackend` or `rules` must be specified"
            errors.append(invalid("spec", rules, text))
        if backend is not None:
            errors.extend(_backend(backend, "spec.defaultBackend"))
        for index, rule in enumerate(rules):
            errors.extend(_rule(rule, f"spec.rules[{index}]"))
        for index, tls in enumerate(spec.get("tls") or ()):
            for at, host in enumerate(tls.get("hosts") or ()):
                errors.extend(_host(host, f"spec.tls[{index}].hosts[{at}]"))
            if secret := tls.get("secretName"):
                errors.extend(checks.named(secret, names.dns1123_subdomain, f"spec.tls[{index}].secretName"))
        if name := spec.get("ingressClassName"):
            errors.extend(checks.named(name, names.dns1123_subdomain, "spec.ingressClassName"))
        return errors

    def validate_create(self, obj: Obj) -> list[FieldError]:
        errors = super().validate_create(obj)
        old = (obj["metadata"].get("annotations") or {}).get(OLD_CLASS)
        if old is not None and obj["spec"].get("ingressClassName") is not None:
            text = "can not be set when the class field is also set"
            errors.append(invalid(f"annotations.{OLD_CLASS}", old, text))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        for index, one in enumerate(((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()):
            path = f"status.loadBalancer.ingress[{index}]"
            errors.extend(checks.load_balancer_address(one, path))
        return errors


def _host(host: str, path: str) -> list[FieldError]:
    return checks.named(host, names.wildcard_subdomain if "*" in host else names.dns1123_subdomain, path)


def _rule(rule: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if host := rule.get("host"):
        if not names.ip_address(host):
            errors.append(invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
        else:
            errors.extend(_host(host, f"{path}.host"))
    http = rule.get("http")
    if http is None:
        return errors
    if not http.get("paths"):
        errors.append(required(f"{path}.http.paths"))
    for index, one in enumerate(http.get("paths") or ()):
        where = f"{path}.http.paths[{index}]"
        kind, text = one.get("pathType"), one.get("path") or ""
        if kind is None:
            errors.append(required(f"{where}.pathType", "pathType must be specified"))
        elif kind in ("Exact", "Prefix"):
            if not text.startswith("/"):
                errors.append(invalid(f"{where}.path", text, "must be an absolute path"))
            for bad in ("//", "/./", "/../", "%2f", "%2F"):
                if bad in text:
                    errors.append(invalid(f"{where}.path", text, f"must not contain '{bad}'"))
        elif kind == "ImplementationSpecific":
            if text and not text.startswith("/"):
                errors.append(invalid(f"{where}.path", text, "must be an absolute path"))
        else:
            errors.append(not_supported(f"{where}.pathType", kind, _PATH_TYPES))
        errors.extend(_backend(one.get("backend") or {}, f"{where}.backend"))
    return errors


def _backend(backend: Obj, path: str) -> list[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is None and resource is None:
        return [required(path, "resource or service backend is required")]
    if service is not None and resource is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if service is None:
        return _local_object(resource or {}, f"{path}.resource")
    errors: list[FieldError] = []
    name = service.get("name") or ""
    if not name:
        errors.append(required(f"{path}.service.name"))
    else:
        errors.extend(checks.named(name, names.dns1035_label, f"{path}.service.name"))
    port = service.get("port") or {}
    if port.get("name") and port.get("number"):
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        errors.extend(checks.named(port["name"], names.port_name, f"{path}.service.port.name"))
    elif port.get("number"):
        errors.extend(
            invalid(f"{path}.service.port.number", port["number"], text) for text in names.port_number(port["number"])
        )
    else:
        errors.append(required(path, "port name or number is required"))
    return errors


def _local_object(ref: Obj, path: str) -> list[FieldError]:
    """A TypedLocalObjectReference, or what an IngressClass's parameters have of one."""
    errors: list[FieldError] = []
    if group := ref.get("apiGroup"):
        errors.extend(checks.named(group, names.dns1123_subdomain, f"{path}.apiGroup"))
    for key in ("kind", "name"):
        value = ref.get(key) or ""
        if not value:
            errors.append(required(f"{path}.{key}", f"{key} is required"))
        else:
            errors.extend(checks.named(value, names.path_segment, f"{path}.{key}"))
    return errors


class IngressClassStrategy(Strategy):
    def prepare_create(self, obj: Obj) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_update(self, new: Obj, old: Obj) -> None:
        bump_generation(new, old, new.get("spec") != old.get("spec"))

    def default(self, obj: Obj) -> None:
        parameters = (obj.get("spec") or {}).get("parameters")
        if parameters is not None:
            parameters.setdefault("scope", "Cluster")

    def validate(self, obj: Obj) -> list[FieldError]:
        controller = (obj.get("spec") or {}).get("controller") or ""
        if not controller:
            return [required("spec.controller")]
        if len(controller) > 250:
            return [FieldError("FieldValueTooLong", "spec.controller", "", "may not be more than 250 bytes")]
        errors: list[FieldError] = []
        if "/" not in controller:
            text = 'must be a domain-prefixed path (such as "acme.io/foo")'
            errors.append(invalid("spec.controller", controller, text))
        if (parameters := obj["spec"].get("parameters")) is not None:
            errors.extend(_class_parameters(parameters, "spec.parameters"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        controller, before = (new.get("spec") or {}).get("controller"), (old.get("spec") or {}).get("controller")
        return self.validate(new) + immutable(controller, before, "spec.controller")


def _class_parameters(ref: Obj, path: str) -> list[FieldError]:
    errors = _local_object(ref, path)
    scope, namespace = ref.get("scope"), ref.get("namespace")
    if scope is None:
        return [*errors, required(f"{path}.scope")]
    if scope not in ("Cluster", "Namespace"):
        return [*errors, not_supported(f"{path}.scope", scope, ("Cluster", "Namespace"))]
    if scope == "Namespace":
        text = "`parameters.scope` is set to 'Namespace'"
        if namespace is None or not namespace:
            errors.append(required(f"{path}.namespace", text))
        else:
            errors.extend(checks.named(namespace, names.dns1123_label, f"{path}.namespace"))
    elif namespace is not None:
        errors.append(forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
    return errors


class NetworkPolicyStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("podSelector", {})
        for key in ("ingress", "egress"):
            for rule in spec.get(key) or ():
                for port in rule.get("ports") or ():
                    port.setdefault("protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors = checks.label_selector(spec.get("podSelector"), "spec.podSelector")
        for key, side in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(spec.get(key) or ()):
                path = f"spec.{key}[{index}]"
                for at, port in enumerate(rule.get("ports") or ()):
                    errors.extend(_policy_port(port, f"{path}.ports[{at}]"))
                for at, peer in enumerate(rule.get(side) or ()):
                    errors.extend(_peer(peer, f"{path}.{side}[{at}]"))
        if len(spec.get("policyTypes") or ()) > 2:
            text = "may not specify more than two policyTypes"
            errors.append(invalid("spec.policyTypes", spec["policyTypes"], text))
            return errors
        for index, kind in enumerate(spec.get("policyTypes") or ()):
            if kind not in ("Egress", "Ingress"):
                errors.append(not_supported(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress")))
        return errors


def _policy_port(port: Obj, path: str) -> list[FieldError]:
    errors = checks.optional_one_of(port.get("protocol"), _PROTOCOLS, f"{path}.protocol")
    value, end = port.get("port"), port.get("endPort")
    if isinstance(value, str):
        errors.extend(invalid(f"{path}.port", value, text) for text in names.port_name(value))
        if end is not None:
            errors.append(invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
    elif value is not None:
        errors.extend(invalid(f"{path}.port", value, text) for text in names.port_number(value))
        if end is not None and end < value:
            errors.append(invalid(f"{path}.endPort", end, "must be greater than or equal to `port`"))
    elif end is not None:
        errors.append(invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    return errors


def _peer(peer: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("podSelector", "namespaceSelector"):
        errors.extend(checks.label_selector(peer.get(key), f"{path}.{key}"))
    block = peer.get("ipBlock")
    if not any(peer.get(key) is not None for key in ("podSelector", "namespaceSelector", "ipBlock")):
        errors.append(required(path, "must specify a peer"))
    elif block is not None:
        if len([key for key in peer if peer[key] is not None]) > 1:
            errors.append(forbidden(path, "may not specify both ipBlock and another peer"))
        errors.extend(_block(block, f"{path}.ipBlock"))
    return errors


def _block(block: Obj, path: str) -> list[FieldError]:
    cidr = block.get("cidr") or ""
    if not cidr:
        return [required(f"{path}.cidr")]
    errors = checks.cidr(cidr, f"{path}.cidr")
    if errors:
        return errors
    whole = ipaddress.ip_network(cidr, strict=False)
    for index, text in enumerate(block.get("except") or ()):
        where = f"{path}.except[{index}]"
        found = checks.cidr(text, where)
        errors.extend(found)
        if found:
            continue
        part = ipaddress.ip_network(text, strict=False)
        if part.version != whole.version or part == whole or not part.subnet_of(whole):  # type: ignore[arg-type]
            errors.append(invalid(where, text, "must be a strict subset of `cidr`"))
    return errors


STRATEGIES = {
    "ingresses.networking.k8s.io": IngressStrategy,
    "ingressclasses.networking.k8s.io": IngressClassStrategy,
    "networkpolicies.networking.k8s.io": NetworkPolicyStrategy,
}
