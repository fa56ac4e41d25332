"""Remembers what `ingest` and `import` read from files, so that nothing is read twice.

The folder `taken` of the home has a file for each source: a line of JSON and, for `import`, eight bytes for
each line that was read. It is written after the lines are in the spool. Without it (in another home) only SQL
knows which runs exist.
"""

from __future__ import annotations

import hashlib
import json
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_REST = 64 * 1024 * 1024
"""A longer line is compared as a whole."""
_NOT_COMPARED = ("run_id", "agent_id", "imported_from", "episode_index")
"""Fields with the position of a row in its file, left out of digests: a row inserted above changes them."""


@dataclass
class Entry:
    """One source.

    Args:
        path: the entry's file.
        said: `runs` (ids), and what the reader of the source adds.
        taken_us: when it was read last, µs since 1970; 0: never.
    """

    path: Path
    said: dict[str, Any]
    taken_us: int = 0

    @property
    def runs(self) -> list[str]:
        """The runs of its lines."""
        return list(self.said.get("runs", []))

    def digests(self) -> array[int]:
        """Digests of the lines that were read, in their order."""
        found = array("Q")
        if self.taken_us:
            _, _, content = self.path.read_bytes().partition(b"\n")
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
        return found

    def add(self, digests: list[int]) -> None:
        """Add digests of lines that were read."""
        with self.path.open("ab") as opened:
            opened.write(array("Q", digests).tobytes())

    def write(self) -> None:
        """Start the entry again, without digests."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_bytes(json.dumps(self.said).encode() + b"\n")
        temporary.replace(self.path)
        self.taken_us = time.time_ns() // 1000


class Ledger:
    """The sources that were read.

    Args:
        home: the folder of all data.
        deleted_us: when a run was deleted, µs since 1970; 0: it was not. A source whose runs were all
            deleted since counts as never read.
    """

    def __init__(self, home: Path, deleted_us: Callable[[str], int]) -> None:
        self._folder = home / "taken"
        self._deleted_us = deleted_us

    def entry(self, key: str) -> Entry:
        """The entry of a source; `taken_us` is 0 where it is unknown."""
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self._read(self._folder / name) or Entry(self._folder / name, {})

    def entries(self) -> Iterator[Entry]:
        """Every source."""
        for path in sorted(self._folder.glob("*")) if self._folder.exists() else ():
            if not path.suffix and (found := self._read(path)) is not None:
                yield found

    def _read(self, path: Path) -> Entry | None:
        try:
            with path.open("rb") as opened:
                said = json.loads(opened.readline())
            found = Entry(path, said, path.stat().st_mtime_ns // 1000)
        except (OSError, ValueError):
            return None
        if found.runs and all(self._deleted_us(run_id) >= found.taken_us for run_id in found.runs):
            return None
        return found


def digest(line: dict[str, Any]) -> int:
    """The digest of a line, whatever its position."""
    said = {name: value for name, value in line.items() if name not in _NOT_COMPARED}
    text = json.dumps(said, sort_keys=True, default=str).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Progress:
    """How far a file of lines was read, recognised by its content."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of whole lines."""
        self._hash = hashlib.blake2b(digest_size=16)
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Bytes more."""
        data = self._rest + data
        end = len(data) if len(data) > LONGEST_REST else data.rfind(b"\n") + 1
        self._hash.update(data[:end])
        self.bytes += end
        self._rest = data[end:]

    def digest(self, more: bytes = b"") -> str:
        """Of the whole lines, and of more behind them."""
        found = self._hash.copy()
        found.update(more)
        return found.hexdigest()

    def said(self) -> dict[str, Any]:
        """As an entry keeps it: a last line without newline is taken again once the file has grown."""
        rest = {"rest": len(self._rest), "all": self.digest(self._rest)}
        return {"bytes": self.bytes, "digest": self.digest(), **rest}
