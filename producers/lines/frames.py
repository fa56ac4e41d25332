"""Pictures in lines: find, take out, decode and compress them.

Finding one is cheap, as its pixels stay text: only pictures that are sent are decoded.
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from producers.lines.json_text import Fields, NotJsonError, join, split
from producers.lines.values import BadValueError, TooWideError, integer, string

if TYPE_CHECKING:
    import numpy as np

ENCODED_NAMES = ("rgb_b64", "frame_b64", "render_b64")
_MAGIC = {
    b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif",
}  # fmt: skip
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}
_LONGEST_SIDE = 16_384
_pixels = msgspec.json.Decoder(list[list[list[int]]])


class NotAPictureError(ValueError):
    """The data is no picture that can be decoded."""


@dataclass(frozen=True)
class Picture:
    """A picture as the line held it: JSON text of pixels, raw pixels, an encoded file, or ANSI text."""

    media_type: str
    data: str | bytes
    width: int | None = None
    height: int | None = None
    channels: int = 3
    thinned: int = 0


def take(fields: Fields) -> Picture | None:
    """Take the picture out of the fields; None: they hold none. Other fields stay."""
    thinned = _whole(fields, "frame_thinned") or 0
    found = _from_payload(fields) if fields.get("render_payload", "")[:1] == "{" else None
    found = found or _encoded(fields, fields)
    if found is None:
        return None
    fields.pop("frame_thinned", None)
    return replace(found, thinned=thinned)


def _from_payload(fields: Fields) -> Picture | None:
    try:
        payload = split(fields["render_payload"])
    except NotJsonError:
        return None
    mode = string(payload.get("mode", '""')).lower()
    size = _whole(payload, "width"), _whole(payload, "height")
    found = None
    if mode in ("", "rgb", "rgb_array") and payload.get("rgb", "").replace(" ", "")[:3] == "[[[":
        found = Picture("image/rgb", payload.pop("rgb"), *size)
    elif mode == "ansi" and payload.get("text", "")[:1] == '"':
        found = Picture("text/x-ansi", string(payload.pop("text")))
    else:
        found = _encoded(payload, fields)
    if found is not None:
        fields["render_payload"] = join(payload)
    return found


def _encoded(fields: Fields, around: Fields) -> Picture | None:
    for name in ENCODED_NAMES:
        if fields.get(name, "")[:1] != '"':
            continue
        text = string(fields[name])
        try:
            data = base64.b64decode(
                text.rpartition(",")[2] if text.startswith("data:") else text, validate=True
            )
        except (binascii.Error, ValueError):
            continue
        found = _file_or_pixels(data, fields, around)
        if found is not None:
            del fields[name]
            return found
    return None


def _file_or_pixels(data: bytes, fields: Fields, around: Fields) -> Picture | None:
    for magic, media_type in _MAGIC.items():
        if data.startswith(magic):
            return Picture(media_type, data)
    width = _whole(fields, "width") or _whole(around, "width")
    height = _whole(fields, "height") or _whole(around, "height")
    for channels in _CHANNELS:
        if width and height and len(data) == width * height * channels:
            return Picture("image/raw", data, width, height, channels)
    return None


def _whole(fields: Fields, name: str) -> int | None:
    try:
        value = integer(name, fields[name])
    except (KeyError, BadValueError, TooWideError):
        return None
    return value if 0 <= value < _LONGEST_SIDE * 65_536 else None


def encode(picture: Picture, image_format: str) -> tuple[str, bytes, int | None, int | None]:
    """Media type, data, width and height for the frames topic.

    Args:
        image_format: `webp` or `png`, both lossless; a picture that is encoded already stays as it is.

    Raises:
        NotAPictureError: the data is no picture.
    """
    if picture.media_type == "text/x-ansi":
        return picture.media_type, str(picture.data).encode("utf-8", "replace"), None, None
    from PIL import Image  # noqa: PLC0415 - takes a fifth of a second, and most streams have no picture

    try:
        if picture.media_type in _MAGIC.values():
            assert isinstance(picture.data, bytes)
            with Image.open(io.BytesIO(picture.data)) as file:  # reads only the header
                return picture.media_type, picture.data, *_sane(*file.size)
        image = Image.fromarray(_array(picture))
        _sane(*image.size)
        buffer = io.BytesIO()
        if image_format == "webp":
            image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
        else:
            image.save(buffer, "PNG", compress_level=1)
        return f"image/{image_format}", buffer.getvalue(), image.width, image.height
    except Exception as error:  # broken or hostile bytes can make Pillow raise anything
        raise NotAPictureError(f"{type(error).__name__}: {error}") from error


def _sane(width: int, height: int) -> tuple[int, int]:
    if not 0 < max(width, height) <= _LONGEST_SIDE:
        raise NotAPictureError(f"a picture of {width} x {height}")
    return width, height


def _array(picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    import numpy as np  # noqa: PLC0415 - likewise

    if isinstance(picture.data, str):
        array = np.array(_pixels.decode(picture.data), dtype=np.uint8)  # OverflowError above 255
    else:
        shape = (picture.height or 0, picture.width or 0, picture.channels)
        array = np.frombuffer(picture.data, np.uint8).reshape(shape)
    if array.ndim != 3 or array.shape[2] not in _CHANNELS:
        raise NotAPictureError(f"an array of shape {array.shape}")
    return array[:, :, 0] if array.shape[2] == 1 else array
