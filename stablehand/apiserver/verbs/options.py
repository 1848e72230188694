"""CreateOptions, UpdateOptions and PatchOptions: whether what a write's query says is acceptable.

Follows apimachinery pkg/apis/meta/v1/validation. What the options mean is the verbs' (write, decode).
"""

from __future__ import annotations

from collections.abc import Iterator

from stablehand.apiserver import errors
from stablehand.apiserver.contract import Request
from stablehand.machinery.fielderrors import (
    FieldError,
    forbidden,
    invalid,
    invalid_message,
    not_supported,
    required,
    too_long,
)

_LONGEST_MANAGER = 128
_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


def check(request: Request, kind: str, *, applying: bool = False) -> None:
    """Raises StatusError 422 for options of `kind` that are wrong. `applying`: a server-side apply."""
    found = list(_errors(request, kind, applying))
    if found:
        causes = [error.cause() for error in found]
        message = invalid_message(f"{kind}.meta.k8s.io", "", found)
        raise errors.invalid("meta.k8s.io", kind, "", message, causes)


def _errors(request: Request, kind: str, applying: bool) -> Iterator[FieldError]:
    query = request.query
    manager = query.get("fieldManager") or ""
    if kind == "PatchOptions":
        if applying and not manager:
            yield required("fieldManager", "is required for apply patch")
        elif not applying and "force" in query:
            yield forbidden("force", "may not be specified for non-apply patch")
    if len(manager.encode()) > _LONGEST_MANAGER:
        yield too_long("fieldManager", manager, _LONGEST_MANAGER)
    if not manager.isprintable():
        yield invalid("fieldManager", manager, "should only contain printable characters")
    if query.get("dryRun") not in (None, "", "All"):
        yield not_supported("dryRun", query["dryRun"], ("All",))
    if (mode := query.get("fieldValidation") or "") not in _VALIDATIONS:
        yield not_supported("fieldValidation", mode, _VALIDATIONS)
