"""Numbers and times as people read them. Pure."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

NONE = "–"
_SIGNS = ("", "k", "M", "G", "T")


def compact(value: float | None) -> str:
    """12,345 in full; from 100,000 on 123k, 1.2M."""
    if value is None:
        return NONE
    size, sign = float(value), 0
    if abs(size) < 100_000:
        return f"{size:,.0f}"
    while abs(size) >= 1000 and sign < len(_SIGNS) - 1:
        size, sign = size / 1000, sign + 1
    return (f"{size:.0f}" if abs(size) >= 100 else f"{size:.1f}") + _SIGNS[sign]


def number(value: Any) -> str:
    """A measured number: four significant digits, no needless zeros."""
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e6:
        return str(int(value))
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        digits, power = f"{value:.2e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:.4g}"


def rate(value: float | None) -> str:
    """Steps a second."""
    if not value:
        return NONE
    return f"{value:.1f}" if value < 10 else compact(round(value))


def duration(ms: float | None) -> str:
    """4 s, 3 m 12 s, 2 h 05 m, 3 d 4 h."""
    if ms is None or not ms >= 0:
        return NONE
    seconds = int(ms // 1000)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds // 60 % 60:02d} m"
    return f"{seconds // 86400} d {seconds // 3600 % 24} h"


def short(ms: float | None) -> str:
    """A short time with its unit: 23 ms, 1.4 s, 12 s."""
    if ms is None:
        return NONE
    if ms < 1000:
        return f"{max(ms, 0):.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 10_000 else duration(ms)


def moment(ms: float | None, now: datetime | None = None) -> str:
    """14:03 today, else 24 Nov, with the year where it is another one; in the time zone of the server."""
    if not ms:
        return NONE
    at = datetime.fromtimestamp(ms / 1000, UTC).astimezone()
    now = now or datetime.now(UTC).astimezone()
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{at.day} {at:%b}" if at.year == now.year else f"{at.day} {at:%b %Y}"


def iso(ms: float | None) -> str:
    """The exact moment, for a title."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds") if ms else ""


def line(text: Any, most: int = 200) -> str:
    """A JSON text on one line: a string without its quotes."""
    if text is None:
        return NONE
    found = str(text)[: 4 * most]
    if found[:1] == '"':
        found = _unquoted(found)
    return " ".join(found.split())[:most]


def _unquoted(text: str) -> str:
    """A JSON string's value; of one that was cut, as far as it goes."""
    for end in ("", '"'):
        try:
            value = json.loads(text + end)
        except ValueError:
            continue
        return str(value)
    return text[1:]


def exact(value: float | None) -> str:
    """Every digit, for a title."""
    return "" if value is None else f"{value:,.0f}"


def readable(text: str | None) -> str:
    """JSON text as people read it: a string without its quotes, anything else indented."""
    if text is None:
        return ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def yes_no(value: bool | None) -> str:
    """Yes, no, or nothing known."""
    return NONE if value is None else "yes" if value else "no"


def clock(ms: float | None) -> str:
    """14:03:07.123 of that day; in the time zone of the server."""
    if ms is None:
        return NONE
    at = datetime.fromtimestamp(ms / 1000, UTC).astimezone()
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
