"""The checks of the baseline level: what is known to lead out of a container."""

from __future__ import annotations

from collections.abc import Iterator

from stablehand.machinery.fielderrors import quote
from stablehand.machinery.podsecurity.words import (
    Check,
    Violation,
    containers,
    context,
    in_user_namespace,
    named,
    plural,
    quoted,
    setters,
    uses,
)
from stablehand.machinery.types import Obj

_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
SELINUX_TYPES_31 = SELINUX_TYPES | {"container_engine_t"}
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    }
)  # fmt: skip
SYSCTLS_27 = SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
SYSCTLS_29 = SYSCTLS_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SYSCTLS_32 = SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
PROFILES = ("RuntimeDefault", "Localhost")


def privileged(meta: Obj, spec: Obj) -> Violation | None:
    bad = [c["name"] for c in containers(spec) if context(c).get("privileged")]
    return Violation("privileged", f"{named(bad)} must not set securityContext.privileged=true") if bad else None


def capabilities(meta: Obj, spec: Obj) -> Violation | None:
    """Nothing is added but what containers have anyway."""
    bad, more = [], set()
    for container in containers(spec):
        added = (context(container).get("capabilities") or {}).get("add") or ()
        if others := {c for c in added if c not in _CAPABILITIES}:
            bad.append(container["name"])
            more |= others
    if not bad:
        return None
    detail = f"{named(bad)} must not include {quoted(sorted(more))} in securityContext.capabilities.add"
    return Violation("non-default capabilities", detail)


def host_namespaces(meta: Obj, spec: Obj) -> Violation | None:
    bad = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return Violation("host namespaces", ", ".join(bad)) if bad else None


def host_path_volumes(meta: Obj, spec: Obj) -> Violation | None:
    bad = [v["name"] for v in spec.get("volumes") or () if v.get("hostPath") is not None]
    return Violation("hostPath volumes", f"{plural('volume', bad)} {quoted(bad)}") if bad else None


def host_ports(meta: Obj, spec: Obj) -> Violation | None:
    bad, ports = [], set()
    for container in containers(spec):
        if taken := {str(p["hostPort"]) for p in container.get("ports") or () if p.get("hostPort")}:
            bad.append(container["name"])
            ports |= taken
    if not bad:
        return None
    return Violation("hostPort", f"{named(bad)} {uses(bad)} {plural('hostPort', ports)} {', '.join(sorted(ports))}")


def _hosts(container: Obj) -> Iterator[str]:
    lifecycle = container.get("lifecycle") or {}
    handlers = [container.get(probe) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    for handler in [*handlers, lifecycle.get("postStart"), lifecycle.get("preStop")]:
        for action in ("httpGet", "tcpSocket"):
            if host := ((handler or {}).get(action) or {}).get("host"):
                yield host


def probe_hosts(meta: Obj, spec: Obj) -> Violation | None:
    """Probes and hooks ask the pod itself, or the kubelet could be sent anywhere."""
    names: set[str] = set()
    found: set[str] = set()
    for container in containers(spec):
        if hosts := set(_hosts(container)):
            names.add(container["name"])
            found |= hosts
    if not names:
        return None
    bad, what = sorted(names), "probe or lifecycle host"
    return Violation(what, f"{named(bad)} {uses(bad)} {plural(what, found)} {quoted(sorted(found))}")


def apparmor(meta: Obj, spec: Obj) -> Violation | None:
    """The fields, and the annotations that were there before them."""
    values: set[str] = set()

    def is_bad(holder: Obj) -> bool:
        profile = context(holder).get("appArmorProfile")
        if profile is None or (kind := profile.get("type") or "") in PROFILES:
            return False
        values.add(kind)
        return True

    who = setters(is_bad(spec), [c["name"] for c in containers(spec) if is_bad(c)])
    annotations = sorted(
        f"{key}={quote(value)}"
        for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(_APPARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    )
    if annotations:
        who = " and ".join(filter(None, (who, plural("annotation", annotations))))
    if not who:
        return None
    told = sorted(values) + annotations
    detail = f"{who} must not set AppArmor profile type to {quoted(told)}"
    return Violation(plural("forbidden AppArmor profile", told), detail)


def selinux(types: frozenset[str]) -> Check:
    """Of the label only the type is given, and only one of `types`."""

    def check(meta: Obj, spec: Obj) -> Violation | None:
        wrong: set[str] = set()
        also: set[str] = set()

        def is_bad(holder: Obj) -> bool:
            options = context(holder).get("seLinuxOptions") or {}
            kind = options.get("type") or ""
            if kind not in types:
                wrong.add(kind)
            given = {field for field in ("user", "role") if options.get(field)}
            also.update(given)
            return kind not in types or bool(given)

        who = setters(is_bad(spec), [c["name"] for c in containers(spec) if is_bad(c)])
        if not who:
            return None
        told = [f"{plural('type', wrong)} {quoted(sorted(wrong))}"] if wrong else []
        told += [f"{field} may not be set" for field in ("user", "role") if field in also]
        return Violation("seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(told)}")

    return check


def proc_mount(meta: Obj, spec: Obj) -> Violation | None:
    bad, values = [], set()
    for container in containers(spec):
        if (mount := context(container).get("procMount")) not in (None, "Default"):
            bad.append(container["name"])
            values.add(mount)
    if not bad:
        return None
    return Violation("procMount", f"{named(bad)} must not set securityContext.procMount to {quoted(sorted(values))}")


def proc_mount_35(meta: Obj, spec: Obj) -> Violation | None:
    return None if in_user_namespace(spec) else proc_mount(meta, spec)


def seccomp_annotations(meta: Obj, spec: Obj) -> Violation | None:
    """What there was before the fields of 1.19."""
    annotations = meta.get("annotations") or {}
    keys = [_SECCOMP_POD, *(_SECCOMP_CONTAINER + c["name"] for c in containers(spec))]
    bad = sorted(
        {
            f"{key}={quote(value)}"
            for key in keys
            if (value := annotations.get(key)) is not None
            and value not in ("runtime/default", "docker/default")
            and not value.startswith("localhost/")
        }
    )
    return Violation("seccompProfile", f"forbidden {plural('annotation', bad)} {', '.join(bad)}") if bad else None


def seccomp(meta: Obj, spec: Obj) -> Violation | None:
    values: set[str] = set()

    def is_bad(holder: Obj) -> bool:
        profile = context(holder).get("seccompProfile")
        if profile is None or (kind := profile.get("type") or "") in PROFILES:
            return False
        values.add(kind)
        return True

    who = setters(is_bad(spec), [c["name"] for c in containers(spec) if is_bad(c)])
    if not who:
        return None
    detail = f"{who} must not set securityContext.seccompProfile.type to {quoted(sorted(values))}"
    return Violation("seccompProfile", detail)


def sysctls(safe: frozenset[str]) -> Check:
    def check(meta: Obj, spec: Obj) -> Violation | None:
        bad = [s["name"] for s in context(spec).get("sysctls") or () if s["name"] not in safe]
        return Violation("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def windows_host_process(meta: Obj, spec: Obj) -> Violation | None:
    def is_bad(holder: Obj) -> bool:
        return bool((context(holder).get("windowsOptions") or {}).get("hostProcess"))

    who = setters(is_bad(spec), [c["name"] for c in containers(spec) if is_bad(c)])
    return (
        Violation("hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true") if who else None
    )
