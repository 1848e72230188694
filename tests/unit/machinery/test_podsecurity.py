"""Pod security: the checks by level, and what each says of a pod that breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from stablehand.machinery.podsecurity.evaluate import RULES, details, evaluate, reasons
from stablehand.machinery.podsecurity.levels import BASELINE, RESTRICTED, LevelVersion


def told(level: str, minor: int | None, spec: Any, annotations: Any = None) -> str:
    return details(evaluate(LevelVersion(level, minor), {"annotations": annotations or {}}, spec))


def of(*contexts: Any, **spec: Any) -> Any:
    """A spec with containers a, b, … of these security contexts."""
    found = [{"name": n, "securityContext": c} for n, c in zip("abcdefgh", contexts, strict=False)]
    return {"containers": found or [{"name": "a"}], **spec}


GOOD = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "capabilities": {"drop": ["ALL"]},
}
UNSAID = (
    'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)


def probing(**container: Any) -> Any:
    return {"containers": [{"name": "a", **container}]}


BASELINE_CASES: list[tuple[Any, str]] = [
    (of(), ""),
    (of({"privileged": True}, {"privileged": False}), 'privileged (container "a" must not set securityContext.privileged=true)'),
    (
        of({"capabilities": {"add": ["NET_RAW", "CHOWN"]}}, {"capabilities": {"add": ["BPF"]}}, {"capabilities": {}}),
        'non-default capabilities (containers "a", "b" must not include "BPF", "NET_RAW" in securityContext.capabilities.add)',
    ),
    (
        of({"capabilities": {"add": ["SYS_ADMIN"]}}, hostUsers=False),
        'non-default capabilities (container "a" must not include "SYS_ADMIN" in securityContext.capabilities.add)',
    ),
    (of(hostNetwork=True, hostPID=True, hostIPC=True), "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)"),
    (of(volumes=[{"name": "v", "hostPath": {}}, {"name": "w", "nfs": {}}]), 'hostPath volumes (volume "v")'),
    (
        of(initContainers=[{"name": "i", "ports": [{"hostPort": 9}, {"hostPort": 10}]}], ephemeralContainers=[{"name": "e", "ports": [{"hostPort": 9}, {}]}]),
        'hostPort (containers "i", "e" use hostPorts 10, 9)',
    ),
    (probing(ports=[{"containerPort": 1, "hostPort": 0}]), ""),
    (probing(ports=[{"hostPort": 12}]), 'hostPort (container "a" uses hostPort 12)'),
    (
        probing(livenessProbe={"httpGet": {"host": "8.8.8.8"}}, lifecycle={"preStop": {"tcpSocket": {"host": "h"}}}),
        'probe or lifecycle host (container "a" uses probe or lifecycle hosts "8.8.8.8", "h")',
    ),
    (probing(startupProbe={"tcpSocket": {"port": 1}}, readinessProbe={"exec": {}}), ""),
    (of({"procMount": "Default"}, {"procMount": "Unmasked"}), 'procMount (container "b" must not set securityContext.procMount to "Unmasked")'),
    (of({"procMount": "Unmasked"}, hostUsers=False), ""),
    (
        of({"seLinuxOptions": {"type": "container_engine_t"}}, {"seLinuxOptions": {"user": "u"}}, securityContext={"seLinuxOptions": {"type": "x", "role": "r"}}),
        'seLinuxOptions (pod and container "b" set forbidden securityContext.seLinuxOptions: type "x"; user may not be set; role may not be set)',
    ),
    (
        of({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "Localhost"}}, securityContext={"seccompProfile": {"type": "Unconfined"}}),
        'seccompProfile (pod and container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        of(securityContext={"sysctls": [{"name": "kernel.sem"}, {"name": "net.ipv4.tcp_rmem"}, {"name": "kernel.shm_rmid_forced"}, {"name": "net.ipv4.tcp_notsent_lowat"}]}),
        "forbidden sysctls (kernel.sem, net.ipv4.tcp_notsent_lowat)",
    ),
    (
        of({"windowsOptions": {"hostProcess": True}}, {"windowsOptions": {"hostProcess": False}}, securityContext={"windowsOptions": {"hostProcess": True}}),
        'hostProcess (pod and container "a" must not set securityContext.windowsOptions.hostProcess=true)',
    ),
    (of({"appArmorProfile": {"type": "RuntimeDefault"}}, {"appArmorProfile": {"type": "Localhost"}}), ""),
    (
        of({"appArmorProfile": {"type": "Unconfined"}}, securityContext={"appArmorProfile": {"type": "Unconfined"}}),
        'forbidden AppArmor profile (pod and container "a" must not set AppArmor profile type to "Unconfined")',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "words"), BASELINE_CASES)
def test_baseline(spec: Any, words: str) -> None:
    assert told(BASELINE, None, spec) == words


def test_apparmor_annotations() -> None:
    prefix = "container.apparmor.security.beta.kubernetes.io/"
    fine = {prefix + "a": "", prefix + "b": "runtime/default", prefix + "c": "localhost/foo"}
    assert told(BASELINE, None, of(), fine) == ""
    assert told(BASELINE, None, of(), {**fine, prefix + "d": "unconfined", prefix + "e": "other"}) == (
        f'forbidden AppArmor profiles (annotations must not set AppArmor profile type to "{prefix}d="unconfined"", '
        f'"{prefix}e="other"")'
    )


RESTRICTED_CASES: list[tuple[Any, str]] = [
    (of(), UNSAID),
    (of(GOOD), ""),
    (
        of({**GOOD, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}}, {**GOOD, "capabilities": {"drop": ["CHOWN"]}}),
        'unrestricted capabilities (container "b" must set securityContext.capabilities.drop=["ALL"]; '
        'container "a" must not include "CHOWN" in securityContext.capabilities.add)',
    ),
    (
        of(GOOD, volumes=[{"name": n, n: {}} for n in ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret")]),
        "",
    ),
    (
        of(GOOD, volumes=[{"name": "h", "hostPath": {}}, {"name": "n", "nfs": {}}, {"name": "o", "new": {}}, {"name": "s", "secret": {}}]),
        'restricted volume types (volumes "h", "n", "o" use restricted volume types "hostPath", "nfs", "unknown")',
    ),
    (of(GOOD, volumes=[{"name": "h", "hostPath": {}}]), 'restricted volume types (volume "h" uses restricted volume type "hostPath")'),
    (of({**GOOD, "runAsNonRoot": None}, securityContext={"runAsNonRoot": True}), ""),
    (
        of(GOOD, {**GOOD, "runAsNonRoot": False}, securityContext={"runAsNonRoot": False}),
        'runAsNonRoot != true (pod and container "b" must not set securityContext.runAsNonRoot=false)',
    ),
    (of({**GOOD, "runAsUser": 0}, {**GOOD, "runAsUser": 1}, securityContext={"runAsUser": 0}), 'runAsUser=0 (pod and container "a" must not set runAsUser=0)'),
    (of({**GOOD, "runAsUser": 0, "runAsNonRoot": False}, hostUsers=False), ""),
    (of({**GOOD, "procMount": "Unmasked"}, hostUsers=False), 'procMount (container "a" must not set securityContext.procMount to "Unmasked")'),
    (
        of({**GOOD, "seccompProfile": {"type": "Unconfined"}}, {**GOOD, "seccompProfile": None}),
        'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (of({**GOOD, "seccompProfile": None}, securityContext={"seccompProfile": {"type": "Localhost"}}), ""),
    (of({"runAsNonRoot": True}, os={"name": "windows"}), ""),
    (of(GOOD, hostPID=True), "host namespaces (hostPID=true)"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "words"), RESTRICTED_CASES)
def test_restricted(spec: Any, words: str) -> None:
    assert told(RESTRICTED, None, spec) == words


ESCALATION, CAPABILITIES, NON_ROOT, SECCOMP = (part + ")" for part in UNSAID.removesuffix(")").split("), "))


@pytest.mark.parametrize(
    ("level", "spec", "by_version"),
    [
        (RESTRICTED, of(), {
            0: NON_ROOT, 7: NON_ROOT, 8: f"{ESCALATION}, {NON_ROOT}", 19: f"{ESCALATION}, {NON_ROOT}, {SECCOMP}",
            22: UNSAID, 99: UNSAID,
        }),
        (RESTRICTED, of(os={"name": "windows"}), {24: UNSAID, 25: NON_ROOT}),
        (RESTRICTED, of({**GOOD, "runAsUser": 0}), {22: "", 23: 'runAsUser=0 (container "a" must not set runAsUser=0)'}),
        (RESTRICTED, of({**GOOD, "runAsUser": 0}, hostUsers=False), {34: 'runAsUser=0 (container "a" must not set runAsUser=0)', 35: ""}),
        (RESTRICTED, of({**GOOD, "runAsNonRoot": None}, hostUsers=False), {34: NON_ROOT, 35: "", 99: ""}),
        (RESTRICTED, of({**GOOD, "capabilities": {"add": ["BPF"]}}), {
            21: 'non-default capabilities (container "a" must not include "BPF" in securityContext.capabilities.add)',
            22: 'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; '
                'container "a" must not include "BPF" in securityContext.capabilities.add)',
        }),
        (BASELINE, of({"procMount": "x"}, hostUsers=False), {34: 'procMount (container "a" must not set securityContext.procMount to "x")', 35: ""}),
        (BASELINE, of({"seLinuxOptions": {"type": "container_engine_t"}}), {
            30: 'seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "container_engine_t")', 31: "",
        }),
        (BASELINE, of({"seccompProfile": {"type": "Unconfined"}}), {
            18: "", 19: 'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        }),
        (BASELINE, probing(livenessProbe={"tcpSocket": {"host": "h"}}), {
            33: "", 34: 'probe or lifecycle host (container "a" uses probe or lifecycle host "h")',
        }),
        *(
            (BASELINE, of(securityContext={"sysctls": [{"name": name}]}), {first - 1: f"forbidden sysctls ({name})", first: ""})
            for name, first in {
                "net.ipv4.ip_local_reserved_ports": 27, "net.ipv4.tcp_keepalive_time": 29, "net.ipv4.tcp_fin_timeout": 29,
                "net.ipv4.tcp_keepalive_intvl": 29, "net.ipv4.tcp_keepalive_probes": 29, "net.ipv4.tcp_rmem": 32,
                "net.ipv4.tcp_wmem": 32,
            }.items()
        ),
    ],
)  # fmt: skip
def test_versions(level: str, spec: Any, by_version: dict[int, str]) -> None:
    assert {minor: told(level, minor, spec) for minor in by_version} == by_version


def test_seccomp_was_an_annotation() -> None:
    pod = {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
    container = {"container.seccomp.security.alpha.kubernetes.io/a": "x", "container.seccomp.security.alpha.kubernetes.io/z": "x"}  # fmt: skip
    assert told(BASELINE, 18, of(), {**pod, **container}) == (
        'seccompProfile (forbidden annotations container.seccomp.security.alpha.kubernetes.io/a="x", '
        'seccomp.security.alpha.kubernetes.io/pod="unconfined")'
    )
    for fine in ("runtime/default", "docker/default", "localhost/p"):
        assert told(BASELINE, 18, of(), dict.fromkeys(pod, fine)) == ""
    assert told(BASELINE, 19, of(), pod) == ""


def test_reasons_are_alike_for_many_pods() -> None:
    assert reasons(evaluate(LevelVersion(RESTRICTED), {}, of(hostPID=True))) == (
        "host namespaces, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
    )


def test_privileged_allows_everything() -> None:
    assert not evaluate(LevelVersion(), {}, of({"privileged": True}, hostPID=True))


def test_rules_are_in_order() -> None:
    for level in (BASELINE, RESTRICTED):
        ids = [rule.id for rule in RULES if rule.level == level]
        assert ids == sorted(ids)
    assert all(list(rule.versions) == sorted(rule.versions, key=lambda v: v[0]) for rule in RULES)
    assert {rule.instead_of for rule in RULES} - {""} <= {rule.id for rule in RULES if rule.level == BASELINE}
