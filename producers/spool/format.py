"""A stream's folder on disk: what a worker printed, byte for byte, until Kafka has it.

    <spool folder>/<stream id>/
        stream.json    whose it is; written first, atomically
        <n>.jsonl      its lines from number n (20 digits) on, raw
        <n>.times      when they came: pairs of byte offset and µs, written before the bytes they speak of
        writer.lock    held by whoever writes, as long as it lives
        ship.lock      held by whoever ships
        place.json     how far it is shipped
        place.room     blocks for one more place.json, so that it can be replaced on a full disk
        done           no more lines will come

The guarantee: a line that was read from the worker is in the file before anything else is done with it,
so it outlives this program. Whether it outlives the machine is `spool_fsync`: `always` (each read is on
the platter before the next), `interval` (what is older than a second is) or `never` (the kernel decides,
some 30 s).
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stepstream._ulid import new as new_ulid

from infra.lock import is_held
from infra.private import opened
from producers.lines.times import microseconds
from schemas.errors import UsageError
from schemas.topics import META_SUFFIX
from schemas.values import LONGEST_ID

PROGRAMS = ("run", "ingest", "import", "watch")
"""Writers that ship what they write themselves, as long as they live."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_ABSENT = (FileNotFoundError, NotADirectoryError)
PAIR = struct.Struct("<Qq")
ROOM_BYTES = 16 * 1024
READ_BYTES = 1024 * 1024


def now_us() -> int:
    """µs since 1970."""
    return time.time_ns() // 1000


def iso(moment_us: int) -> str:
    """A moment as text, UTC, with µs."""
    seconds, rest = divmod(moment_us, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:06d}+00:00"


def new_id() -> str:
    """A new ULID."""
    return new_ulid()


def write_atomically(path: Path, content: dict[str, Any], *, sync: bool = False) -> None:
    """Replace a JSON file in one step."""
    temporary = path.with_name(path.name + ".new")
    _write(temporary, os.O_CREAT | os.O_TRUNC, json.dumps(content).encode(), sync=sync)
    os.replace(temporary, path)


def _write(path: Path, flags: int, text: bytes, *, sync: bool) -> None:
    """Write a file from its beginning; it ends with the text."""
    descriptor = opened(path, flags | os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.ftruncate(descriptor, len(text))
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none, or it is torn.

    Raises:
        OSError: it is there and cannot be read: that must not pass for a beginning.
    """
    try:
        content = json.loads(path.read_bytes())
    except (*_ABSENT, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class About:
    """`stream.json`: whose a stream is.

    Args:
        run_id: of lines before a run is named; None: the first that the stream names.
        generated_run_id: where it names none.
        writer: `sdk`, `run`, `ingest`, `import`, `watch` or `forward`.
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
    def sdk(self) -> bool:
        """Its lines are as the SDK writes them."""
        return self.writer in ("sdk", "import", "watch")

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
    """A new worker's stream.

    Raises:
        UsageError: an id is longer than any table takes.
    """
    for name, named in (("run", run_id), ("agent", agent_id)):
        if named is not None and len(named) > LONGEST_ID:
            raise UsageError(f"The {name}'s id has {len(named):,} characters, and the limit is {LONGEST_ID}.")
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


def segments(folder: Path) -> list[int]:
    """First line numbers of the segments, in order."""
    names = (name for name in os.listdir(folder) if name.endswith(".jsonl"))
    return sorted(int(name[:-6]) for name in names if name[:-6].isdigit())


def segment_path(folder: Path, first: int, ending: str = "jsonl") -> Path:
    """A segment's file."""
    return folder / f"{first:020d}.{ending}"


def arrived_at(folder: Path, first: int, offset: int) -> int:
    """When the byte at an offset of a segment came, µs since 1970; 0: unknown."""
    with segment_path(folder, first, "times").open("rb") as times:
        count = os.fstat(times.fileno()).st_size // PAIR.size

        def pair(number: int) -> tuple[int, int]:
            start, arrived = PAIR.unpack(os.pread(times.fileno(), PAIR.size, number * PAIR.size))
            return start, arrived

        behind = bisect_right(range(count), offset, key=lambda number: pair(number)[0])
        return pair(behind - 1)[1] if behind else 0


@dataclass
class Checkpoint:
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
    def load(cls, folder: Path) -> Checkpoint:
        """As kept beside the stream; the beginning where nothing is, or it is torn."""
        kept = read_json(folder / "place.json")
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__ if name in kept})

    def save(self, folder: Path, *, sync: bool = False) -> None:
        """Replace `place.json`."""
        write_atomically(folder / "place.json", self.__dict__, sync=sync)

    def save_on_full_disk(self, folder: Path) -> None:
        """Replace `place.json`; overwrites the blocks that `keep_room` has reserved.

        Raises:
            OSError: there are none, or too few.
        """
        room = folder / "place.room"
        if not room.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(room))
        _write(room, 0, json.dumps(self.__dict__).encode(), sync=True)
        os.replace(room, folder / "place.json")


def keep_room(folder: Path) -> None:
    """Reserve blocks for a checkpoint on a full disk, if none are reserved."""
    room = folder / "place.room"
    if not room.exists():
        try:
            _write(room, os.O_CREAT, b" " * ROOM_BYTES, sync=False)
        except OSError:
            room.unlink(missing_ok=True)
            raise


def was_written_before(spools: Path, run_id: str) -> bool:
    """Whether a folder of spools holds streams begun for this run, and nobody writes one of them now."""
    folders = spools.iterdir() if spools.is_dir() else ()
    mine = [folder for folder in folders if (about := About.read(folder)) and about.run_id == run_id]
    return bool(mine) and not any(is_held(folder / "writer.lock") for folder in mine)
