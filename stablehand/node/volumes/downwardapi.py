"""downwardAPI volumes: fields of the pod as files; manager writes them again when the pod changes."""

from __future__ import annotations

from stablehand.machinery.types import Obj
from stablehand.node.env import ConfigError, field_value, resource_value
from stablehand.node.volumes.contract import Context, Payload, VolumeError


async def payload(context: Context, source: Obj, default_mode: int = 0o644) -> Payload:
    mode = source.get("defaultMode", default_mode)
    host, pod = context.host, context.pod
    files = {}
    for item in source.get("items") or ():
        try:
            if ref := item.get("fieldRef"):
                text = field_value(pod, ref["fieldPath"], host.facts(pod))
            else:
                text = resource_value(pod, item["resourceFieldRef"], "", host.allocatable())
        except ConfigError as e:
            raise VolumeError(str(e)) from None
        files[item["path"]] = (text.encode(), item.get("mode", mode))
    return Payload(files)
