"""A container as CRI is told of it: command, environment, mounts, security, labels. Pure.

What it needs from outside (environment, mounts, the image's user) is handed in; starter collects it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from stablehand.machinery.types import Obj
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.env import ConfigError, expand
from stablehand.node.resources import container_resources
from stablehand.node.sandbox import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, namespaces, seccomp

_PREFIX = "io.kubernetes.container."
ASKED_IMAGE = "stablehand.io/image"  # annotation: the image as the pod named it then


def merged_context(pod: Obj, container: Obj) -> Obj:
    """The container's securityContext over what it inherits of the pod's."""
    inherited = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    fields = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "seLinuxOptions", "appArmorProfile")
    return {**{f: inherited[f] for f in fields if inherited.get(f) is not None}, **own}


def check_user(pod: Obj, container: Obj, image: pb.Image | None) -> None:
    """runAsNonRoot, as kubelet verifies it. Raises ConfigError."""
    context = merged_context(pod, container)
    if not context.get("runAsNonRoot"):
        return
    title = f'(pod: "{pod["metadata"]["name"]}_{pod["metadata"]["namespace"]}({pod["metadata"]["uid"]})", '
    title += f"container: {container['name']})"
    if context.get("runAsUser") is not None:
        if int(context["runAsUser"]) == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {title}")
        return
    if image is None:
        return
    if image.HasField("uid"):
        if image.uid.value == 0:
            raise ConfigError(f"container has runAsNonRoot and image will run as root {title}")
    elif image.username:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image.username}), cannot verify user is "
            f"non-root {title}"
        )
    else:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {title}")


def security_context(pod: Obj, container: Obj) -> pb.LinuxContainerSecurityContext:
    context = merged_context(pod, container)
    pod_context = pod["spec"].get("securityContext") or {}
    privileged = bool(context.get("privileged"))
    result = pb.LinuxContainerSecurityContext(
        privileged=privileged,
        namespace_options=namespaces(pod),
        readonly_rootfs=bool(context.get("readOnlyRootFilesystem")),
        no_new_privs=context.get("allowPrivilegeEscalation") is False,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined) if privileged else seccomp(context),
    )
    if profile := context.get("appArmorProfile"):
        kinds = {"RuntimeDefault": pb.SecurityProfile.RuntimeDefault, "Localhost": pb.SecurityProfile.Localhost}
        kind = kinds.get(profile.get("type", ""), pb.SecurityProfile.Unconfined)
        result.apparmor.CopyFrom(
            pb.SecurityProfile(profile_type=kind, localhost_ref=profile.get("localhostProfile") or "")
        )
    capabilities = context.get("capabilities") or {}
    result.capabilities.add_capabilities.extend(capabilities.get("add") or ())
    result.capabilities.drop_capabilities.extend(capabilities.get("drop") or ())
    if context.get("runAsUser") is not None:
        result.run_as_user.value = int(context["runAsUser"])
    if context.get("runAsGroup") is not None:
        result.run_as_group.value = int(context["runAsGroup"])
    groups = [int(g) for g in pod_context.get("supplementalGroups") or ()]
    if pod_context.get("fsGroup") is not None:
        groups.append(int(pod_context["fsGroup"]))
    result.supplemental_groups.extend(groups)
    if selinux := context.get("seLinuxOptions"):
        result.selinux_options.CopyFrom(pb.SELinuxOption(**selinux))
    if context.get("procMount") == "Unmasked" or privileged:
        return result
    result.masked_paths.extend(_MASKED)
    result.readonly_paths.extend(_READONLY)
    return result


_MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def container_config(
    pod: Obj,
    container: Obj,
    *,
    attempt: int,
    image: str,
    env: Mapping[str, str],
    mounts: Sequence[pb.Mount],
    memory_capacity: int,
    devices: Sequence[pb.Device] = (),
    target: str = "",
) -> pb.ContainerConfig:
    """`image` is the id the runtime knows; `target` the container whose pid namespace an ephemeral one joins."""
    meta = pod["metadata"]
    name = container["name"]
    linux = pb.LinuxContainerConfig(
        resources=container_resources(pod, container, memory_capacity),
        security_context=security_context(pod, container),
    )
    if target:
        linux.security_context.namespace_options.pid = pb.TARGET
        linux.security_context.namespace_options.target_id = target
    grace = pod["spec"].get("terminationGracePeriodSeconds")
    annotations = {
        f"{_PREFIX}restartCount": str(attempt),
        ASKED_IMAGE: container.get("image", ""),
        f"{_PREFIX}terminationMessagePath": container.get("terminationMessagePath") or "/dev/termination-log",
        f"{_PREFIX}terminationMessagePolicy": container.get("terminationMessagePolicy") or "File",
        "io.kubernetes.pod.terminationGracePeriod": str(30 if grace is None else grace),
    }
    if container.get("ports"):
        annotations[f"{_PREFIX}ports"] = orjson.dumps(container["ports"]).decode()
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=name, attempt=attempt),
        image=pb.ImageSpec(image=image, user_specified_image=container.get("image", "")),
        command=[expand(part, env) for part in container.get("command") or ()],
        args=[expand(part, env) for part in container.get("args") or ()],
        working_dir=container.get("workingDir") or "",
        envs=[pb.KeyValue(key=k, value=v) for k, v in env.items()],
        mounts=mounts,
        devices=devices,
        labels={CONTAINER_NAME: name, POD_NAME: meta["name"], POD_NAMESPACE: meta["namespace"], POD_UID: meta["uid"]},
        annotations=annotations,
        log_path=f"{name}/{attempt}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        linux=linux,
    )
