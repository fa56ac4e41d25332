"""Times in the forms that programs print, as microseconds since 1970, UTC.

A text is ISO-8601, what Go, Java and `date` print, or what e-mail has; without a zone it is UTC. A number is
seconds, or milli-, micro- or nanoseconds where it is too large for that. A time before September 2001 or
after 2100 (a step counter named `ts`, Go's zero time) is refused: the line's arrival is used instead.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from producers.lines.values import BadValueError, one_number, shown, string
from schemas.values import EARLIEST_US, LATEST_US

OLDEST_NUMBER_US = 1_000_000_000_000_000
"""September 2001: a smaller number of seconds is a counter."""
NEWEST_US = 4_102_444_800_000_000
"""The year 2100."""
LONGEST = 80
"""Characters of a text that may be a time."""

# From these sizes on, a number is no seconds: milliseconds, microseconds, nanoseconds since 1970.
_UNITS = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (float("inf"), 0.001))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?", re.I | re.A)
_ALMOST_ISO = re.compile(
    r"(?P<date>\d{4}([-/])\d\d\2\d\d)[T _](?P<hour>\d\d)(?P<minute>:\d\d)(?P<second>:\d\d)?(?P<part>[.,]\d+)?"
    r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?(?P<name> [A-Z]{3,5})?( m=[+-][\d.]+)?(\[[\w/+-]+\])?",
    re.I | re.A,
)
"""`2025-11-29 08:00:00.5 +0000 UTC m=+0.1`, `2025/11/29 08:00:00`, 24:00, a second 60, `…[Europe/Paris]`."""
_CAPITALS = re.compile(r"\b[A-Z]{2,}\b", re.A)
_ZONES = frozenset({"UT", "UTC", "GMT", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT"})
"""Names of zones that `email.utils` knows; it would ignore others, and AM and PM."""


def moment(name: str, text: str) -> int:
    """Microseconds since 1970, UTC, of a time in any of these forms.

    Raises:
        BadValueError: it is no time, or before September 2001 or after 2100.
    """
    written = string(text).strip() if text[0] == '"' else text
    if _NUMBER.fullmatch(written) and (text[0] != '"' or len(written) != len("20251129")):
        value = float(written)
        scale = next((scale for limit, scale in _UNITS if abs(value) < limit), 0.0)
        return _plausible(name, text, value * scale, OLDEST_NUMBER_US)
    found = _read(written) if text[0] == '"' and len(written) <= LONGEST else None
    if found is None:
        raise BadValueError(name, f"{name} must be a time (ISO-8601 or seconds), and it is {shown(text)}.")
    return _plausible(name, text, microseconds(found), 0)


def nanoseconds(name: str, text: str) -> int:
    """Microseconds since 1970 of nanoseconds, as a number or a string.

    Raises:
        BadValueError: it is no time.
    """
    written = one_number(name, text)
    value = int(written) // 1000 if written.isdecimal() and len(written) < 25 else float(written) / 1000
    return _plausible(name, text, value, OLDEST_NUMBER_US)


def microseconds(found: datetime) -> int:
    """Microseconds since 1970, UTC."""
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    since = found - _EPOCH
    value = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return min(max(value, EARLIEST_US), LATEST_US)


def _plausible(name: str, text: str, value: float, oldest: int) -> int:
    if not oldest <= value <= NEWEST_US:  # also refuses NaN
        raise BadValueError(name, f"{name} must be a time of this age, and it is {shown(text)}.")
    return round(value)


def _read(written: str) -> datetime | None:
    for form in (datetime.fromisoformat, _almost_iso, _worded):
        try:
            return form(written)
        except (ValueError, OverflowError, TypeError, IndexError):  # email.utils raises all of these
            continue
    return None


def _almost_iso(written: str) -> datetime:
    """Almost ISO-8601: other zones or signs; hour 24 or second 60 belong to the next day or minute."""
    found = _ALMOST_ISO.fullmatch(written)
    if found is None or (found["name"] and not found["zone"]):
        raise ValueError(written)
    zone = (found["zone"] or "").upper()
    zone = "+00:00" if zone in ("Z", "UTC", "GMT", "") else zone
    late = timedelta()
    hour, second = found["hour"], found["second"] or ":00"
    if hour == "24" and (found["minute"], second) == (":00", ":00"):
        hour, late = "23", timedelta(hours=1)
    if second == ":60":
        second, late = ":59", late + timedelta(seconds=1)
    date = found["date"].replace("/", "-")
    return datetime.fromisoformat(f"{date}T{hour}{found['minute']}{second}{found['part'] or ''}{zone}") + late


def _worded(written: str) -> datetime:
    """`Sat Nov 29 08:00:00 2025`, with or without a zone, and `Sat, 29 Nov 2025 08:00:00 +0100`."""
    if not _ZONES.issuperset(_CAPITALS.findall(written)):
        raise ValueError(written)
    return parsedate_to_datetime(written)
