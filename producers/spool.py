"""A stream's folder on disk: what a worker printed, byte for byte, until Kafka has it.

    <spool folder>/<stream id>/
        stream.json    whose it is; written first, atomically
        <n>.jsonl      its lines from number n (20 digits) on, raw
        <n>.times      when they came: pairs of byte offset and µs, written before the bytes they speak of
        writer.lock    held by whoever writes, as long as it lives
        ship.lock      held by whoever ships
        place.json     how far it is shipped
        done           no more lines will come

The guarantee: a line that was read from the worker is in the file before anything else is done with it,
so it outlives this program. Whether it outlives the machine is `spool_fsync`: `always` (each read is on
the platter before the next), `interval` (what is older than a second is) or `never` (the kernel decides,
some 30 s).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from ulid import ULID

from infra.settings import Settings
from producers.values import microseconds
from schemas.topics import META_SUFFIX

PAIR = struct.Struct("<Qq")
READ_BYTES = 1024 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT)
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def now_us() -> int:
    """µs since 1970."""
    return time.time_ns() // 1000


def iso(moment_us: int) -> str:
    """A moment as text, UTC, with µs."""
    seconds, rest = divmod(moment_us, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:06d}+00:00"


def new_id() -> str:
    """A new ULID."""
    return str(ULID())


def write_atomically(path: Path, content: dict[str, Any], *, sync: bool = False) -> None:
    """Replace a JSON file in one step."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, json.dumps(content).encode())
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none, or it is torn."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class About:
    """`stream.json`: whose a stream is.

    Args:
        run_id: of lines before a run is named; None: the first that the stream names.
        generated_run_id: where it names none.
        writer: `sdk`, `run`, `ingest` or `forward`.
        owner: its writer ends the run; False in a process that only joined it.
    """

    stream_id: str
    kind: str
    created_at: str
    run_id: str | None
    generated_run_id: str
    agent_id: str | None
    writer: str
    pid: int = 0
    host: str = ""
    owner: bool = True

    @property
    def created_us(self) -> int:
        """When the stream began, µs since 1970."""
        try:
            return microseconds(datetime.fromisoformat(self.created_at))
        except ValueError:
            return 0

    @classmethod
    def read(cls, folder: Path) -> About | None:
        """Of a stream's folder; None: it is not there yet."""
        kept = read_json(folder / "stream.json")
        if not kept:
            return None
        return cls(
            stream_id=folder.name,
            kind=str(kept.get("kind", "worker")),
            created_at=str(kept.get("created_at", "")),
            run_id=kept.get("run_id"),
            generated_run_id=str(kept.get("generated_run_id") or folder.name[:26]),
            agent_id=kept.get("agent_id"),
            writer=str(kept.get("writer", "")),
            pid=int(kept.get("pid") or 0),
            host=str(kept.get("host", "")),
            owner=bool(kept.get("owner", True)),
        )

    def write(self, folder: Path) -> None:
        """Make `stream.json`."""
        write_atomically(folder / "stream.json", {"version": 1, **self.__dict__}, sync=True)


def about_new(writer: str, run_id: str | None, agent_id: str | None, generated: str | None = None) -> About:
    """A new worker's stream."""
    return About(
        stream_id=new_id(),
        kind="worker",
        created_at=iso(now_us()),
        run_id=run_id,
        generated_run_id=generated or new_id(),
        agent_id=agent_id,
        writer=writer,
        pid=os.getpid(),
        host=socket.gethostname(),
    )


def about_meta(parent: About, writer: str) -> About:
    """stepstream's own stream beside a worker's: its records are of the same run."""
    return About(
        stream_id=parent.stream_id + META_SUFFIX,
        kind="meta",
        created_at=iso(now_us()),
        run_id=parent.run_id,
        generated_run_id=parent.generated_run_id,
        agent_id=parent.agent_id,
        writer=writer,
        pid=os.getpid(),
        host=socket.gethostname(),
    )


def try_lock(path: Path) -> int | None:
    """An exclusive flock: its descriptor, which holds it; None: somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def segments(folder: Path) -> list[int]:
    """First line numbers of the segments, in order."""
    names = (name for name in os.listdir(folder) if name.endswith(".jsonl"))
    return sorted(int(name[:-6]) for name in names if name[:-6].isdigit())


def segment_path(folder: Path, first: int, ending: str = "jsonl") -> Path:
    """A segment's file."""
    return folder / f"{first:020d}.{ending}"


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
        self.folder.mkdir(parents=True, exist_ok=True)
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
        self._size = self._boundary = 0
        self.lines = 0
        """Lines so far, over all segments."""
        if About.read(self.folder) is None:
            about.write(self.folder)
        self._resume()

    @property
    def lines_read(self) -> int:
        """Lines so far, with one that has no newline yet."""
        return self.lines + (self._size > self._boundary)

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
                self._drop(data)
                return
            else:
                time.sleep(0.1)
        self.waiting = ""

    def finish(self) -> None:
        """Say that no more lines will come, and let go."""
        self.sync()
        os.close(os.open(self.folder / "done", _APPEND, 0o644))
        self.close()

    def close(self) -> None:
        """Let go of the files."""
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
        self._times = os.open(segment_path(self.folder, first, "times"), _APPEND, 0o644)
        self._data = os.open(segment_path(self.folder, first), _APPEND, 0o644)
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
            if error.errno not in _FULL:
                raise
            self._full(data, start, arrived)
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

    def _full(self, data: bytes, start: int, arrived: int) -> None:
        """The disk took a part: that stays; the rest waits, or is dropped with its whole line."""
        written = data[: self._size - start]
        self._count(written, start)
        rest = data[len(written) :]
        if not self._drops:
            self.waiting = "the disk is full"
            time.sleep(0.2)
            self.append(rest, arrived)
            return
        torn = self._size > self._boundary
        os.ftruncate(self._data, self._boundary)
        self._size = self._boundary
        self._drop(rest, torn=torn)

    def _drop(self, data: bytes, *, torn: bool = False) -> None:
        """Count the lines; what remains of the last one is dropped when it comes."""
        self.waiting = "lines are dropped: the disk is full"
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
        self.waiting = "the spool is full (spool_max_bytes)"
        return False


@dataclass
class Place:
    """How far a stream is shipped, and what is needed to go on from there in the same way.

    Args:
        run_id: the run of lines before one was named, once that is decided.
        context: what the normaliser knew there.
        counts: records so far, by kind.
    """

    segment: int = 0
    offset: int = 0
    line: int = 0
    run_id: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Place:
        """As kept beside the stream; the beginning where nothing is, or it is torn."""
        kept = read_json(folder / "place.json")
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__ if name in kept})

    def save(self, folder: Path, *, sync: bool = False) -> None:
        """Replace `place.json`."""
        write_atomically(folder / "place.json", self.__dict__, sync=sync)


@dataclass(frozen=True)
class Long:
    """A line over the size limit: its head and its length."""

    head: bytes
    length: int


@dataclass
class Chunk:
    """Lines of one segment, as they follow each other, with their place and times of arrival.

    Args:
        start: byte offset of the first.
        first: number of the first in the stream.
        times: (offset, µs) pairs, in order; the arrival of a line is that of the last pair at or below
            its start.
    """

    lines: list[bytes] | Long
    start: int
    first: int
    times: list[tuple[int, int]]

    def with_arrivals(self) -> Iterator[tuple[bytes, int]]:
        """Each line with its time of arrival, µs since 1970."""
        assert isinstance(self.lines, list)
        pairs = iter(self.times)
        _, arrived = next(pairs)
        following = next(pairs, None)
        start = self.start
        for line in self.lines:
            while following is not None and following[0] <= start:
                arrived = following[1]
                following = next(pairs, None)
            yield line, arrived
            start += len(line) + 1


class SpoolReader:
    """Reads a stream's lines in order, from a place on, while they are written.

    Args:
        longest: a longer line is given as its head.
        head: of so many bytes.
    """

    def __init__(self, folder: Path, about: About, place: Place, longest: int, head: int) -> None:
        self.folder = folder
        self.segment, self.offset, self.line = place.segment, place.offset, place.line
        self._longest, self._head = longest, head
        self._created = about.created_us
        self._file = self._times_file = -1
        self._times: list[tuple[int, int]] = []
        self._times_read = 0
        self._scanned = 0

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._file, self._times_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._times_file = -1

    def read(self, most: int, *, final: bool) -> Chunk | None:
        """The next complete lines; None: there are none yet.

        Args:
            most: so many lines at most.
            final: nobody writes any more, so a last line without newline counts.
        """
        while self._file >= 0 or self._open(self.segment):
            complete = False
            while True:
                data = os.pread(self._file, READ_BYTES, self.offset)
                end = data.rfind(b"\n")
                if end >= 0:
                    return self._lines(data[:end].split(b"\n"), most)
                following = self._following()
                if following is None or complete:
                    break
                complete = True  # since now: so read what came before
            if data:
                return self._long(len(data), final=final or complete)
            if following is None:
                return None
            self._move(following)
        return None

    def _lines(self, lines: list[bytes], most: int) -> Chunk:
        del lines[most:]
        length = sum(map(len, lines)) + len(lines)
        return self._chunk(lines, length, len(lines))

    def _chunk(self, lines: list[bytes] | Long, length: int, count: int) -> Chunk:
        start, first = self.offset, self.line + 1
        self.offset += length
        self.line += count
        self._scanned = 0
        return Chunk(lines, start, first, self._arrivals(start, self.offset))

    def _long(self, have: int, *, final: bool) -> Chunk | None:
        """A line longer than one read, or a last one without newline."""
        scanned = max(self._scanned, have)
        while data := os.pread(self._file, READ_BYTES, self.offset + scanned):
            end = data.find(b"\n")
            if end >= 0:
                return self._one(scanned + end, 1)
            scanned += len(data)
        self._scanned = scanned
        return self._one(scanned, 0) if final else None

    def _one(self, length: int, newline: int) -> Chunk:
        if length > self._longest:
            head = os.pread(self._file, min(self._head, length), self.offset)
            return self._chunk(Long(head, length), length + newline, 1)
        line = os.pread(self._file, length, self.offset)
        return self._chunk([line], length + newline, 1)

    def _open(self, first: int) -> bool:
        if not first:
            found = segments(self.folder)
            if not found:
                return False
            first = found[0]
        try:
            self._file = os.open(segment_path(self.folder, first), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self.segment = first
        try:
            self._times_file = os.open(segment_path(self.folder, first, "times"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._times_file = -1
        self._times, self._times_read = [], 0
        return True

    def _following(self) -> int | None:
        """The next segment, which is there once this one is complete."""
        return next((first for first in segments(self.folder) if first > self.segment), None)

    def _move(self, following: int) -> None:
        self.close()
        self.segment, self.offset, self._scanned = following, 0, 0

    def _arrivals(self, start: int, end: int) -> list[tuple[int, int]]:
        """The pair at or before `start`, and those up to `end`."""
        if self._times_file < 0:
            return [(start, self._created)]
        more = b""
        while read := os.pread(self._times_file, READ_BYTES, self._times_read + len(more)):
            more += read
        more = more[: len(more) - len(more) % PAIR.size]
        self._times_read += len(more)
        self._times += PAIR.iter_unpack(more)
        below = bisect_right(self._times, start, key=_offset)
        within = bisect_left(self._times, end, key=_offset)
        found = self._times[max(below - 1, 0) : max(within, below)]
        del self._times[: max(below - 1, 0)]
        return found if below else [(start, self._created), *found]


_offset = itemgetter(0)


def _nothing() -> int:
    return 0
