"""Timestamps as the API writes them (RFC 3339, UTC). `now` is always passed in by the caller, in Unix seconds."""

from __future__ import annotations

import calendar
import time
from datetime import datetime


def format_time(seconds: float) -> str:
    """metav1.Time: whole seconds, e.g. "2026-01-31T12:00:00Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def format_micro_time(seconds: float) -> str:
    """metav1.MicroTime: six decimals, e.g. "2026-01-31T12:00:00.000000Z"."""
    whole, part = divmod(round(seconds * 1e6), 1_000_000)  # cut off, 1 µs would come back as none
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{part:06d}Z"


def parse_time(text: str) -> float:
    """Unix seconds of an RFC 3339 timestamp. Raises ValueError."""
    if len(text) == 20 and text[-1] == "Z":
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    return datetime.fromisoformat(text).timestamp()
