"""configMap volumes: the keys of a ConfigMap as files."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node.volumes.contract import Context, Payload, VolumeError


async def payload(context: Context, source: Obj, default_mode: int = 0o644) -> Payload:
    res = resource("configmaps")
    name = source.get("name", "")
    ref = (res, context.namespace, name)
    found = await context.host.objects.get(res, context.namespace, name)
    mode = source.get("defaultMode", default_mode)
    if found is None:
        if source.get("optional"):
            return Payload(refs={ref})
        raise VolumeError(f'configmap "{name}" not found', ref)
    data = {k: v.encode() for k, v in (found.get("data") or {}).items()}
    data |= {k: base64.b64decode(v) for k, v in (found.get("binaryData") or {}).items()}
    files = choose(data, source.get("items"), mode, bool(source.get("optional")))
    if files is None:
        raise VolumeError(f"configmap references non-existent config key: {missing(data, source['items'])}", ref)
    return Payload(files, {ref})


def choose(
    data: Mapping[str, bytes], items: Iterable[Obj] | None, mode: int, optional: bool
) -> dict[str, tuple[bytes, int]] | None:
    """All keys, or the items asked for; None when one is missing and not optional."""
    if not items:
        return {key: (value, mode) for key, value in data.items()}
    files = {}
    for item in items:
        if item["key"] in data:
            files[item["path"]] = (data[item["key"]], item.get("mode", mode))
        elif not optional:
            return None
    return files


def missing(data: Mapping[str, bytes], items: Iterable[Obj]) -> str:
    return next((item["key"] for item in items if item["key"] not in data), "")
