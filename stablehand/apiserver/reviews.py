"""Reviews: questions that are created and answered at once (access, token and self reviews)."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.authz.node import node_of
from stablehand.apiserver.contract import Request, RequestInfo, Response, User
from stablehand.apiserver.core import Core
from stablehand.apiserver.decode import body_object, check_fields
from stablehand.apiserver.verbs import present
from stablehand.apiserver.verbs.write import refuse, schema_of
from stablehand.machinery.fielderrors import FieldError, invalid, required
from stablehand.machinery.resources import Resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj


def _info_of(spec: Obj) -> RequestInfo:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if path is not None:
        return RequestInfo(path.get("path", ""), path.get("verb", ""))
    resource = resource or {}
    return RequestInfo(
        "",
        resource.get("verb", ""),
        True,
        resource.get("group", ""),
        resource.get("version", ""),
        resource.get("namespace", ""),
        resource.get("resource", ""),
        resource.get("name", ""),
        resource.get("subresource", ""),
        _selector(resource.get("fieldSelector") or {}),
    )


def _selector(asked: Obj) -> str:
    if asked.get("rawSelector"):
        return str(asked["rawSelector"])
    terms = [(r.get("key", ""), r.get("operator"), r.get("values") or []) for r in asked.get("requirements") or ()]
    return ",".join(f"{key}={values[0]}" for key, operator, values in terms if operator == "In" and len(values) == 1)


def _check_access(res: Resource, obj: Obj, namespace: str) -> None:
    """Raises StatusError 422 (pkg/apis/authorization/validation)."""
    spec, local = obj.get("spec") or {}, res.kind == "LocalSubjectAccessReview"
    found: list[FieldError] = []
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        text = "cannot be specified in combination with resourceAttributes"
        found.append(invalid("spec.nonResourceAttributes", path, text))
    if resource is None and path is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        found.append(invalid("spec.resourceAttributes", None, text))
    if res.kind != "SelfSubjectAccessReview" and not spec.get("user") and not spec.get("groups"):
        found.append(required("spec.user", "at least one of user or group must be specified"))
    meta = {k: v for k, v in obj["metadata"].items() if v and k not in ("managedFields", "creationTimestamp")}
    if local:
        meta.pop("namespace", None)
    if meta:
        found.append(invalid("metadata", meta, "must be empty except for namespace" if local else "must be empty"))
    if local and resource is not None and resource.get("namespace", "") != namespace:
        where = "spec.resourceAttributes.namespace"
        found.append(invalid(where, resource.get("namespace", ""), "must match metadata.namespace"))
    if local and path is not None:
        found.append(invalid("spec.nonResourceAttributes", path, "disallowed on this kind of request"))
    refuse(res, "", found)


def _access(core: Core, request: Request, obj: Obj, user: User) -> Obj:
    allowed, why = core.authorize.explain(user, _info_of(obj.get("spec") or {}))
    status: Obj = {"allowed": allowed}
    if why:
        status["reason"] = why
    return status


def _rules(core: Core, request: Request, obj: Obj) -> Obj:
    namespace = (obj.get("spec") or {}).get("namespace")
    if not namespace:
        raise errors.bad_request("no namespace on request")
    rules = core.authorize.rbac.rules(request.user, namespace)  # type: ignore[attr-defined]
    resource_rules, path_rules = [], []
    for rule in rules:
        if rule.get("nonResourceURLs"):
            path_rules.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
        else:
            fields = ("verbs", "apiGroups", "resources", "resourceNames")
            resource_rules.append({k: rule[k] for k in fields if rule.get(k)})
    if "system:masters" in request.user.groups:
        resource_rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        path_rules = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    out: Obj = {"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": False}
    if node_of(request.user) is not None:
        out |= {"incomplete": True, "evaluationError": "node authorizer does not support user rule resolution"}
    return out


def _token(core: Core, obj: Obj) -> Obj:
    spec = obj.get("spec") or {}
    if not spec.get("token"):
        raise errors.bad_request("token is required for TokenReview in authentication")
    found = core.tokens.authenticate(spec.get("token", ""), core.clock(), spec.get("audiences"))
    if found is None:
        return {"user": {}, "error": "invalid bearer token"}
    user, audiences = found
    return {"authenticated": True, "user": user_info(user), "audiences": audiences}


def user_info(user: User) -> Obj:
    out: Obj = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        out["uid"] = user.uid
    if user.extra:
        out["extra"] = user.extra
    return out


async def handle(core: Core, request: Request) -> Response:
    """POST of any review kind. Raises StatusError."""
    res = request.info.resource
    assert res is not None
    if present.accepted(request)[0]:
        raise errors.not_acceptable()  # a review is no table
    obj = body_object(request, res)
    check_fields(request, schema_of(core, res), obj, res)
    kind = res.kind
    if kind.endswith("SubjectAccessReview"):
        _check_access(res, obj, request.info.namespace)
    if kind in ("SelfSubjectAccessReview",):
        obj["status"] = _access(core, request, obj, request.user)
    elif kind in ("SubjectAccessReview", "LocalSubjectAccessReview"):
        spec = obj.get("spec") or {}
        extra = {key: list(values) for key, values in (spec.get("extra") or {}).items()}
        user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)
        obj["status"] = _access(core, request, obj, user)
    elif kind == "SelfSubjectRulesReview":
        obj["status"] = _rules(core, request, obj)
    elif kind == "TokenReview":
        obj["status"] = _token(core, obj)
    elif kind == "SelfSubjectReview":
        obj["status"] = {"userInfo": user_info(request.user)}
        obj["metadata"]["creationTimestamp"] = format_time(core.clock())
    else:
        raise errors.method_not_allowed("create")
    obj["metadata"].setdefault("creationTimestamp", None)
    return Response(obj, code=201)
