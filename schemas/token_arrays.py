"""Arrays with a value for each token, packed: zlib of MessagePack, name to [type, bytes].

Types are NumPy's names (`<i4`, `<f4`), or `bits` for booleans, eight in a byte. Floats keep 24 bits of
mantissa; a null among them is NaN. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Arrays = dict[str, list[Any]]

_LEVEL = 6
_INTEGERS = ("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<i8")


def pack(arrays: Mapping[str, Sequence[Any]]) -> bytes:
    """The arrays as bytes.

    Raises:
        ValueError: a value is no number, boolean or null.
    """
    packed = {name: [*_packed(values), len(values)] for name, values in arrays.items()}
    return zlib.compress(msgspec.msgpack.encode(packed), _LEVEL)


def unpack(data: bytes) -> Arrays:
    """The arrays: integers, floats (null where not finite) and booleans.

    Raises:
        ValueError: the bytes are no packed arrays.
    """
    try:
        packed = msgspec.msgpack.decode(zlib.decompress(data), type=dict[str, tuple[str, bytes, int]])
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(f"no packed arrays: {error}") from None
    return {name: _unpacked(*item) for name, item in packed.items()}


def _packed(values: Sequence[Any]) -> tuple[str, bytes]:
    import numpy as np  # noqa: PLC0415 - takes a third of a second, and most programs see no tokens

    kinds = set(map(type, values))
    if kinds == {bool}:
        return "bits", np.packbits(np.array(values, dtype=bool)).tobytes()
    if kinds == {int}:
        whole = np.array(values)
        if whole.dtype.kind == "i":
            smallest = next(name for name in _INTEGERS if _holds(name, int(whole.min()), int(whole.max())))
            return smallest, whole.astype(smallest).tobytes()
    if kinds <= {int, float, bool, type(None)}:
        return "<f4", np.array(values, dtype=np.float64).astype("<f4").tobytes()
    raise ValueError(f"a token's value must be a number, and one is {next(iter(kinds))}")


def _holds(name: str, low: int, high: int) -> bool:
    bits = 8 * int(name[2:])
    least, most = (0, 2**bits) if name[1] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return least <= low and high < most


def _unpacked(kind: str, data: bytes, length: int) -> list[Any]:
    import numpy as np  # noqa: PLC0415 - likewise

    if kind == "bits":
        found: list[Any] = (
            np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=length).astype(bool).tolist()
        )
        return found
    values = np.frombuffer(data, dtype=kind)
    if kind != "<f4":
        return list(values.tolist())
    return [value if value == value and abs(value) != np.inf else None for value in values.tolist()]  # noqa: PLR0124
