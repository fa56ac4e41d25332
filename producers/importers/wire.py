"""Protocol Buffers' wire format, as far as importers need it: no library, no generated code."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are no message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an int of a varint, else the bytes.

    Raises:
        WireError: the bytes end in the middle, or hold a group.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"wire type {kind}")
        if at + size > len(data):
            raise WireError("the message ends in the middle of a field")
        yield key >> 3, data[at : at + size]
        at += size


def message(data: int | bytes) -> dict[int, int | bytes]:
    """The last value of each field."""
    return dict(fields(as_bytes(data)))


def as_bytes(value: int | bytes) -> bytes:
    """A value that must be bytes.

    Raises:
        WireError: it is a number.
    """
    if isinstance(value, int):
        raise WireError("a number where a message should be")
    return value


def text(value: int | bytes | None) -> str:
    """A string field; empty where it is absent."""
    return "" if value is None else as_bytes(value).decode("utf-8", "replace")


def double(value: int | bytes) -> float:
    """A double or float field."""
    data = as_bytes(value)
    number: float = struct.unpack("<d" if len(data) == 8 else "<f", data)[0]
    return number


def signed(value: int | bytes | None) -> int:
    """An int64 field; 0 where it is absent, as the format leaves zeros out."""
    if not isinstance(value, int):
        return 0
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError("the message ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
