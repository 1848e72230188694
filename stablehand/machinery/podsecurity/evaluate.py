"""Which check holds in which version, and what a pod breaks of a level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from stablehand.machinery.podsecurity import baseline, restricted
from stablehand.machinery.podsecurity.levels import BASELINE, PRIVILEGED, RESTRICTED, LevelVersion
from stablehand.machinery.podsecurity.words import Check, Violation
from stablehand.machinery.types import Obj

_linux, _hosts_root = restricted.not_on_windows, restricted.not_in_user_namespace


@dataclass(frozen=True, slots=True)
class Rule:
    """A check through its versions: (first minor version, check), rising. `instead_of` is the baseline rule that a
    restricted one is stricter than, and takes the place of."""

    id: str
    versions: tuple[tuple[int, Check], ...]
    level: str = BASELINE
    instead_of: str = ""

    def at(self, minor: int) -> Check | None:
        return next((check for first, check in reversed(self.versions) if first <= minor), None)


# In the order in which violations are told: the ids of a level sorted, the baseline level first.
RULES = (
    Rule("appArmorProfile", ((0, baseline.apparmor),)),
    Rule("capabilities_baseline", ((0, baseline.capabilities),)),
    Rule("hostNamespaces", ((0, baseline.host_namespaces),)),
    Rule("hostPathVolumes", ((0, baseline.host_path_volumes),)),
    Rule("hostPorts", ((0, baseline.host_ports),)),
    Rule("hostProbesAndHostLifecycle", ((34, baseline.probe_hosts),)),
    Rule("privileged", ((0, baseline.privileged),)),
    Rule("procMount", ((0, baseline.proc_mount), (35, baseline.proc_mount_35))),
    Rule(
        "seLinuxOptions",
        ((0, baseline.selinux(baseline.SELINUX_TYPES)), (31, baseline.selinux(baseline.SELINUX_TYPES_31))),
    ),
    Rule("seccompProfile_baseline", ((0, baseline.seccomp_annotations), (19, baseline.seccomp))),
    Rule(
        "sysctls",
        (
            (0, baseline.sysctls(baseline.SYSCTLS)),
            (27, baseline.sysctls(baseline.SYSCTLS_27)),
            (29, baseline.sysctls(baseline.SYSCTLS_29)),
            (32, baseline.sysctls(baseline.SYSCTLS_32)),
        ),
    ),
    Rule("windowsHostProcess", ((0, baseline.windows_host_process),)),
    Rule(
        "allowPrivilegeEscalation",
        ((8, restricted.privilege_escalation), (25, _linux(restricted.privilege_escalation))),
        RESTRICTED,
    ),
    Rule(
        "capabilities_restricted",
        ((22, restricted.capabilities), (25, _linux(restricted.capabilities))),
        RESTRICTED,
        "capabilities_baseline",
    ),
    Rule("procMount_restricted", ((35, baseline.proc_mount),), RESTRICTED, "procMount"),
    Rule("restrictedVolumes", ((0, restricted.volumes),), RESTRICTED, "hostPathVolumes"),
    Rule(
        "runAsNonRoot",
        ((0, restricted.run_as_non_root), (35, _hosts_root(restricted.run_as_non_root))),
        RESTRICTED,
    ),
    Rule("runAsUser", ((23, restricted.run_as_user), (35, _hosts_root(restricted.run_as_user))), RESTRICTED),
    Rule(
        "seccompProfile_restricted",
        ((19, restricted.seccomp), (25, _linux(restricted.seccomp))),
        RESTRICTED,
        "seccompProfile_baseline",
    ),
)
# Later versions, and "latest", are this one.
_NEWEST = max(first for rule in RULES for first, _ in rule.versions)


@cache
def _checks(level: str, minor: int) -> tuple[Check, ...]:
    strict = level == RESTRICTED
    here = [(rule, check) for rule in RULES if (check := rule.at(minor)) and (strict or rule.level == BASELINE)]
    replaced = {rule.instead_of for rule, _ in here}
    return tuple(check for rule, check in here if rule.id not in replaced)


def evaluate(wanted: LevelVersion, meta: Obj, spec: Obj) -> tuple[Violation, ...]:
    """What a pod, or a template, of this metadata and spec breaks; nothing where it is allowed."""
    if wanted.level == PRIVILEGED:
        return ()
    minor = _NEWEST if wanted.minor is None else min(wanted.minor, _NEWEST)
    return tuple(found for check in _checks(wanted.level, minor) if (found := check(meta, spec)))


def reasons(violations: Iterable[Violation]) -> str:
    """`host namespaces, hostPort`: what many pods may break alike."""
    return ", ".join(v.reason for v in violations)


def details(violations: Iterable[Violation]) -> str:
    """`host namespaces (hostPID=true), …`: what one pod breaks."""
    return ", ".join(f"{v.reason} ({v.detail})" if v.detail else v.reason for v in violations)
