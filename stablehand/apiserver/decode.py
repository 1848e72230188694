"""From a request's bytes to an object that fits its schema: JSON or YAML, the right kind, known fields only.

What a field may hold beyond its type is the strategies' validation.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request, StatusError
from stablehand.machinery import schema as schemas
from stablehand.machinery.duplicates import json_duplicates, yaml_duplicates
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj, copy_object

_JSON = ("application/json", "")
_YAML = ("application/yaml", "application/apply-patch+yaml", "text/yaml", "application/x-yaml")


def load_yaml(raw: bytes) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return _plain(yaml.load(raw, Loader=loader))


def _plain(value: Any) -> Any:
    """YAML knows dates and non-string keys; JSON objects do not."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def body(request: Request) -> Any:
    """The request's body as JSON values; a private copy. Raises StatusError 400 or 415."""
    if request.obj is not None:
        return copy_object(request.obj)
    if not request.raw:
        return None
    content_type = request.content_type.partition(";")[0].strip().lower()
    if content_type in _YAML:
        try:
            return load_yaml(request.raw)
        except Exception as e:
            raise errors.bad_request(f"error decoding YAML: {e}") from e
    if content_type == "application/vnd.kubernetes.protobuf":
        from stablehand.apiserver import protobuf

        return protobuf.decode(request.raw)
    if content_type in _JSON or content_type.endswith("+json"):
        try:
            return orjson.loads(request.raw)
        except orjson.JSONDecodeError as e:
            raise errors.bad_request(f"error decoding JSON: {e}") from e
    raise errors.unsupported_media_type(content_type, "application/json, application/yaml")


def body_object(request: Request, res: Resource) -> Obj:
    """The body as an object of this resource's kind; kind and apiVersion come first in it."""
    obj = body(request)
    if not isinstance(obj, dict):
        raise errors.bad_request("the request body must be an object")
    return typed(obj, res.api_version, res.kind)


def typed(obj: Obj, api_version: str, kind: str) -> Obj:
    """Checks (or fills in) kind and apiVersion. Raises StatusError 400."""
    got_kind, got_version = obj.get("kind") or kind, obj.get("apiVersion") or api_version
    if got_version != api_version:
        raise errors.bad_request(
            f"the API version in the data ({got_version}) does not match the expected API version ({api_version})"
        )
    if got_kind != kind:
        version = api_version.rpartition("/")[2]
        raise errors.bad_request(
            f'no kind "{got_kind}" is registered for version "{api_version}" in scheme'
            if not _known_kind(got_kind, api_version)
            else f"{got_kind} in version {version!r} cannot be handled as a {kind}"
        )
    if not isinstance(obj.get("metadata"), dict):
        if obj.get("metadata") is not None:
            raise errors.bad_request(f"{kind} in version {api_version!r} cannot be handled: metadata must be an object")
        obj["metadata"] = {}
    return {
        "kind": kind,
        "apiVersion": api_version,
        **{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")},
    }


def _known_kind(kind: str, api_version: str) -> bool:
    from stablehand.machinery.resources import resource_for

    return resource_for(api_version, kind) is not None


def check_fields(request: Request, schema: schemas.Schema | None, obj: Obj, res: Resource) -> None:
    """Type errors refuse (400); unknown fields are dropped, and refused or warned of as fieldValidation says."""
    if schema is None:
        return
    mode = request.query.get("fieldValidation", "") or "Warn"
    if mode not in ("Ignore", "Warn", "Strict"):
        raise StatusError(
            422,
            "Invalid",
            f'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "{mode}": '
            'supported values: "Ignore", "Strict", "Warn"',
        )
    twice = _duplicates(request) if mode != "Ignore" else []
    wrong, unknown = schemas.decode(schema, obj)
    if wrong:
        _, _, version = res.api_version.rpartition("/")
        raise errors.bad_request(
            f'{res.kind} in version "{version}" cannot be handled as a {res.kind}: {_text(wrong[0])}'
        )
    if (unknown or twice) and mode != "Ignore":
        messages = [f'unknown field "{path}"' for path in unknown]
        # A field that is both unknown and repeated is told as unknown.
        messages += [text for path, text in twice if path not in unknown]
        if mode == "Strict":
            raise errors.bad_request("strict decoding error: " + ", ".join(messages))
        request.warnings.extend(messages)


def check_applied(request: Request, schema: schemas.Schema | None, obj: Obj, res: Resource) -> None:
    """As `check_fields`, for server-side apply: an unknown field always refuses, whatever fieldValidation says."""
    if schema is None:
        return
    wrong, unknown = schemas.decode(schema, obj)
    if wrong:
        _, _, version = res.api_version.rpartition("/")
        raise errors.bad_request(
            f'{res.kind} in version "{version}" cannot be handled as a {res.kind}: {_text(wrong[0])}'
        )
    if unknown:
        found = [f"{applied_path(schema, obj, path)}: field not declared in schema" for path in unknown]
        told = found[0] if len(found) == 1 else "errors:\n" + "".join(f"  {text}\n" for text in found)
        meta = obj["metadata"]
        what = f"{meta.get('namespace') or ''}/{meta['name']}; {res.group}/{res.version}, Kind={res.kind}"
        raise StatusError(500, "", f"failed to create typed patch object ({what}): {told}")
    mode = request.query.get("fieldValidation", "") or "Warn"
    if mode != "Ignore" and (twice := _duplicates(request)):
        text = "error converting YAML to JSON: " + ", ".join(text for _, text in twice)
        if mode == "Strict":
            raise errors.bad_request(f"error strict decoding YAML: {text}")
        request.warnings.append(text)


def applied_path(schema: schemas.Schema, obj: Any, path: str) -> str:
    """`spec.containers[0].foo` as apply's errors write it: `.spec.containers[name="c"].foo`."""
    text, value = "", obj
    node: schemas.Schema | None = schema
    for index, key in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path):
        if index:
            value = value[int(index)] if isinstance(value, list) else None
            item = value if isinstance(value, dict) else {}
            keys = [k for k in node.map_keys if k in item] if node is not None else []
            pairs = ",".join(f"{k}={orjson.dumps(item[k]).decode()}" for k in keys)
            text += f"[{pairs or index}]"
            node = node.item if node is not None else None
        else:
            text += f".{key}"
            value = value.get(key) if isinstance(value, dict) else None
            node = (node.props.get(key) or node.item) if node is not None else None
    return text


def _duplicates(request: Request) -> list[tuple[str, str]]:
    """(path, text) of each field that the body says twice."""
    raw = request.raw
    if not raw or request.obj is not None or "protobuf" in request.content_type:
        return []
    yaml = request.content_type.partition(";")[0].strip().lower() in _YAML
    try:
        paths = json_duplicates(raw, orjson.loads(raw))
    except ValueError:
        if not yaml:
            return []
        paths = [""]  # YAML proper
    if yaml and paths:
        lines = yaml_duplicates(raw)
        return [("", "yaml: unmarshal errors:\n  " + "\n  ".join(lines))] if lines else []
    return [(path, f'duplicate field "{path}"') for path in paths]


def _text(error: Any) -> str:
    return error if isinstance(error, str) else error.message()
