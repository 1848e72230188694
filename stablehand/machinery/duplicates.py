"""Fields that a document says twice. JSON parsers take the last one in silence; the API server tells (KEP-2885)."""

from __future__ import annotations

import json
from typing import Any

import orjson


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its members, the repeated ones too."""


def json_duplicates(raw: bytes, parsed: Any) -> list[str]:
    """Paths of repeated fields (spec.containers[0].name) in a JSON document; `parsed` is what it was parsed to.

    Documents without them are told by counting keys, which is much cheaper than parsing twice.
    """
    if b'" :' not in raw and b'"\n' not in raw and raw.count(b'":') == orjson.dumps(parsed).count(b'":'):
        return []
    found: list[str] = []
    _walk(json.loads(raw, object_pairs_hook=_Pairs), "", found)
    return found


def _walk(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, child in value:
            where = f"{path}.{key}" if path else key
            if key in seen and where not in found:
                found.append(where)
            seen.add(key)
            _walk(child, where, found)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _walk(child, f"{path}[{index}]", found)


def yaml_duplicates(raw: bytes) -> list[str]:
    """The same for YAML, told by line as Go's YAML reader does: 'line 4: key "a" already set in map'."""
    import yaml

    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, child in node.value:
                if key.value in seen:
                    found.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
                seen.add(key.value)
                walk(child)
        elif isinstance(node, yaml.SequenceNode):
            for child in node.value:
                walk(child)

    walk(yaml.compose(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return found
