"""AdmissionReview, both ways: what a webhook is told of a write, and what its answer means. No I/O."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from stablehand.apiserver.admission.rules import requested
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes
from stablehand.apiserver.verbs import present
from stablehand.machinery import patch
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class BadAnswer(Exception):
    """The webhook answered something that is no answer to its review."""


def version_of(versions: list[str]) -> str:
    """The first AdmissionReview version of a webhook that we speak."""
    return next((v for v in versions if v in ("v1", "v1beta1")), "v1")


def _group_version(api_version: str) -> tuple[str, str]:
    group, slash, version = api_version.rpartition("/")
    return (group, version) if slash else ("", api_version)


def _kind(obj: Obj) -> Obj:
    group, version = _group_version(obj["apiVersion"])
    return {"group": group, "version": version, "kind": obj["kind"]}


def _resource(row: Resource) -> Obj:
    return {"group": row.group, "version": row.version, "resource": row.plural}


def converted(a: Attributes, obj: Obj | None, row: Resource) -> Obj | None:
    """An object of the write in the version of `row`; what a subresource sends (Scale, Binding) is left as it is.
    Where a webhook converts, conversion.tell comes first."""
    if obj is None or obj.get("kind") != a.resource.kind or (row == a.resource and not row.custom):
        return obj
    form = a.forms.get((id(obj), row.api_version))
    return form[1] if form is not None else present.to_version(row, obj)


def _as_asked(a: Attributes, asked: Resource) -> Obj:
    """The apiVersion and kind that the client sent."""
    obj = a.obj if a.obj is not None else a.old
    if obj is not None and obj.get("kind") == a.resource.kind:
        return {"apiVersion": asked.api_version, "kind": asked.kind}
    return obj or {}


def request(a: Attributes, row: Resource, uid: str, version: str) -> Obj:
    """The AdmissionReview of a write, told in the version of `row`."""
    obj, old = converted(a, a.obj, row), converted(a, a.old, row)
    asked = requested(a)
    as_asked = _as_asked(a, asked)
    options: Obj | None = None
    if a.operation in _OPTIONS:
        # Those of the operation, not of the request: a patch is an update, or by apply a create.
        options = {"kind": _OPTIONS[a.operation], "apiVersion": "meta.k8s.io/v1"}
        query = a.request.query
        if a.operation == "DELETE":
            options |= {k: v for k, v in a.options.items() if k not in ("kind", "apiVersion")}
        else:
            options |= {k: query[k] for k in ("fieldManager", "fieldValidation") if query.get(k)}
            if a.dry_run:
                options["dryRun"] = ["All"]
    user = a.request.user
    info: Obj = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = user.extra
    told = obj if obj is not None else old or {}
    out: Obj = {
        "uid": uid,
        "kind": _kind(told),
        "resource": _resource(row),
        "requestKind": _kind(as_asked),
        "requestResource": _resource(asked),
        "operation": a.operation,
        "userInfo": info,
        "object": obj,
        "oldObject": old,
        "dryRun": a.dry_run,
        "options": options,
    }
    if a.subresource:
        out["subResource"] = out["requestSubResource"] = a.subresource
    if a.name:
        out["name"] = a.name
    if a.namespace:
        out["namespace"] = a.namespace
    return {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": out}


@dataclass(slots=True)
class Verdict:
    """What a webhook said. `patch` is a JSON patch of the object as it was told."""

    allowed: bool
    status: Obj
    patch: list[Any] | None
    warnings: list[str]


def answer(raw: bytes, uid: str, version: str, *, mutating: bool) -> Verdict:
    """Reads a webhook's answer. Raises BadAnswer."""
    try:
        obj = orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        raise BadAnswer(f"failed to decode the webhook's response: {e}") from e
    if not isinstance(obj, dict) or obj.get("kind", "AdmissionReview") != "AdmissionReview":
        raise BadAnswer("expected webhook response of kind AdmissionReview")
    response = obj.get("response")
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if version == "v1":
        _check_form(obj, response, uid, mutating)
    change = None
    if (text := response.get("patch")) and mutating:
        if response.get("patchType") not in (None, "JSONPatch"):
            raise BadAnswer(f"unsupported patch type {orjson.dumps(response['patchType']).decode()}")
        try:
            change = orjson.loads(base64.b64decode(text))
        except (binascii.Error, ValueError, orjson.JSONDecodeError) as e:
            raise BadAnswer(f"the patch cannot be read: {e}") from e
    return Verdict(
        bool(response.get("allowed")),
        response.get("status") or {},
        change if isinstance(change, list) else None,
        [w for w in response.get("warnings") or () if isinstance(w, str)],
    )


def _check_form(obj: Obj, response: Obj, uid: str, mutating: bool) -> None:
    """What v1 asks of an answer and v1beta1 does not (webhook/request.VerifyAdmissionResponse). Raises BadAnswer."""
    if response.get("uid") != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    given = f"{obj.get('apiVersion') or ''}, Kind={obj.get('kind') or ''}"
    wanted = "admission.k8s.io/v1, Kind=AdmissionReview"
    if given != wanted:
        raise BadAnswer(f"expected webhook response of {wanted}, got {given}")
    patch_given, type_given = bool(response.get("patch")), response.get("patchType") is not None
    if not mutating:
        if patch_given:
            raise BadAnswer("validating webhook may not return response.patch")
        if type_given:
            raise BadAnswer("validating webhook may not return response.patchType")
    elif patch_given and not type_given:
        raise BadAnswer("webhook returned response.patch but not response.patchType")
    elif type_given and not patch_given:
        raise BadAnswer("webhook returned response.patchType but not response.patch")


def refusal(name: str, status: Obj) -> StatusError:
    """The error of a write that a webhook denied (webhook/errors.ToStatusErr)."""
    denied = f'admission webhook "{name}" denied the request'
    message, reason = status.get("message") or "", status.get("reason") or ""
    text = f"{denied}: {message or reason}" if message or reason else f"{denied} without explanation"
    code = int(status.get("code") or 0)
    return StatusError(code if code >= 400 else 400, reason, text, status.get("details"))


def patched(obj: Obj, change: list[Any]) -> Obj:
    """The object after a webhook's patch. Raises BadAnswer."""
    try:
        out = patch.json_patch(obj, change)
    except patch.PatchError as e:
        raise BadAnswer(f"the patch does not apply: {e.message}") from e
    if not isinstance(out, dict) or not isinstance(out.get("metadata", {}), dict):
        raise BadAnswer("the patch leaves no object")
    return out
