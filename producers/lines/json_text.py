"""JSON as text: a line's fields with unparsed values, so that the worker's own text is stored.

msgspec splits a line. Where it refuses what workers print (NaN, lone surrogates), the scanner of the
standard library splits it, with the same result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii as quote

import msgspec

from producers.lines import python_text
from schemas.values import clean

Fields = dict[str, str]
"""Name → the value's JSON text, which may hold the bare words NaN, Infinity and -Infinity."""

WORDS = frozenset({"NaN", "Infinity", "-Infinity"})

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BLANK = re.compile(r"[ \t\n\r]*")
_WORD_OR_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN')
# Values are only delimited, not converted: a number may have 5,000 digits.
_scan = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len).raw_decode


class NotJsonError(ValueError):
    """The text is no JSON object; the message says where and why."""


def split(text: str) -> Fields:
    """The fields of a JSON object. If a name occurs twice, the last one counts.

    Raises:
        NotJsonError: the text is no JSON object.
    """
    try:
        return {name: str(raw, "utf-8") for name, raw in _split(text).items()}
    except RecursionError:
        raise NotJsonError("it is nested too deep") from None
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError):
        return _split_slowly(_json(text))


def _json(text: str) -> str:
    """The JSON of a dict that Python printed; any other text unchanged."""
    if not python_text.is_dict(text):
        return text
    try:
        return python_text.as_json(text)
    except python_text.NoValueError as error:
        raise NotJsonError(
            f"it is Python's text of a dict, in which {error} has no JSON: print json.dumps(…) instead"
        ) from None


def _split_slowly(text: str) -> Fields:
    fields: Fields = {}
    try:
        at = _expect(text, _skip(text, 0), "{")
        while not (not fields and text[at : at + 1] == "}"):
            name, at = scanstring(text, _expect(text, at, '"'))
            at = _expect(text, _skip(text, at), ":")
            _, end = _scan(text, at)
            fields[name] = text[at:end]
            at = _skip(text, end)
            if text[at : at + 1] == "}":
                break
            at = _expect(text, at, ",")
        if _skip(text, at + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, at + 1)
    except RecursionError:
        raise NotJsonError("it is nested too deep") from None
    except json.JSONDecodeError as error:
        said = error.msg.removesuffix(" at")  # "Unterminated string starting at"
        cut = "it is cut off" if error.pos >= len(text) else f"{said} at character {error.pos + 1}"
        raise NotJsonError(cut) from None
    return fields


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"Expected {character}", text, at)
    return _skip(text, at + 1) if character != '"' else at + 1


def is_json(text: str) -> bool:
    """Whether the whole text is one JSON value that UTF-8 can hold."""
    try:
        text.encode()
        _, end = _scan(text, _skip(text, 0))
    except (ValueError, RecursionError):
        return False
    return _skip(text, end) == len(text)


def is_number(text: str) -> bool:
    """Whether a value's text is a number; a bool is none."""
    return text[0] in "-0123456789" or text in WORDS


def strict(text: str) -> str:
    """The text with NaN and the infinities as strings."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    return _WORD_OR_STRING.sub(lambda found: found[0] if found[0][0] == '"' else f'"{found[0]}"', text)


def join(fields: Mapping[str, str]) -> str:
    """The JSON object of these fields. A NUL in a name would break PostgreSQL's `->>` for all of it."""
    return "{" + ",".join([f"{quote(clean(name))}:{strict(text)}" for name, text in fields.items()]) + "}"
