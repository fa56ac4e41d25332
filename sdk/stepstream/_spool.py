"""A stream's folder on disk: the SDK appends lines to it, `stepstream up` or `forward` ships them.

<spool folder>/<stream id>/stream.json   who writes; written first, atomically
                         writer.lock     locked as long as the writer lives
                         <n>.jsonl       lines from number n (20 digits), the first is 1
                         done            made when no more lines will come
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time

try:
    import fcntl
except ImportError:  # Windows: no lock, so a dead writer is noticed by its silence only
    fcntl = None  # type: ignore[assignment]

from stepstream import _ulid

_FILE = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)


class Spool:
    """The folder of one stream, locked by one process.

    Raises:
        OSError: the folder or a file in it cannot be written.
    """

    def __init__(self, folder: str, stream_id: str, about: dict[str, object], segment_bytes: int) -> None:
        self.path = os.path.join(folder, stream_id)
        self._segment_bytes = segment_bytes
        self._next_line = 1
        self._segment = self._size = -1
        _make_folder(self.path)
        self._shared = _is_shared(folder)
        self._lock = self._open("writer.lock")
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        facts = {"version": 1, "stream_id": stream_id, "kind": "worker", "created_at": utc_now(), **about}
        self._write_facts({**facts, "generated_run_id": _ulid.new(), "writer": "sdk"})

    def append(self, data: bytes, lines: int) -> None:
        """Write complete lines; after an error none of them is in the file.

        Raises:
            OSError: as write(2), for instance when the disk is full.
        """
        if self._segment < 0 or self._size >= self._segment_bytes:
            self._open_segment()
        try:
            _write_all(self._segment, data)
        except OSError as error:
            os.ftruncate(self._segment, self._size)
            if error.errno != errno.EFBIG or not self._size:
                raise
            self._open_segment()  # the file reached the size limit (`ulimit -f`): begin the next one
            self.append(data, lines)
            return
        self._size += len(data)
        self._next_line += lines

    def finish(self) -> None:
        """Mark the stream as complete, and close it."""
        os.close(self._open("done"))
        self.close()

    def close(self) -> None:
        """Close the files without marking the stream; a forked child does this with its parent's stream."""
        for descriptor in (self._segment, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._segment = self._lock = -1

    def _open_segment(self) -> None:
        segment = self._open(f"{self._next_line:020d}.jsonl")
        if self._segment >= 0:
            os.close(self._segment)
        self._segment, self._size = segment, os.fstat(segment).st_size

    def _write_facts(self, facts: dict[str, object]) -> None:
        target = os.path.join(self.path, "stream.json")
        with open(self._open("stream.json.tmp"), "w", encoding="utf-8") as file:
            json.dump(facts, file)
        os.replace(target + ".tmp", target)

    def _open(self, name: str) -> int:
        """A file to append to, for its owner only, or also for the group if the spool folder is shared."""
        descriptor = _above_standard_streams(os.open(os.path.join(self.path, name), _FILE, 0o600))
        if self._shared:
            os.chmod(os.path.join(self.path, name), 0o660)
        return descriptor


def _make_folder(path: str) -> None:
    """A new folder, for its owner only, or also for the group if its parent is shared."""
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        with contextlib.suppress(FileExistsError):  # another process was first
            _make_folder(above)
    os.mkdir(path, 0o700)
    if _is_shared(above):
        os.chmod(path, 0o2770)  # noqa: S103 - the group is meant


def _is_shared(folder: str) -> bool:
    """Whether a folder is shared with its group: setgid and group write bits, as by fsGroup."""
    wanted = stat.S_ISGID | stat.S_IWGRP
    return os.stat(folder).st_mode & wanted == wanted


def _above_standard_streams(descriptor: int) -> int:
    """Never one of the standard streams: if a shell closed those (`>&-`), the output of the program or its
    children would go into the file."""
    if descriptor > 2 or fcntl is None:
        return descriptor
    higher = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return higher


def utc_now() -> str:
    """The time now, ISO-8601 with microseconds, UTC."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}+00:00"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
