"""A pod's sandbox as CRI is told of it: names, labels, hostname, DNS, /etc/hosts, namespaces, sysctls. Pure but for
reading the host's resolv.conf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stablehand.machinery.types import Obj
from stablehand.node.admit import sysctl_name
from stablehand.node.cgroups import pod_parent
from stablehand.node.config import NodeConfig
from stablehand.node.cri.pb import cri_pb2 as pb

POD_NAME, POD_NAMESPACE, POD_UID = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
_SEARCH_LIMIT, _SERVER_LIMIT = 32, 3
_HOSTNAME_LIMIT = 64  # of the kernel


class SandboxError(Exception):
    """No sandbox can be made of this pod as it is; the text goes into an event."""


def log_directory(config: NodeConfig, pod: Obj) -> Path:
    meta = pod["metadata"]
    return config.logs_dir / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


def hostname(config: NodeConfig, pod: Obj) -> str:
    """The pod's hostname: at most 63 characters; its FQDN where it asks for that. Raises SandboxError."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return config.node_name
    if override := spec.get("hostnameOverride"):
        return str(override)
    name = spec.get("hostname") or pod["metadata"]["name"][:63].rstrip("-.")
    if spec.get("setHostnameAsFQDN") and (domain := fqdn_domain(config, pod)):
        full = f"{name}.{domain}"
        if len(full) > _HOSTNAME_LIMIT:
            raise SandboxError(
                f"Failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
                f"({_HOSTNAME_LIMIT} characters is the max, {len(full)} characters requested)"
            )
        return full
    return str(name)


def fqdn_domain(config: NodeConfig, pod: Obj) -> str:
    subdomain = pod["spec"].get("subdomain")
    return f"{subdomain}.{pod['metadata']['namespace']}.svc.{config.cluster_domain}" if subdomain else ""


def hosts_file(config: NodeConfig, pod: Obj, address: str) -> str:
    """/etc/hosts of a pod."""
    if pod["spec"].get("hostNetwork"):
        try:
            text = Path("/etc/hosts").read_text()
        except OSError:
            text = "127.0.0.1\tlocalhost\n"
        lines = ["# Kubernetes-managed hosts file (host network).", text.rstrip("\n")]
    else:
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "fe00::0\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
        ]
        short = pod["spec"].get("hostname") or pod["metadata"]["name"][:63].rstrip("-.")
        domain = fqdn_domain(config, pod)
        if override := pod["spec"].get("hostnameOverride"):
            short, domain = str(override), ""
        lines.append(f"{address}\t{short}.{domain}\t{short}" if domain else f"{address}\t{short}")
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) for alias in aliases]
    return "\n".join(lines) + "\n"


def host_resolver() -> tuple[list[str], list[str], list[str]]:
    """The host's (servers, searches, options). systemd-resolved's stub is of no use in a pod: its upstream list is."""
    path = Path("/etc/resolv.conf")
    servers, searches, options = parse_resolver(path)
    if servers and all(server.startswith("127.") for server in servers):
        real = Path("/run/systemd/resolve/resolv.conf")
        if real.exists():
            servers, searches, options = parse_resolver(real)
    return servers, searches, options


def parse_resolver(path: Path) -> tuple[list[str], list[str], list[str]]:
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        fields = line.split()
        if len(fields) < 2:
            continue
        if fields[0] == "nameserver":
            servers.append(fields[1])
        elif fields[0] in ("search", "domain"):
            searches = [s.rstrip(".") or "." for s in fields[1:]]
        elif fields[0] == "options":
            options = fields[1:]
    return servers, searches, options


def dns_config(config: NodeConfig, pod: Obj) -> pb.DNSConfig:
    """resolv.conf by dnsPolicy and dnsConfig."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    servers, searches, options = host_resolver()
    if policy == "None":
        servers, searches, options = [], [], []
    elif (policy == "ClusterFirst" and not spec.get("hostNetwork")) or policy == "ClusterFirstWithHostNet":
        domain, namespace = config.cluster_domain, pod["metadata"]["namespace"]
        servers = list(config.cluster_dns)
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *searches]
        options = ["ndots:5"]
    extra = spec.get("dnsConfig") or {}
    servers = _unique([*servers, *(extra.get("nameservers") or ())])[:_SERVER_LIMIT]
    searches = _unique([*searches, *(extra.get("searches") or ())])[:_SEARCH_LIMIT]
    for option in extra.get("options") or ():
        value = option.get("value")
        options = [o for o in options if o.split(":")[0] != option["name"]]
        options.append(f"{option['name']}:{value}" if value is not None else option["name"])
    if not servers and policy != "None":
        servers = ["127.0.0.1"]
    return pb.DNSConfig(servers=servers, searches=searches, options=options)


def _unique(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))


def namespaces(pod: Obj) -> pb.NamespaceOption:
    spec = pod["spec"]
    pid = pb.NODE if spec.get("hostPID") else pb.POD if spec.get("shareProcessNamespace") else pb.CONTAINER
    return pb.NamespaceOption(
        network=pb.NODE if spec.get("hostNetwork") else pb.POD, pid=pid, ipc=pb.NODE if spec.get("hostIPC") else pb.POD
    )


def seccomp(*contexts: Obj | None) -> pb.SecurityProfile:
    """The first given seccompProfile; unconfined where there is none, as kubelet's default has it."""
    for context in contexts:
        profile = (context or {}).get("seccompProfile")
        if profile:
            kind = profile.get("type")
            if kind == "Localhost":
                path = f"/var/lib/kubelet/seccomp/{profile.get('localhostProfile', '')}"
                return pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=path)
            if kind == "RuntimeDefault":
                return pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)
            break
    return pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)


def sandbox_config(config: NodeConfig, pod: Obj, attempt: int) -> pb.PodSandboxConfig:
    """Raises SandboxError."""
    meta, spec = pod["metadata"], pod["spec"]
    if spec.get("hostUsers") is False:
        raise SandboxError("user namespaces is not supported by the runtime")
    context = spec.get("securityContext") or {}
    privileged = any(
        (c.get("securityContext") or {}).get("privileged")
        for c in [*spec["containers"], *(spec.get("initContainers") or ())]
    )
    security = pb.LinuxSandboxSecurityContext(
        namespace_options=namespaces(pod),
        privileged=privileged,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
    )
    if context.get("fsGroup") is not None:
        security.supplemental_groups.append(int(context["fsGroup"]))
    security.supplemental_groups.extend(int(g) for g in context.get("supplementalGroups") or ())
    if context.get("runAsUser") is not None:
        security.run_as_user.value = int(context["runAsUser"])
    if context.get("runAsGroup") is not None and context.get("runAsUser") is not None:
        security.run_as_group.value = int(context["runAsGroup"])
    result = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=meta["name"], uid=meta["uid"], namespace=meta["namespace"], attempt=attempt
        ),
        hostname="" if spec.get("hostNetwork") else hostname(config, pod),
        log_directory=str(log_directory(config, pod)),
        dns_config=dns_config(config, pod),
        labels={
            **(meta.get("labels") or {}),
            POD_NAME: meta["name"],
            POD_NAMESPACE: meta["namespace"],
            POD_UID: meta["uid"],
        },
        annotations={k: str(v) for k, v in (meta.get("annotations") or {}).items()},
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=pod_parent(config, meta["uid"]),
            security_context=security,
            sysctls={sysctl_name(s["name"]): s["value"] for s in context.get("sysctls") or ()},
        ),
    )
    return result
