"""The floats of a step as the SDK packs them: their bits in hex, then their names.

`"packed": ["3fd3333333333333…", "loss", …]` costs a training loop a tenth of printing 17 digits for each
double. This module formats them as decimals.
"""

from __future__ import annotations

import struct
from json.encoder import encode_basestring_ascii as quote
from typing import Any

import msgspec

from producers.lines.json_text import Fields

_read = msgspec.json.Decoder(list[str]).decode
_words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def digits(packed: list[str]) -> list[bytes]:
    """JSON text of each float; `null` where it is not finite.

    Raises:
        ValueError: the number of floats differs from that of names, or the text is no hex.
    """
    return msgspec.json.encode(_doubles(packed))[1:-1].split(b",")


def unpack(fields: Fields) -> None:
    """Move the floats of the field `packed` into `metrics`; a `packed` of another form stays."""
    text, others = fields.get("packed"), fields.get("metrics", "{}").strip()
    if text is None or others[0] != "{":
        return
    try:
        packed: Any = _read(text)
        texts = [
            found.decode() if found != b"null" else _words[repr(double)]
            for found, double in zip(digits(packed), _doubles(packed), strict=True)
        ]
    except (ValueError, msgspec.MsgspecError):
        return
    del fields["packed"]
    named = ",".join(f"{quote(name)}:{text}" for name, text in zip(packed[1:], texts, strict=True))
    fields["metrics"] = "{" + ",".join(filter(None, (others[1:-1].strip(), named))) + "}"


def _doubles(packed: list[str]) -> tuple[float, ...]:
    try:
        if len(packed) < 2:
            raise ValueError("no names")
        return struct.unpack(f">{len(packed) - 1}d", bytes.fromhex(packed[0]))
    except struct.error as error:
        raise ValueError(str(error)) from None
