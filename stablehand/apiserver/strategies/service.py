"""Services. Addresses and node ports are handed out by the allocator, after validation."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import label_1035_name, validate_labels
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from stablehand.machinery.types import Obj

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_WITH_IP = ("ClusterIP", "LoadBalancer", "NodePort")
_WITH_NODE_PORT = ("LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_IP_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
TRAFFIC = ("PreferClose", "PreferSameNode", "PreferSameZone")


def _type(spec: Obj) -> str:
    return spec.get("type") or "ClusterIP"


class ServiceStrategy(Strategy):
    name_rule = staticmethod(label_1035_name)

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        for key in ("clusterIP", "externalName", "loadBalancerIP"):
            if spec.get(key) == "":
                del spec[key]
        if not spec.get("sessionAffinity"):
            spec["sessionAffinity"] = "None"
        if spec["sessionAffinity"] == "None":
            spec.pop("sessionAffinityConfig", None)
        elif spec["sessionAffinity"] == "ClientIP":
            config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            config.setdefault("timeoutSeconds", 10800)
        kind = spec["type"] = _type(spec)
        for port in spec.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"
            if not port.get("targetPort"):
                port["targetPort"] = port.get("port")
            if port.get("nodePort") == 0:
                del port["nodePort"]
        if (kind in _WITH_NODE_PORT or spec.get("externalIPs")) and not spec.get("externalTrafficPolicy"):
            spec["externalTrafficPolicy"] = "Cluster"
        if kind in _WITH_IP and not spec.get("internalTrafficPolicy"):
            spec["internalTrafficPolicy"] = "Cluster"
        if kind == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
            for one in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                if one.get("ip"):
                    one.setdefault("ipMode", "VIP")
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        elif spec.get("clusterIPs") and not spec.get("clusterIP"):
            spec["clusterIP"] = spec["clusterIPs"][0]
        if spec.get("publishNotReadyAddresses") is False:
            del spec["publishNotReadyAddresses"]

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {"loadBalancer": {}}

    def prepare_update(self, new: Obj, old: Obj) -> None:
        super().prepare_update(new, old)
        spec, before = new["spec"], old["spec"]
        kind, was = _type(spec), _type(before)
        if kind in _WITH_IP and was in _WITH_IP and not spec.get("clusterIP"):
            for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if key in before:
                    spec.setdefault(key, before[key])
        if kind in _WITH_NODE_PORT and was in _WITH_NODE_PORT:
            _keep_node_ports(spec, before)
            if before.get("healthCheckNodePort") and spec.get("externalTrafficPolicy") == "Local":
                spec.setdefault("healthCheckNodePort", before["healthCheckNodePort"])
        _drop_unneeded(spec, before, kind, was)
        if kind != "LoadBalancer" and (new.get("status") or {}).get("loadBalancer"):
            new["status"] = {**new["status"], "loadBalancer": {}}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        kind = _type(spec)
        errors: list[FieldError] = []
        headless = spec.get("clusterIP") == "None"
        ports = spec.get("ports") or []
        if not ports and not headless and kind != "ExternalName":
            errors.append(required("spec.ports"))
        if kind not in TYPES:
            errors.append(not_supported("spec.type", kind, TYPES))
        if kind == "LoadBalancer" and headless:
            errors.append(
                invalid("spec.clusterIPs", spec.get("clusterIPs"), "may not be set to 'None' for LoadBalancer services")
            )
        if kind == "NodePort" and headless:
            errors.append(
                invalid("spec.clusterIPs", spec.get("clusterIPs"), "may not be set to 'None' for NodePort services")
            )
        if kind == "ExternalName":
            if spec.get("clusterIP"):
                errors.append(forbidden("spec.clusterIPs", "may not be set for ExternalName services"))
            name = (spec.get("externalName") or "").rstrip(".")
            if not name:
                errors.append(required("spec.externalName"))
            else:
                errors.extend(checks.named(name, names.dns1123_subdomain, "spec.externalName"))
        elif spec.get("clusterIP") and not headless:
            for index, ip in enumerate(spec.get("clusterIPs") or ()):
                errors.extend(checks.named(ip, names.ip_address, f"spec.clusterIPs[{index}]"))
            if spec.get("clusterIPs") and spec["clusterIPs"][0] != spec["clusterIP"]:
                errors.append(invalid("spec.clusterIPs", spec["clusterIPs"], "first value must match `clusterIP`"))
        errors.extend(_ports(ports, kind, headless))
        if selector := spec.get("selector"):
            errors.extend(validate_labels(selector, "spec.selector"))
        errors.extend(checks.one_of(spec.get("sessionAffinity"), ("ClientIP", "None"), "spec.sessionAffinity"))
        seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
        if seconds is not None and not 0 < seconds <= 86400:
            text = "must be greater than 0 and less than 86400"
            errors.append(invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, text))
        for index, ip in enumerate(spec.get("externalIPs") or ()):
            where = f"spec.externalIPs[{index}]"
            errors.extend(checks.named(ip, names.ip_address, where) or checks.usable_address(ip, where))
        policies = ("Cluster", "Local")
        external = spec.get("externalTrafficPolicy")
        if external is not None and kind not in _WITH_NODE_PORT and not spec.get("externalIPs"):
            text = "may only be set for externally-accessible services"
            errors.append(invalid("spec.externalTrafficPolicy", external, text))
        else:
            errors.extend(checks.optional_one_of(external, policies, "spec.externalTrafficPolicy"))
        internal = spec.get("internalTrafficPolicy")
        errors.extend(checks.optional_one_of(internal, policies, "spec.internalTrafficPolicy"))
        errors.extend(_balancer(spec, kind))
        errors.extend(_families(spec, kind))
        if (traffic := spec.get("trafficDistribution")) is not None and traffic not in TRAFFIC:
            errors.append(not_supported("spec.trafficDistribution", traffic, TRAFFIC))
        if host := spec.get("loadBalancerIP"):
            errors.extend(checks.named(host, names.ip_address, "spec.loadBalancerIP"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = self.validate(new)
        spec, before = new["spec"], old["spec"]
        if _type(spec) in _WITH_IP and _type(before) in _WITH_IP:
            ip, was = spec.get("clusterIP"), before.get("clusterIP")
            if was and ip != was:
                errors.append(invalid("spec.clusterIPs[0]", spec.get("clusterIPs") or [], "may not change once set"))
        if _type(spec) == _type(before) == "LoadBalancer":
            cls, was = spec.get("loadBalancerClass"), before.get("loadBalancerClass")
            if cls != was:
                errors.append(invalid("spec.loadBalancerClass", cls, "may not change once set"))
        return errors

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        points = ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        path = "status.loadBalancer.ingress"
        if points and _type(new["spec"]) != "LoadBalancer":
            errors.append(forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'"))
        for index, one in enumerate(points):
            where, mode = f"{path}[{index}]", one.get("ipMode")
            errors.extend(checks.load_balancer_address(one, where))
            if one.get("ip") and mode is None:
                errors.append(required(f"{where}.ipMode", "must be specified when `ip` is set"))
            elif mode is not None and not one.get("ip"):
                errors.append(forbidden(f"{where}.ipMode", "may not be specified when `ip` is not set"))
            elif mode is not None and mode not in ("Proxy", "VIP"):
                errors.append(not_supported(f"{where}.ipMode", mode, ("Proxy", "VIP")))
        return errors


def _balancer(spec: Obj, kind: str) -> list[FieldError]:
    """What is only for Services of type LoadBalancer."""
    errors: list[FieldError] = []
    only = "may only be used when `type` is 'LoadBalancer'"
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and kind != "LoadBalancer":
        errors.append(forbidden("spec.loadBalancerSourceRanges", only))
    for index, text in enumerate(ranges):
        errors.extend(checks.cidr(text.strip(), f"spec.loadBalancerSourceRanges[{index}]"))
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        errors.append(forbidden("spec.allocateLoadBalancerNodePorts", only))
    if (cls := spec.get("loadBalancerClass")) is not None:
        if kind != "LoadBalancer":
            errors.append(forbidden("spec.loadBalancerClass", only))
        errors.extend(checks.named(cls, names.qualified_name, "spec.loadBalancerClass"))
    port = spec.get("healthCheckNodePort")
    if port is not None and port < 0:
        errors.append(invalid("spec.healthCheckNodePort", port, checks.NOT_NEGATIVE))
    if port and (kind != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local"):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid("spec.healthCheckNodePort", port, text))
    return errors


def _families(spec: Obj, kind: str) -> list[FieldError]:
    """ipFamilies, ipFamilyPolicy and how many addresses there may be (ValidateServiceClusterIPsRelatedFields)."""
    errors: list[FieldError] = []
    ips, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    policy = spec.get("ipFamilyPolicy")
    if kind == "ExternalName":
        text = "may not be set for ExternalName services"
        return [forbidden(f"spec.{k}", text) for k in ("ipFamilies", "ipFamilyPolicy") if spec.get(k)]
    for index, family in enumerate(families):
        if family not in _IP_FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{index}]", family, _IP_FAMILIES))
        elif family in families[:index]:
            errors.append(duplicate(f"spec.ipFamilies[{index}]", family))
    if len(families) > 2:
        errors.append(invalid("spec.ipFamilies", families, "may only hold up to 2 values"))
    errors.extend(checks.optional_one_of(policy, _FAMILY_POLICIES, "spec.ipFamilyPolicy"))
    if len(ips) > 2:
        errors.append(invalid("spec.clusterIPs", ips, "may only hold up to 2 values"))
    if len(ips) > 1 and ips[0] == "None":
        errors.append(invalid("spec.clusterIPs", ips, "'None' must be the first and only value"))
    elif len(ips) == 2 and (":" in ips[0]) == (":" in ips[1]):
        errors.append(invalid("spec.clusterIPs", ips, "may specify no more than one IP for each IP family"))
    return errors


def _keep_node_ports(spec: Obj, before: Obj) -> None:
    """Ports that do not say which node port they want keep the one they had."""
    had = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in before.get("ports") or ()}
    used = {p["nodePort"] for p in spec.get("ports") or () if p.get("nodePort")}
    for port in spec.get("ports") or ():
        node_port = had.get((port.get("protocol"), port.get("port")))
        if not port.get("nodePort") and node_port and node_port not in used:
            port["nodePort"] = node_port
            used.add(node_port)


def _drop_unneeded(spec: Obj, before: Obj, kind: str, was: str) -> None:
    """What only the old type needed goes, unless the caller changed it."""

    def drop(key: str) -> None:
        if key in spec and spec.get(key) == before.get(key):
            del spec[key]

    if kind == "ExternalName" and was != "ExternalName":
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            drop(key)
    if kind not in _WITH_NODE_PORT and was in _WITH_NODE_PORT:
        had = {p.get("nodePort") for p in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in had:
                port.pop("nodePort", None)
        drop("healthCheckNodePort")
        if not spec.get("externalIPs"):
            drop("externalTrafficPolicy")
    if kind != "LoadBalancer" and was == "LoadBalancer":
        drop("allocateLoadBalancerNodePorts")
        drop("loadBalancerClass")


def _ports(ports: list[Obj], kind: str, headless: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    pairs: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = port.get("name") or ""
        if not name and len(ports) > 1:
            errors.append(required(f"{path}.name"))
        elif name:
            errors.extend(checks.named(name, names.dns1123_label, f"{path}.name"))
            if name in seen:
                errors.append(duplicate(f"{path}.name", name))
            seen.add(name)
        number, target = port.get("port") or 0, port.get("targetPort")
        errors.extend(invalid(f"{path}.port", number, text) for text in names.port_number(number))
        errors.extend(checks.one_of(port.get("protocol"), _PROTOCOLS, f"{path}.protocol"))
        if isinstance(target, str):
            errors.extend(invalid(f"{path}.targetPort", target, text) for text in names.port_name(target))
        else:
            errors.extend(invalid(f"{path}.targetPort", target, text) for text in names.port_number(target or 0))
        if protocol := port.get("appProtocol"):
            errors.extend(checks.named(protocol, names.qualified_name, f"{path}.appProtocol"))
        node_port = port.get("nodePort") or 0
        if node_port and kind not in _WITH_NODE_PORT:
            errors.append(forbidden(f"{path}.nodePort", f"may not be used when `type` is '{kind}'"))
        pair = (port.get("protocol"), number)
        if pair in pairs:
            errors.append(duplicate(path, {"protocol": pair[0], "port": pair[1]}))
        pairs.add(pair)
        if node_port:
            if (port.get("protocol"), node_port) in node_ports:
                errors.append(duplicate(f"{path}.nodePort", node_port))
            node_ports.add((port.get("protocol"), node_port))
    return errors


STRATEGIES = {"services": ServiceStrategy}
