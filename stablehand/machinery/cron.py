"""Cron schedules: five fields, names, ranges, steps, @macros, a time zone. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {n: i for i, n in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_HORIZON = timedelta(days=5 * 366)


class CronError(ValueError):
    """A schedule or a time zone that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Schedule:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool  # day of month was "*"
    any_weekday: bool
    zone: tzinfo
    every: timedelta | None = None

    def next(self, after: float) -> float | None:
        """The first time of the schedule later than `after` (Unix seconds); None when there is none in five years."""
        if self.every is not None:
            return float(int(after)) + self.every.total_seconds()
        start = datetime.fromtimestamp(after, self.zone).replace(second=0, microsecond=0) + timedelta(minutes=1)
        time, limit = start, start + _HORIZON
        while time < limit:
            if time.month not in self.months:
                time = _month_after(time)
            elif not self._is_day(time):
                time = time.replace(hour=0, minute=0) + timedelta(days=1)
            elif time.hour not in self.hours:
                time = time.replace(minute=0) + timedelta(hours=1)
            elif time.minute not in self.minutes:
                time += timedelta(minutes=1)
            else:
                stamp = time.timestamp()
                # An hour that the clocks skip does not exist: its local time comes out different.
                if stamp > after and datetime.fromtimestamp(stamp, self.zone).hour == time.hour:
                    return stamp
                time += timedelta(minutes=1)
        return None

    def _is_day(self, time: datetime) -> bool:
        day, weekday = time.day in self.days, (time.weekday() + 1) % 7 in self.weekdays
        return day and weekday if self.any_day or self.any_weekday else day or weekday


def _month_after(time: datetime) -> datetime:
    year, month = (time.year + 1, 1) if time.month == 12 else (time.year, time.month + 1)
    return time.replace(year=year, month=month, day=1, hour=0, minute=0)


def _value(text: str, names: dict[str, int], low: int, high: int) -> int:
    number = names.get(text.lower())
    if number is None:
        if not text.isdigit():
            raise CronError(f"failed to parse int from {text}")
        number = int(text)
    if not low <= number <= high:
        raise CronError(f"{text} is not between {low} and {high}")
    return number


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step_text = part.partition("/")
        step = _value(step_text, {}, 1, 10**6) if step_text else 1
        if span in ("*", "?"):
            first, last = low, high
        elif "-" in span:
            left, _, right = span.partition("-")
            first, last = _value(left, names, low, high), _value(right, names, low, high)
            if first > last:
                raise CronError(f"beginning of range ({first}) beyond end of range ({last}): {part}")
        else:
            first = _value(span, names, low, high)
            last = high if step_text else first
        found.update(range(first, last + 1, step))
    return frozenset(found)


def local_time(stamp: float, zone: str | None) -> str:
    """A moment as RFC 3339 writes it in a time zone (UTC by default)."""
    moment = datetime.fromtimestamp(stamp, ZoneInfo(zone) if zone else UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def parse(text: str, zone: str | None = None) -> Schedule:
    """The schedule in the given time zone (UTC by default). Raises CronError."""
    try:
        where: tzinfo = ZoneInfo(zone) if zone else UTC
    except (ZoneInfoNotFoundError, ValueError) as e:
        raise CronError(f"unknown time zone {zone}") from e
    text = text.strip()
    everything: frozenset[int] = frozenset()
    if text.startswith("@every "):
        every = timedelta(seconds=_duration(text.removeprefix("@every ")))
        return Schedule(everything, everything, everything, everything, everything, True, True, where, every)
    fields = _MACROS.get(text, text).split()
    if len(fields) != 5:
        raise CronError(f"expected exactly 5 fields, found {len(fields)}: [{text}]")
    minutes, hours, days, months, weekdays = (_field(f, *limits) for f, limits in zip(fields, _FIELDS))
    return Schedule(minutes, hours, days, months, weekdays, fields[2] in "*?", fields[4] in "*?", where)


def _duration(text: str) -> int:
    total, number = 0, ""
    for char in text.strip():
        if char.isdigit():
            number += char
        elif char in "hms" and number:
            total += int(number) * {"h": 3600, "m": 60, "s": 1}[char]
            number = ""
        else:
            raise CronError(f"failed to parse duration {text}")
    if number or total < 1:
        raise CronError(f"failed to parse duration {text}")
    return total
