"""What a launch can fail with; the command line prints one line of it."""

from __future__ import annotations


class LaunchError(Exception):
    """Says in one line what is wrong and what to do; exit status 1."""


def cause(error: BaseException) -> BaseException:
    """The first real error inside the groups that task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def is_expected(error: BaseException) -> bool:
    """Whether the error's own text tells a user what is wrong; anything else is a bug, and its traceback is wanted."""
    from stablehand.client import ApiError, ConfigError, Unavailable
    from stablehand.runtime.leases import LeadershipLost
    from stablehand.store.contract import StoreError

    if isinstance(error, LaunchError | ApiError | ConfigError | Unavailable | LeadershipLost | StoreError | OSError):
        return True
    # Of packages that are not imported for their name's sake: NodeError takes 0.1 s.
    return type(error).__name__ in ("NodeError", "StorageError", "NetworkError", "CriError")


def one_line(error: BaseException) -> str:
    """The error as one line of text."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without its number
    return " ".join(str(error).split()) or type(error).__name__
