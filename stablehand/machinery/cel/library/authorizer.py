"""authorizer: asks the API server's authorizer whether the requester (or a service account) may do something.

The question is put to a plain function that the caller gives (`Authorizer.ask`); nothing here knows RBAC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stablehand.machinery.cel.functions import opaque, overload


@dataclass(frozen=True)
class Question:
    """`user` is None for the requester, else a service account's (namespace, name). `path` is set off resources."""

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    user: tuple[str, str] | None = None


@dataclass(frozen=True)
class Decision:
    allowed: bool
    reason: str = ""
    error: str = ""


Ask = Callable[[Question], Decision]


@dataclass(frozen=True)
class Authorizer:
    ask: Ask
    user: tuple[str, str] | None = None


@dataclass(frozen=True)
class PathCheck:
    ask: Ask
    question: Question


@dataclass(frozen=True)
class GroupCheck:
    ask: Ask
    question: Question


@dataclass(frozen=True)
class ResourceCheck:
    ask: Ask
    question: Question


_A, _D = "kubernetes.authorization.Authorizer", "kubernetes.authorization.Decision"
_P, _G = "kubernetes.authorization.PathCheck", "kubernetes.authorization.GroupCheck"
_R = "kubernetes.authorization.ResourceCheck"
for _name, _cls in ((_A, Authorizer), (_D, Decision), (_P, PathCheck), (_G, GroupCheck), (_R, ResourceCheck)):
    opaque(_name, _cls)


@overload(f"{_A}::serviceAccount(string, string) -> {_A}")
def _service_account(a: Authorizer, namespace: str, name: str) -> Authorizer:
    return Authorizer(a.ask, (namespace, name))


@overload(f"{_A}::path(string) -> {_P}")
def _path(a: Authorizer, path: str) -> PathCheck:
    return PathCheck(a.ask, Question("", path=path, user=a.user))


@overload(f"{_A}::group(string) -> {_G}")
def _group(a: Authorizer, group: str) -> GroupCheck:
    return GroupCheck(a.ask, Question("", group=group, user=a.user))


@overload(f"{_G}::resource(string) -> {_R}")
def _resource(g: GroupCheck, resource: str) -> ResourceCheck:
    return ResourceCheck(g.ask, replace(g.question, resource=resource))


def _narrow(name: str) -> None:
    @overload(f"{_R}::{name}(string) -> {_R}")
    def _set(r: ResourceCheck, value: str) -> ResourceCheck:
        changed: dict[str, Any] = {name: value}
        return ResourceCheck(r.ask, replace(r.question, **changed))


for _field in ("subresource", "namespace", "name"):
    _narrow(_field)


@overload(f"{_R}::fieldSelector(string) -> {_R}", f"{_R}::labelSelector(string) -> {_R}")
def _selector(r: ResourceCheck, value: str) -> ResourceCheck:
    """RBAC and the node authorizer allow a request with or without its selectors alike, so these change nothing."""
    return r


@overload(f"{_R}::check(string) -> {_D}", f"{_P}::check(string) -> {_D}")
def _check(check: ResourceCheck | PathCheck, verb: str) -> Decision:
    return check.ask(replace(check.question, verb=verb))


@overload(f"{_D}::allowed() -> bool")
def _allowed(d: Decision) -> bool:
    return d.allowed


@overload(f"{_D}::reason() -> string")
def _reason(d: Decision) -> str:
    return d.reason


@overload(f"{_D}::errored() -> bool")
def _errored(d: Decision) -> bool:
    return bool(d.error)


@overload(f"{_D}::error() -> string")
def _error(d: Decision) -> str:
    return d.error
