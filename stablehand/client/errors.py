"""What an API call can raise.

ApiError                the server answered a Status (RFC of the API: metav1.Status)
├── BadRequest   400    ├── Conflict      409 Conflict       ├── Invalid          422
├── Unauthorized 401    ├── AlreadyExists 409 AlreadyExists  ├── TooManyRequests  429
├── Forbidden    403    ├── Gone          410 Expired        └── ServerError      5xx
└── NotFound     404
Unavailable             no answer came (connection refused, reset, timed out)
ConfigError             no usable kubeconfig
"""

from __future__ import annotations

from stablehand.machinery.types import Obj


class ApiError(Exception):
    """An answer of the API server that is not a success. `status` is its metav1.Status."""

    def __init__(self, status: Obj) -> None:
        self.status = status
        self.code: int = status.get("code") or 500
        self.reason: str = status.get("reason") or ""
        self.message: str = status.get("message") or ""
        self.details: Obj = status.get("details") or {}
        super().__init__(self.message or f"HTTP {self.code}")


class BadRequest(ApiError): ...


class Unauthorized(ApiError): ...


class Forbidden(ApiError): ...


class NotFound(ApiError): ...


class Conflict(ApiError): ...


class AlreadyExists(ApiError): ...


class Gone(ApiError): ...


class Invalid(ApiError): ...


class TooManyRequests(ApiError): ...


class ServerError(ApiError): ...


class Unavailable(Exception):
    """The API server could not be reached, or the connection broke before an answer."""


class ConfigError(Exception):
    """There is no kubeconfig, or it names something it does not hold."""


_BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_for(status: Obj, code: int) -> ApiError:
    """The exception for a Status body (or anything else that came with an HTTP error code)."""
    if status.get("kind") != "Status":
        status = {"kind": "Status", "status": "Failure", "code": code, "message": str(status.get("message") or status)}
    status.setdefault("code", code)
    if code == 409 and status.get("reason") == "AlreadyExists":
        return AlreadyExists(status)
    cls = _BY_CODE.get(code) or (ServerError if code >= 500 else ApiError)
    return cls(status)
