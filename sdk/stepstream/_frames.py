"""Pictures: copied in the call (a limited number per second), encoded as PNG in the background."""

from __future__ import annotations

import json
import struct
import time
import zlib
from binascii import b2a_base64

from stepstream import _warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # channels → PNG's colour type: grey, RGB, RGBA
_ENCODED = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8")
_SHARE = 1 / 25
"""Encoding takes at most this share of one core: larger pictures are sent less often."""


class Picture:
    """A frame's content at the call: text, an encoded picture, or pixels row by row."""

    __slots__ = ("channels", "data", "height", "width")

    def __init__(self, data: bytes | str, width: int = 0, height: int = 0, channels: int = 0) -> None:
        self.data, self.width, self.height, self.channels = data, width, height, channels


class FrameGate:
    """Passes at most `per_second` pictures of each agent, and counts the others."""

    def __init__(self, per_second: float) -> None:
        self.thinned = 0
        self._interval = int(1e9 / per_second)
        self._due: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._held_until = 0

    def take(self, agent_id: object, frame: object, last: bool) -> Picture | None:
        """A copy of the frame if one is due; the last of an episode may come a little early.

        A function is called only then, so that no picture is rendered in vain.
        """
        now, agent_id = time.monotonic_ns(), str(agent_id)
        due = self._due.get(agent_id, 0) - (self._interval // 2 if last else 0)
        if now < due or now < self._held_until:
            self.thinned += 1
            self._waiting[agent_id] = self._waiting.get(agent_id, 0) + 1
            return None
        self._due[agent_id] = max(self._due.get(agent_id, 0), now - self._interval // 8) + self._interval
        try:
            return picture(frame() if callable(frame) else frame)
        except Exception as error:
            _warn.once("frame", f"a frame could not be read as a picture and was left out ({error}).")
            return None

    def attach(self, line: str, frame: Picture, agent_id: object) -> str:
        """The line with the picture in it."""
        start = time.thread_time_ns()
        text = _as_fields(frame)
        self._held_until = time.monotonic_ns() + int((time.thread_time_ns() - start) / _SHARE)
        thinned = self._waiting.pop(str(agent_id), 0)
        more = f',"frame_thinned":{thinned}' if thinned else ""
        return f"{line[:-2]},{text}{more}}}\n"


def picture(frame: object) -> Picture:
    """A copy of the frame: (H, W), (H, W, 1 | 3 | 4) or (3, H, W), uint8 or floats from 0 to 1; nested
    lists; PNG, JPEG, WebP or GIF bytes; ANSI text.

    Raises:
        ValueError: none of these.
    """
    if isinstance(frame, str):
        return Picture(frame)
    if isinstance(frame, (bytes, bytearray)):
        if not bytes(frame[:4]).startswith(_ENCODED):
            raise ValueError("bytes must be PNG, JPEG, WebP or GIF; pixels go as an array")
        return Picture(bytes(frame))
    if isinstance(frame, (list, tuple)):
        return _from_lists(frame)
    return _from_array(frame)


def png(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """The pixels as a PNG file with fast compression; zlib releases the GIL."""
    stride = width * channels
    rows = b"".join([b"\0" + pixels[at : at + stride] for at in range(0, stride * height, stride)])
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _as_fields(frame: Picture) -> str:
    if isinstance(frame.data, str):
        return '"render_payload":' + json.dumps({"mode": "ansi", "text": frame.data})
    data = frame.data
    if frame.channels:
        data = png(data, frame.width, frame.height, frame.channels)
    return f'"frame_b64":"{b2a_base64(data, newline=False).decode("ascii")}"'


def _from_array(array: Any) -> Picture:
    if hasattr(array, "detach"):  # torch
        array = array.detach().cpu().numpy()
    if hasattr(array, "convert") and hasattr(array, "tobytes"):  # Pillow's images
        array = array.convert("RGB")
        width, height = array.size
        return Picture(array.tobytes(), width, height, 3)
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in _COLOUR_TYPES:
        array = array.transpose(1, 2, 0)
        shape = (*shape[1:], shape[0])
    channels = 1 if len(shape) == 2 else shape[2] if len(shape) == 3 else 0
    if channels not in _COLOUR_TYPES or not (shape[0] and shape[1]):
        raise ValueError(f"an array of shape {shape}; expected (H, W, 3)")
    if str(array.dtype) != "uint8":
        floats = str(array.dtype).startswith(("float", "bfloat")) and float(array.max()) <= 1.0
        array = (array * 255 if floats else array).clip(0, 255).astype("uint8")
    return Picture(array.tobytes(), int(shape[1]), int(shape[0]), channels)


def _from_lists(rows: Any) -> Picture:
    height, width = len(rows), len(rows[0])
    first = rows[0][0]
    if isinstance(first, (list, tuple)):
        return Picture(
            bytes(int(v) for row in rows for pixel in row for v in pixel), width, height, len(first)
        )
    return Picture(bytes(int(value) for row in rows for value in row), width, height, 1)
