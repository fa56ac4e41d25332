"""What a value means: numbers, booleans, times and names from JSON texts, where there is one meaning."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from producers.lines.json_text import WORDS, is_number
from schemas.values import EARLIEST_US, LATEST_US, clean

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-?Infinity|NaN", re.A)
_WRITTEN_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.I | re.A)
_WHOLE = re.compile(r"-?\d+", re.A)
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}

_LONGEST_LONE = 1000
"""A longer list holds more than one value."""

LONGEST = 2**63
"""Whole numbers from here on have no column."""
# A number of seconds as large as these is none: milliseconds, microseconds, nanoseconds since 1970.
_UNITS = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (float("inf"), 0.001))


class BadValueError(ValueError):
    """A field has no meaning that could be told."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TooWideError(ValueError):
    """A whole number that 64 bits do not hold."""


def number(name: str, text: str) -> float:
    """A double: a number, a string that holds one, or either alone in nested lists, as numpy prints it.

    Raises:
        BadValueError: it has no such meaning.
    """
    return float(_one_number(name, text))


def integer(name: str, text: str) -> int:
    """A whole number, written as above; 31.0 is 31.

    Raises:
        BadValueError: it has no such meaning.
        TooWideError: 64 bits do not hold it.
    """
    found = _one_number(name, text)
    if _WHOLE.fullmatch(found):
        if len(found) > 20:
            raise TooWideError
        value = int(found)
    else:
        double = float(found)
        if double in (float("inf"), float("-inf")) and _NUMBER.fullmatch(found) and found not in WORDS:
            raise TooWideError
        if not double.is_integer():
            raise BadValueError(name, f"{name} must be a whole number, and it is {shown(text)}.")
        value = int(double)
    if not -LONGEST <= value < LONGEST:
        raise TooWideError
    return value


def boolean(name: str, text: str) -> bool:
    """true or false, also as 1, 0, a string, or alone in nested lists.

    Raises:
        BadValueError: it has no such meaning.
    """
    inner = unwrapped(text)
    if inner[0] == '"':
        inner = string(inner).strip().lower()
    elif _NUMBER.fullmatch(inner) and inner not in WORDS and float(inner) in (0.0, 1.0):
        inner = str(int(float(inner)))
    if inner not in _TRUTHS:
        raise BadValueError(name, f"{name} must be true or false, and it is {shown(text)}.")
    return _TRUTHS[inner]


def name_of(name: str, text: str) -> str | None:
    """An id: a string, or a number as it is written. None where it names nobody.

    Raises:
        BadValueError: it is neither.
    """
    if text == "null":
        return None
    if text[0] == '"':
        return clean(string(text)) or None
    if is_number(text):
        return text
    raise BadValueError(name, f"{name} must be a string or a number, and it is {shown(text)}.")


def moment(name: str, text: str) -> int:
    """Microseconds since 1970, UTC: of ISO-8601 (without a zone it is UTC) or of seconds.

    Numbers too large for seconds of our age are milli-, micro- or nanoseconds.

    Raises:
        BadValueError: it is no time.
    """
    written = string(text).strip() if text[0] == '"' else text
    if text[0] == '"':
        try:
            found = datetime.fromisoformat(written)
        except ValueError:
            pass
        else:
            return microseconds(found)
    if not _NUMBER.fullmatch(written):
        raise BadValueError(name, f"{name} must be a time (ISO-8601 or seconds), and it is {shown(text)}.")
    value = float(written)
    scale = next((scale for limit, scale in _UNITS if abs(value) < limit), 0.0)
    return _dated(name, text, value * scale)


def nanoseconds(name: str, text: str) -> int:
    """Microseconds since 1970 of nanoseconds, as a number or a string.

    Raises:
        BadValueError: it is no time.
    """
    written = _one_number(name, text)
    if _WHOLE.fullmatch(written) and len(written) < 25:
        return _dated(name, text, int(written) // 1000)
    return _dated(name, text, float(written) / 1000)


def _dated(name: str, text: str, value: float) -> int:
    if not EARLIEST_US <= value <= LATEST_US:  # NaN is outside, too
        raise BadValueError(name, f"{name} must be a time from year 1 to 9999, and it is {shown(text)}.")
    return round(value)


def microseconds(found: datetime) -> int:
    """Microseconds since 1970, UTC."""
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    since = found - _EPOCH
    value = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return min(max(value, EARLIEST_US), LATEST_US)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unwrapped(text: str) -> str:
    """The text of what stands alone in nested lists."""
    while text[0] == "[" and len(text) < _LONGEST_LONE and (inner := text[1:-1].strip()):
        text = inner
    return text


def _one_number(name: str, text: str) -> str:
    inner = unwrapped(text)
    if inner[0] == '"':
        inner = string(inner).strip()
        if _WRITTEN_NUMBER.fullmatch(inner):
            return inner.removeprefix("+")
    elif _NUMBER.fullmatch(inner):
        return inner
    raise BadValueError(name, f"{name} must be a number, and it is {shown(text)}.")


def string(text: str) -> str:
    """The string of a JSON text; of what is none, its text."""
    if text[:1] != '"':
        return text
    if "\\" not in text and text[-1:] == '"':
        return text[1:-1]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def shown(text: str) -> str:
    """A value for a message, cut to a readable length."""
    return clean(text if len(text) <= 40 else text[:37] + "...")
