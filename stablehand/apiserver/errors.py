"""The Statuses the API server answers with, worded as k8s.io/apimachinery's api/errors words them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stablehand.apiserver.contract import RequestInfo, StatusError
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj


def _details(res: Resource, name: str, **more: Any) -> Obj:
    details: Obj = {"name": name, "group": res.group, "kind": res.plural, **more}
    return {k: v for k, v in details.items() if v not in ("", None)}


def not_found(res: Resource, name: str) -> StatusError:
    return StatusError(404, "NotFound", f'{res.key} "{name}" not found', _details(res, name))


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(res: Resource, name: str) -> StatusError:
    return StatusError(409, "AlreadyExists", f'{res.key} "{name}" already exists', _details(res, name))


def conflict(res: Resource, name: str, why: str = "") -> StatusError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    return StatusError(
        409, "Conflict", f'Operation cannot be fulfilled on {res.key} "{name}": {why}', _details(res, name)
    )


def apply_conflict(message: str, causes: list[Obj]) -> StatusError:
    return StatusError(409, "Conflict", message, {"causes": causes})


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def forbidden(res: Resource, name: str, why: str) -> StatusError:
    quoted = f' "{name}"' if name else ""
    return StatusError(403, "Forbidden", f"{res.key}{quoted} is forbidden: {why}", _details(res, name))


def denied(info: RequestInfo, user: str, why: str = "") -> StatusError:
    """What an authorizer's refusal reads like."""
    if not info.is_resource:
        message = f'forbidden: User "{user}" cannot {info.verb} path "{info.path}"'
        return StatusError(403, "Forbidden", message + (f": {why}" if why else ""), {})
    plural = info.plural + (f"/{info.subresource}" if info.subresource else "")
    where = f' in the namespace "{info.namespace}"' if info.namespace else " at the cluster scope"
    quoted = f' "{info.name}"' if info.name else ""
    qualified = info.plural + (f".{info.group}" if info.group else "")
    message = (
        f'{qualified}{quoted} is forbidden: User "{user}" cannot {info.verb} resource "{plural}" '
        f'in API group "{info.group}"{where}'
    )
    details = {"name": info.name, "group": info.group, "kind": info.plural}
    return StatusError(403, "Forbidden", message + (f": {why}" if why else ""), {k: v for k, v in details.items() if v})


def invalid(group: str, kind: str, name: str, message: str, causes: Sequence[Obj]) -> StatusError:
    details = {"name": name, "group": group, "kind": kind, "causes": list(causes)}
    return StatusError(422, "Invalid", message, {k: v for k, v in details.items() if v})


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def method_not_allowed(verb: str) -> StatusError:
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def too_old(requested: int, current: int) -> StatusError:
    return expired(f"too old resource version: {requested} ({current})")


def continue_expired(token: str) -> StatusError:
    """`token` goes on with the list as it is now."""
    return StatusError(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        metadata={"continue": token},
    )


def unsupported_media_type(content_type: str, accepted: str) -> StatusError:
    return StatusError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {accepted}",
    )


def not_acceptable() -> StatusError:
    return StatusError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf",
    )


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)


def too_large() -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", "the request is too large: limit is 3145728 bytes")
