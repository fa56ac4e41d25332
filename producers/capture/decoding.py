"""Lines in UTF-8 from the bytes of a file or pipe: decompressed and decoded according to the first bytes.

gzip, bzip2, xz and Zstandard are read member by member, also where the end is missing. A text is UTF-8,
UTF-16 or UTF-32 with a byte order mark (as PowerShell writes them), or UTF-16 that begins with `{`.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from backports import zstd

from producers.spool.format import READ_BYTES

LONGEST_HELD = 8 * READ_BYTES
"""Bytes of an incomplete line that are held back until its rest comes; a longer one is passed on in parts."""


class Member(Protocol):
    """One member of a compressed file, which may consist of several."""

    @property
    def eof(self) -> bool: ...  # noqa: D102
    @property
    def needs_input(self) -> bool: ...  # noqa: D102
    @property
    def unused_data(self) -> bytes: ...  # noqa: D102
    def decompress(self, data: bytes, max_length: int) -> bytes: ...  # noqa: D102


class Gzip:
    """gzip with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._inside = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """The member is complete."""
        return self._inside.eof

    @property
    def unused_data(self) -> bytes:
        """The bytes behind it."""
        return self._inside.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The decompressed bytes, at most so many at once."""
        found = self._inside.decompress(self._inside.unconsumed_tail + data, max_length)
        self.needs_input = not self._inside.unconsumed_tail and len(found) < max_length
        return found


COMPRESSED: dict[bytes, tuple[str, Callable[[], Member]]] = {
    b"\x1f\x8b": ("gzip", Gzip),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": ("xz", lzma.LZMADecompressor),
    b"\x28\xb5\x2f\xfd": ("Zstandard", zstd.ZstdDecompressor),
}
"""First bytes of a file → its format and decompressor."""
BROKEN = (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, EOFError, ValueError)

ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"{\0": "utf-16-le",
    b"\0{": "utf-16-be",
}
"""First bytes of a text → its encoding, if not UTF-8; the longer ones first."""


class Decoder:
    """Turns the bytes that were read into lines in UTF-8."""

    def __init__(self) -> None:
        self._unpacker = _Unpacker()
        self._text = _Text()

    @property
    def cut(self) -> str:
        """What is missing after `finish`, as the end of a sentence; empty: nothing."""
        return self._unpacker.cut

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that these bytes complete."""
        for plain in self._unpacker.feed(data):
            if text := self._text.feed(plain):
                yield text

    def finish(self) -> Iterator[bytes]:
        """The rest, as no more bytes come."""
        for plain in self._unpacker.finish():
            if text := self._text.feed(plain):
                yield text
        if text := self._text.finish():
            yield text


class _Unpacker:
    """Decompresses, if the data is compressed."""

    def __init__(self) -> None:
        self.cut = ""
        self._head = b""
        self._format = ""
        self._decided = False
        self._new: Callable[[], Member] | None = None
        self._member: Member | None = None
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._decided:
            yield from self._plain(data)
            return
        self._head += data
        if (
            not any(magic.startswith(self._head[: len(magic)]) for magic in COMPRESSED)
            or len(self._head) >= 6
        ):
            yield from self._decide()

    def finish(self) -> Iterator[bytes]:
        if not self._decided:
            yield from self._decide()
        if self._new is None:
            return
        if self._member is not None and not self._member.eof:
            self.cut = self.cut or f"it ends in the middle of its {self._format} data"
        if not self.cut:
            yield self._held
        elif self._held:
            self.cut += ", and its last line is cut: that is left out"

    def _decide(self) -> Iterator[bytes]:
        self._decided = True
        found = next((each for magic, each in COMPRESSED.items() if self._head.startswith(magic)), None)
        if found is not None:
            self._format, self._new = found
        yield from self._plain(self._head)

    def _plain(self, data: bytes) -> Iterator[bytes]:
        if self._new is None:
            yield data
            return
        try:
            for piece in self._unpacked(data):
                yield from self._whole_lines(piece)
        except BROKEN as error:
            self.cut = f"its {self._format} data is damaged ({error})"

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        assert self._new is not None
        while data and not self.cut:
            if self._member is None:
                data = data.lstrip(b"\0")  # padding between members
                if not data:
                    return
                self._member = self._new()
            yield self._member.decompress(data, READ_BYTES)
            while not self._member.eof and not self._member.needs_input:
                yield self._member.decompress(b"", READ_BYTES)
            data = b""
            if self._member.eof:
                data, self._member = self._member.unused_data, None

    def _whole_lines(self, piece: bytes) -> Iterator[bytes]:
        """The last line is held back until it is complete."""
        piece = self._held + piece
        end = len(piece) if len(piece) > LONGEST_HELD else piece.rfind(b"\n") + 1
        self._held = piece[end:]
        if end:
            yield piece[:end]


class _Text:
    """Decodes, if the text is not UTF-8."""

    def __init__(self) -> None:
        self._head = b""
        self._decided = False
        self._decode: Callable[[bytes, bool], str] | None = None

    def feed(self, data: bytes) -> bytes:
        if not self._decided:
            self._head += data
            if len(self._head) < 4 and any(begin.startswith(self._head) for begin in ENCODINGS):
                return b""
            data = self._begin()
        return data if self._decode is None else self._decode(data, False).encode("utf-8", "replace")

    def finish(self) -> bytes:
        rest = b"" if self._decided else self._begin()
        return rest if self._decode is None else self._decode(rest, True).encode("utf-8", "replace")

    def _begin(self) -> bytes:
        self._decided = True
        head, self._head = self._head, b""
        name = next((name for begin, name in ENCODINGS.items() if head.startswith(begin)), None)
        if name is not None:
            self._decode = codecs.getincrementaldecoder(name)("replace").decode
        return head
