"""Writes a spool: what a worker printed, before anything else is done with it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from infra.lock import try_lock
from infra.private import make_folder, opened
from infra.settings import Settings
from producers.spool.format import DISK_FULL, PAIR, About, segment_path, segments

DISK_IS_FULL, SPOOL_FULL = "the disk is full", "the spool is full (spool_max_bytes)"
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class SpoolWriter:
    """Appends what a worker prints to its stream's folder. For one thread.

    Args:
        about: whose it is; the folder is made, or gone on with where it is there.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, settings: Settings, about: About) -> None:
        self.about = about
        self.folder = settings.spool_dir / about.stream_id
        make_folder(self.folder)
        lock = try_lock(self.folder / "writer.lock")
        if lock is None:
            raise OSError(errno.EWOULDBLOCK, f"{self.folder} is written by another process")
        self._lock = lock
        self._segment_bytes = settings.spool_segment_bytes
        self._most = settings.spool_max_bytes
        self.unshipped: Callable[[], int] = _nothing
        """Bytes of this stream that Kafka has not acknowledged, for `spool_max_bytes`."""
        self._fsync, self._synced_at = settings.spool_fsync, time.monotonic()
        self._drops = settings.spool_full == "drop"
        self.dropped = 0
        """Lines that a full disk cost."""
        self.waiting = ""
        """Why nothing is read from the worker just now; empty: it is."""
        self._skipping = False
        self._data = self._times = -1
        self._segment = self._size = self._boundary = 0
        self.lines = 0
        """Lines so far, over all segments."""
        if About.read(self.folder) is None:
            about.write(self.folder)
        self._resume()

    @property
    def lines_read(self) -> int:
        """Lines so far, with one that has no newline yet."""
        return self.lines + (self._size > self._boundary)

    @property
    def position(self) -> tuple[int, int]:
        """The segment that is written, and its size."""
        return self._segment, self._size

    def append(self, data: bytes, arrived: int) -> None:
        """Write what one read brought. Waits, or drops lines, while the disk is full (`spool_full`)."""
        if self._skipping:
            data = self._rest_of_dropped(data)
        while data:
            room = self._room(len(data))
            if room:
                head, data = self._cut(data)
                self._write(head, arrived)
            elif self._drops:
                self._drop(data, SPOOL_FULL)
                return
            else:
                time.sleep(0.1)
        self.waiting = ""

    def give_up(self) -> None:
        """Wait for room no longer: what has none is dropped and counted. For any thread."""
        self._drops = True

    def lift_limit(self) -> None:
        """Wait no longer: `spool_max_bytes` holds no more, and what a full disk does not take is dropped."""
        self._most = 0
        self.give_up()

    def finish(self) -> None:
        """Say that no more lines will come, and let go."""
        self.sync()
        os.close(opened(self.folder / "done", _APPEND))
        self.close()

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._data, self._times, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._times = self._lock = -1

    def sync(self) -> None:
        """Bring what was written to the platter, unless the setting is `never`."""
        self._synced_at = time.monotonic()
        if self._fsync != "never" and self._data >= 0:
            os.fdatasync(self._times)
            os.fdatasync(self._data)

    def sync_if_due(self) -> None:
        """With `interval`: once a second. Call it also when nothing is read."""
        if self._fsync == "interval" and time.monotonic() - self._synced_at >= 1.0:
            self.sync()

    def _resume(self) -> None:
        found = segments(self.folder)
        if not found:
            self._open(1)
            return
        path = segment_path(self.folder, found[-1])
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)  # a torn last line was never complete
        self.lines = found[-1] - 1 + content.count(b"\n")
        self._open(found[-1])

    def _open(self, first: int) -> None:
        if self._data >= 0:
            self.sync()
            os.close(self._data)
            os.close(self._times)
        self._times = opened(segment_path(self.folder, first, "times"), _APPEND)
        self._data = opened(segment_path(self.folder, first), _APPEND)
        self._segment = first
        self._size = self._boundary = os.fstat(self._data).st_size

    def _cut(self, data: bytes) -> tuple[bytes, bytes]:
        """A full segment ends with its line; the rest goes to the next."""
        if self._size < self._segment_bytes:
            return data, b""
        if self._size == self._boundary:
            self._open(self.lines + 1)
            return data, b""
        end = data.find(b"\n") + 1
        return (data[:end], data[end:]) if end else (data, b"")

    def _write(self, data: bytes, arrived: int) -> None:
        start = self._size
        view = memoryview(data)
        try:
            self._write_all(self._times, PAIR.pack(start, arrived))
            while view:
                written = os.write(self._data, view)
                self._size += written
                view = view[written:]
        except OSError as error:
            if error.errno == errno.EFBIG:
                self._next_segment(data, start, arrived)
            elif error.errno in DISK_FULL:
                self._full(data, start, arrived)
            else:
                raise
            return
        self._count(data, start)
        if self._fsync == "always":
            self.sync()
        else:
            self.sync_if_due()

    def _write_all(self, descriptor: int, data: bytes) -> None:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, "the disk is full")

    def _count(self, data: bytes, start: int) -> None:
        newlines = data.count(b"\n")
        if newlines:
            self.lines += newlines
            self._boundary = start + data.rfind(b"\n") + 1

    def _next_segment(self, data: bytes, start: int, arrived: int) -> None:
        """The file may not grow (`ulimit -f`): the next one begins with the line that is torn here."""
        path = segment_path(self.folder, segments(self.folder)[-1])
        written = data[: self._size - start]
        self._count(written, start)
        if not self._boundary:
            raise OSError(errno.EFBIG, "a line is longer than a file may be: raise `ulimit -f`", path)
        torn = path.read_bytes()[self._boundary :]
        os.ftruncate(self._data, self._boundary)
        self._open(self.lines + 1)
        self.append(torn + data[len(written) :], arrived)

    def _full(self, data: bytes, start: int, arrived: int) -> None:
        """The disk took a part: that stays; the rest waits, or is dropped with its whole line."""
        written = data[: self._size - start]
        self._count(written, start)
        rest = data[len(written) :]
        if not self._drops:
            self.waiting = DISK_IS_FULL
            time.sleep(0.2)
            self.append(rest, arrived)
            return
        self._drop(rest, DISK_IS_FULL)

    def _drop(self, data: bytes, why: str) -> None:
        """Count the lines, with the one whose head is there already; what remains of the last is dropped when
        it comes."""
        torn = self._size > self._boundary
        os.ftruncate(self._data, self._boundary)
        self._size = self._boundary
        self.waiting = f"lines are dropped: {why}"
        self.dropped += data.count(b"\n")
        self._skipping = not data.endswith(b"\n") and (bool(data) or torn)

    def _rest_of_dropped(self, data: bytes) -> bytes:
        """What follows the line whose beginning was dropped."""
        end = data.find(b"\n") + 1
        if not end:
            return b""
        self.dropped += 1
        self._skipping = False
        return data[end:]

    def _room(self, wanted: int) -> bool:
        if not self._most or self.unshipped() + wanted <= self._most or self.unshipped() == 0:
            return True
        self.waiting = SPOOL_FULL
        return False


def _nothing() -> int:
    return 0
