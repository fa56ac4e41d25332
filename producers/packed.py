"""A step's floats as the SDK packs them: their bits in hex, then their names.

`"packed": ["3fd3333333333333…", "loss", …]` costs a training loop a tenth of what their digits would, as a
double has seventeen of them. Here they get their digits.
"""

from __future__ import annotations

import struct
from json.encoder import encode_basestring_ascii as quote
from typing import Any

import msgspec

from producers.jsontext import Fields
from producers.values import BadValueError

_read = msgspec.json.Decoder(list[str]).decode
_words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def digits(packed: list[str]) -> list[bytes]:
    """JSON text of each float; `null` where it is not finite.

    Raises:
        ValueError: not as many floats as names, or no hex.
    """
    doubles = _doubles(packed)
    return msgspec.json.encode(doubles)[1:-1].split(b",") if doubles else []


def unpack(fields: Fields) -> None:
    """The field `packed` becomes part of `metrics`.

    Raises:
        BadValueError: it is not as the SDK writes it.
    """
    text = fields.pop("packed", None)
    if text is None:
        return
    try:
        packed: Any = _read(text)
        texts = [
            found.decode() if found != b"null" else _words[repr(double)]
            for found, double in zip(digits(packed), _doubles(packed), strict=True)
        ]
    except (ValueError, msgspec.MsgspecError):
        raise BadValueError(
            "packed", "packed is not as the SDK writes it: bits in hex, then names."
        ) from None
    named = ",".join(f"{quote(name)}:{text}" for name, text in zip(packed[1:], texts, strict=True))
    others = fields.get("metrics", "{}")
    fields["metrics"] = others[:-1] + ("," if others != "{}" and named else "") + named + "}"


def _doubles(packed: list[str]) -> tuple[float, ...]:
    if not packed:
        return ()
    try:
        return struct.unpack(f">{len(packed) - 1}d", bytes.fromhex(packed[0]))
    except struct.error as error:
        raise ValueError(str(error)) from None
