"""TFRecords: length, its checksum, data, its checksum. Damaged parts are skipped."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<QI")
_SUM = struct.Struct("<I")
_MOST_BYTES = 1 << 30
_MOST_CHECKED = 4096
"""The checksum of longer data is not computed, as ten bytes take a microsecond."""


class Damage(NamedTuple):
    """Bytes that are no record."""

    message: str
    raw: bytes


def records(file: Path) -> Iterator[bytes | Damage | str]:
    """The data of each record; the damage between them; a remark on an end in the middle of one."""
    data = file.read_bytes()
    at, sums = 0, _has_sums(data)
    while at < len(data):
        end = _end(data, at, sums=sums)
        if end is not None:
            yield data[at + _HEAD.size : end - _SUM.size]
            at = end
            continue
        following = _following(data, at + 1) if sums else None
        if following is None:
            yield f"the last {len(data) - at:,} bytes are no whole record: left out."
            return
        yield Damage(f"{following - at:,} bytes from byte {at:,} on are damaged.", data[at:following])
        at = following


def _has_sums(data: bytes) -> bool:
    """Whether the file has checksums: some writers leave them out."""
    return len(data) >= _HEAD.size and _is_head(data, 0)


def _is_head(data: bytes, at: int) -> bool:
    told: int = _HEAD.unpack_from(data, at)[1]
    return told == masked_crc32c(data[at : at + 8])


def _end(data: bytes, at: int, *, sums: bool) -> int | None:
    """The end of the record that begins here; None: there is none, or it is damaged."""
    if at + _HEAD.size > len(data) or (sums and not _is_head(data, at)):
        return None
    length: int = _HEAD.unpack_from(data, at)[0]
    begin, end = at + _HEAD.size, at + _HEAD.size + length + _SUM.size
    if length > _MOST_BYTES or end > len(data):
        return None
    if sums and length <= _MOST_CHECKED:
        (told,) = _SUM.unpack_from(data, end - _SUM.size)
        if told != masked_crc32c(data[begin : begin + length]):
            return None
    return end


def _following(data: bytes, at: int) -> int | None:
    """The beginning of the next complete record."""
    for place in range(at, len(data) - _HEAD.size - _SUM.size + 1):
        # Nearly every length is below 16 MiB, so its upper five bytes are zeros: search for those first.
        if data[place + 3 : place + 8] == b"\0\0\0\0\0" and _end(data, place, sums=True) is not None:
            return place
    return None


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecords: CRC-32C (Castagnoli), rotated and moved."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    return number


_TABLE = [_entry(number) for number in range(256)]
