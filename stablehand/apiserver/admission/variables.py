"""What expressions of admission see of a write: object, oldObject, request, namespaceObject, authorizer; and whether
matchConditions hold. Loads CEL: import it only where there is an expression to evaluate.
"""

from __future__ import annotations

from typing import Any

from stablehand.apiserver import errors
from stablehand.apiserver.admission import rules
from stablehand.apiserver.admission.webhooks import review
from stablehand.apiserver.contract import RequestInfo, User
from stablehand.apiserver.core import Attributes, Core
from stablehand.machinery.cel import evaluate_conditions
from stablehand.machinery.cel.library.authorizer import Ask, Authorizer, Decision, Question, ResourceCheck
from stablehand.machinery.cel.library.times import parse_timestamp
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj

_NAMESPACE_META = (
    "name", "generateName", "namespace", "labels", "annotations", "deletionGracePeriodSeconds", "generation",
    "resourceVersion", "finalizers",
)  # fmt: skip


def variables_of(core: Core, a: Attributes, row: Resource) -> Obj:
    """The variables of a write, told in the version of `row`; policies add `params` and `variables`."""
    request: Obj = review.request(a, row, "", "v1")["request"]
    told, before = request.pop("object"), request.pop("oldObject")
    del request["uid"]
    ask = _ask(core, a.request.user)
    here = ResourceCheck(ask, Question("", "", row.group, row.plural, a.subresource, a.namespace, a.name))
    return {
        "object": told,
        "oldObject": before,
        "request": request,
        "namespaceObject": None if a.resource.key == "namespaces" else _namespace(rules.namespace_of(core, a)),
        "authorizer": Authorizer(ask),
        "authorizer.requestResource": here,
    }


def conditions_hold(core: Core, a: Attributes, row: Resource, hook: Obj) -> bool:
    """Whether a webhook's matchConditions want it called. Raises StatusError when that cannot be said."""
    matched, error = evaluate_conditions(
        hook.get("matchConditions"), variables_of(core, a, row), hook.get("failurePolicy") or "Fail"
    )
    if error:
        raise errors.forbidden(a.resource, a.told_name, error)
    return matched


def _namespace(obj: Obj | None) -> Obj | None:
    """A Namespace with the fields that expressions know."""
    if obj is None:
        return None
    given = obj["metadata"]
    meta: dict[str, Any] = {key: given[key] for key in _NAMESPACE_META if key in given}
    if "uid" in given:
        meta["UID"] = given["uid"]
    for key in ("creationTimestamp", "deletionTimestamp"):
        if given.get(key):
            meta[key] = parse_timestamp(given[key])
    status = obj.get("status") or {}
    conditions = [
        {**c, "lastTransitionTime": parse_timestamp(c["lastTransitionTime"])} if c.get("lastTransitionTime") else c
        for c in status.get("conditions") or ()
    ]
    out: Obj = {"metadata": meta, "spec": obj.get("spec") or {}, "status": {**status}}
    if conditions:
        out["status"]["conditions"] = conditions
    return out


def _ask(core: Core, requester: User) -> Ask:
    def ask(question: Question) -> Decision:
        user = requester
        if question.user is not None:
            namespace, name = question.user
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            user = User(f"system:serviceaccount:{namespace}:{name}", groups)
        if question.path:
            info = RequestInfo(question.path, question.verb)
        else:
            info = RequestInfo(
                "", question.verb, True, question.group, "*", question.namespace, question.resource, question.name,
                question.subresource,
            )  # fmt: skip
        return Decision(core.authorize.decide(user, info))

    return ask
