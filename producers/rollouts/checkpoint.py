"""How far each file is read, kept beside the spool that holds what was read.

What a line in the spool was made of stands in the line itself (`watch_at`), so after a kill the newest lines
tell what this file does not know yet: nothing is read twice, nothing is left out.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from producers.spool.format import read_json, write_atomically

STATE = "state.json"


@dataclass
class FileState:
    """One file.

    Args:
        format: the name of its format.
        generation: its version, from 1: a rewritten file is the next one.
        offset: bytes whose rows were read.
        found: findings of this generation that are in the spool.
        flushes: after which rows the reader was asked for what it held back.
        head, tail: fingerprints of the bytes at the start and before the offset.
        digest: fingerprint of a file that is read as a whole.
        size, mtime: when it was last looked at.
        torn: size at which the torn last line became a dead letter.
    """

    format: str = ""
    generation: int = 1
    offset: int = 0
    found: int = 0
    flushes: list[int] = field(default_factory=list)
    head: str = ""
    tail: str = ""
    digest: str = ""
    size: int = -1
    mtime: int = -1
    torn: int = -1


@dataclass
class State:
    """Everything that goes on after a restart.

    Args:
        stream_id: of the spool that was written last.
        earlier: streams of killed processes, which may not be shipped.
        segment, size: how much of it this state knows.
        episodes: rollouts so far, by run.
        runs: the run of files that name none, by their root.
    """

    stream_id: str = ""
    segment: int = 0
    size: int = 0
    earlier: list[str] = field(default_factory=list)
    files: dict[str, FileState] = field(default_factory=dict)
    episodes: dict[str, int] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> State:
        """As kept; new where nothing is."""
        kept = read_json(folder / STATE)
        files = {path: FileState(**item) for path, item in kept.pop("files", {}).items()}
        return cls(**{k: v for k, v in kept.items() if k in cls.__dataclass_fields__}, files=files)

    def save(self, folder: Path) -> None:
        """Replace what is kept."""
        write_atomically(folder / STATE, asdict(self))

    def take(self, mark: list[Any], run_id: str | None) -> None:
        """What a line of the spool tells: `[path, generation, number, row, flushed]`, and a rollout's run."""
        path, generation, number, row, flushed = mark
        known = self.files.setdefault(path, FileState())
        if generation > known.generation:
            known = self.files[path] = FileState(known.format, generation)
        if generation == known.generation:
            known.found = max(known.found, number)
            if flushed and row not in known.flushes:
                known.flushes.append(row)
        if run_id is not None:
            self.episodes[run_id] = self.episodes.get(run_id, 0) + 1


def fingerprint(data: bytes) -> str:
    """A short digest."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()
