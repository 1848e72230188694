"""Timestamps and durations: parsing, texts, parts of a date in a time zone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from stablehand.machinery.cel.errors import CelError
from stablehand.machinery.cel.functions import overload
from stablehand.machinery.cel.lexer import MAX_INT, MIN_INT
from stablehand.machinery.cel.values import Duration, Timestamp
from stablehand.machinery.fielderrors import quote

_SECOND = 10**9
MIN_TIME, MAX_TIME = -62135596800 * _SECOND, 253402300800 * _SECOND - 1
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_OFFSET = re.compile(r"([+-]?)(\d\d?):(\d\d)")


def parse_duration(text: str) -> Duration:
    """Go's time.ParseDuration. Raises ValueError."""
    rest, sign = text, 1
    if rest[:1] in ("-", "+"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    if not rest:
        raise ValueError(text)
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None or not (part[1] or part[2]):
            raise ValueError(text)
        unit = _UNITS[part[3]]
        total += int(part[1] or 0) * unit
        if part[2]:
            total += int(part[2]) * unit // 10 ** len(part[2])
        at = part.end()
    if not MIN_INT <= sign * total <= MAX_INT:
        raise ValueError(text)
    return Duration(sign * total)


def parse_timestamp(text: str) -> Timestamp:
    """An RFC 3339 time. Raises ValueError."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    if found[8] not in "Zz":
        sign = -1 if found[8][0] == "-" else 1
        moment -= sign * timedelta(hours=int(found[8][1:3]), minutes=int(found[8][4:6]))
    nanos = int((found[7] or "0").ljust(9, "0")[:9])
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return Timestamp(seconds * _SECOND + nanos)


@overload("duration(string) -> duration")
def _duration(value: str) -> Duration:
    try:
        return parse_duration(value)
    except ValueError:
        raise CelError(
            f"type conversion error from 'string' to 'google.protobuf.Duration': time: invalid duration {quote(value)}"
        ) from None


@overload("duration(duration) -> duration", "timestamp(timestamp) -> timestamp")
def _same(value: Any) -> Any:
    return value


@overload("timestamp(string) -> timestamp")
def _timestamp(value: str) -> Timestamp:
    try:
        return parse_timestamp(value)
    except (ValueError, OverflowError):
        layout = '"2006-01-02T15:04:05Z07:00"'
        raise CelError(
            "type conversion error from 'string' to 'google.protobuf.Timestamp': "
            f'parsing time {quote(value)} as {layout}: cannot parse {quote(value)} as "2006"'
        ) from None


@overload("timestamp(int) -> timestamp")
def _timestamp_of_int(value: int) -> Timestamp:
    nanos = value * _SECOND
    if not MIN_TIME <= nanos <= MAX_TIME:
        raise CelError("timestamp overflow")
    return Timestamp(nanos)


def text(value: Timestamp | Duration) -> str:
    """RFC 3339 with as many decimals as there are; durations in seconds ("5400s")."""
    seconds, nanos = divmod(abs(value.nanos) if isinstance(value, Duration) else value.nanos, _SECOND)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    if isinstance(value, Duration):
        return f"{'-' if value.nanos < 0 else ''}{seconds}{fraction}s"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "Z"


def _zone(name: str) -> tzinfo:
    found = _OFFSET.fullmatch(name)
    if found is not None:
        offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-offset if found[1] == "-" else offset)
    if name in ("", "UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CelError(f"unknown time zone {name}") from None


def _moment(value: Timestamp, zone: str) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value.nanos // 1000)).astimezone(_zone(zone))


def _part(name: str, take: Callable[[datetime], int]) -> None:
    @overload(f"timestamp::{name}() -> int", f"timestamp::{name}(string) -> int")
    def _get(value: Timestamp, zone: str = "UTC") -> int:
        return take(_moment(value, zone))


_part("getFullYear", lambda t: t.year)
_part("getMonth", lambda t: t.month - 1)
_part("getDayOfMonth", lambda t: t.day - 1)
_part("getDate", lambda t: t.day)
_part("getDayOfYear", lambda t: t.timetuple().tm_yday - 1)
_part("getDayOfWeek", lambda t: t.isoweekday() % 7)
_part("getHours", lambda t: t.hour)
_part("getMinutes", lambda t: t.minute)
_part("getSeconds", lambda t: t.second)
_part("getMilliseconds", lambda t: t.microsecond // 1000)


def _whole(name: str, unit: int) -> None:
    @overload(f"duration::{name}() -> int")
    def _get(value: Duration) -> int:
        return abs(value.nanos) // unit * (1 if value.nanos >= 0 else -1)


_whole("getHours", 3600 * _SECOND)
_whole("getMinutes", 60 * _SECOND)
_whole("getSeconds", _SECOND)


@overload("duration::getMilliseconds() -> int")
def _milliseconds(value: Duration) -> int:
    return abs(value.nanos) // 10**6 * (1 if value.nanos >= 0 else -1)
