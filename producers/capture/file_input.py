"""Follows a file that may grow, be truncated, renamed or replaced, as `tail -F` does."""

from __future__ import annotations

import os
from pathlib import Path

from producers.spool.format import READ_BYTES

REMEMBERED = 256
"""Bytes before the position that are compared, to see whether the file is still the same."""


class FollowedFile:
    """Reads a file from its beginning.

    Args:
        name: its path; the file that has this path at the time is read.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self._at = 0
        self._before = b""
        self._waited = False

    def read(self) -> bytes:
        """The next bytes; empty: there are none now."""
        data = os.pread(self._descriptor, READ_BYTES, self._at)
        if data and self._waited and self._before_changed():
            return b""  # it was truncated, and is longer than before by now
        self._waited = not data
        self._at += len(data)
        self._before = (self._before + data)[-REMEMBERED:]
        return data

    def begins_anew(self) -> str:
        """Whether the file began again: "replaced", "truncated", or empty: it did not."""
        ours = os.fstat(self._descriptor)
        try:
            named = Path(self._name).stat()
        except OSError:
            return ""  # renamed, and there is no new one yet
        if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            if ours.st_size > self._at:
                return ""  # first read the rest of the old file
            other = os.open(self._name, os.O_RDONLY | os.O_CLOEXEC)
            os.close(self._descriptor)
            self._descriptor, happened = other, "replaced"
        elif ours.st_size < self._at or self._before_changed():
            happened = "truncated"
        else:
            return ""
        self._at, self._before, self._waited = 0, b"", False
        return happened

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    def _before_changed(self) -> bool:
        start = self._at - len(self._before)
        return os.pread(self._descriptor, len(self._before), start) != self._before
