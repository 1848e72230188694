"""What a launch can fail with; the command line prints one line of it."""

from __future__ import annotations


class LaunchError(Exception):
    """Says in one line what is wrong and what to do; exit status 1."""
