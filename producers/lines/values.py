"""Numbers, booleans and names from JSON texts, where they have one clear meaning."""

from __future__ import annotations

import json
import re

from producers.lines.json_text import WORDS, is_number
from producers.lines.python_text import NUMPY
from schemas.values import LONGEST_ID, clean

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-?Infinity|NaN", re.A)
_WRITTEN_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.I | re.A)
_WHOLE = re.compile(r"-?\d+", re.A)
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}
_NUMBERS_OF_WORDS = {"true": 1.0, "false": 0.0}

_LONGEST_LONE = 1000
"""A longer list cannot be one value."""

LONGEST = 2**63
"""Whole numbers from here on fit no column."""


class BadValueError(ValueError):
    """The value of a field has no clear meaning."""

    reason = "bad_value"
    raw = b""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TooWideError(ValueError):
    """A whole number of more than 64 bits."""


def number(name: str, text: str) -> float:
    """A double: a number, a string that holds one, or either alone in nested lists, as numpy prints it.

    true is 1 and false is 0: some environments use a comparison as reward.

    Raises:
        BadValueError: it has no such meaning.
    """
    truth = _NUMBERS_OF_WORDS.get(unwrapped(text))
    return truth if truth is not None else float(one_number(name, text))


def integer(name: str, text: str) -> int:
    """A whole number in the same forms; 31.0 is 31.

    Raises:
        BadValueError: it has no such meaning.
        TooWideError: 64 bits do not hold it.
    """
    found = one_number(name, text)
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
        inner = _scalar(string(inner)).lower().removeprefix("np.").removesuffix("_")
    elif _NUMBER.fullmatch(inner) and inner not in WORDS and float(inner) in (0.0, 1.0):
        inner = str(int(float(inner)))
    if inner not in _TRUTHS:
        raise BadValueError(name, f"{name} must be true or false, and it is {shown(text)}.")
    return _TRUTHS[inner]


def name_of(name: str, text: str) -> str | None:
    """An id: a string, or a number as it is written. None where it names nobody.

    Raises:
        BadValueError: it is neither, or too long to be stored.
    """
    if text == "null":
        return None
    if text[0] != '"' and not is_number(text):
        raise BadValueError(name, f"{name} must be a string or a number, and it is {shown(text)}.")
    found = clean(string(text))
    if len(found) > LONGEST_ID:
        raise BadValueError(name, f"{name} has {len(found):,} characters, and the limit is {LONGEST_ID}.")
    return found or None


def unwrapped(text: str) -> str:
    """The text of what stands alone in nested lists."""
    while text[0] == "[" and len(text) < _LONGEST_LONE and (inner := text[1:-1].strip()):
        text = inner
    return text


def one_number(name: str, text: str) -> str:
    """The digits of the one number that a text holds.

    Raises:
        BadValueError: it holds none.
    """
    inner = unwrapped(text)
    if inner[0] == '"':
        inner = _scalar(string(inner))
        if _WRITTEN_NUMBER.fullmatch(inner):
            return inner.removeprefix("+")
    elif _NUMBER.fullmatch(inner):
        return inner
    raise BadValueError(name, f"{name} must be a number, and it is {shown(text)}.")


def _scalar(text: str) -> str:
    """The value of a scalar as NumPy 2 prints it, such as np.float32(1.0); any other text as it is."""
    found = NUMPY.fullmatch(text.strip())
    return (found[1] if found else text).strip()


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
