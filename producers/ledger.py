"""What was taken from files before, so that the same is not taken twice.

A file for each source in the folder `taken` of the home: a line of JSON, behind it, for `import`, eight
bytes for each line that was taken. It is written after the lines are in the spool. Without it (the home is
another one) only SQL can tell that a run is there already.
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
"""A line that is longer counts as whole."""
_NOT_COMPARED = ("run_id", "agent_id", "imported_from", "episode_index")
"""Fields of a line that say where it stands, not what it is: a row mended above moves the numbers below."""


@dataclass
class Entry:
    """One source.

    Args:
        path: of the entry's own file.
        said: what is known of the source: `runs` (ids), and what whoever takes it adds.
        taken_us: when it was last taken, µs since 1970; 0: never.
    """

    path: Path
    said: dict[str, Any]
    taken_us: int = 0

    @property
    def runs(self) -> list[str]:
        """The runs that its lines became."""
        return list(self.said.get("runs", []))

    def digests(self) -> array[int]:
        """Of the lines that were taken, in their order."""
        found = array("Q")
        if self.taken_us:
            _, _, content = self.path.read_bytes().partition(b"\n")
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
        return found

    def add(self, digests: list[int]) -> None:
        """Lines more."""
        with self.path.open("ab") as opened:
            opened.write(array("Q", digests).tobytes())

    def write(self) -> None:
        """Begin the entry anew."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_bytes(json.dumps(self.said).encode() + b"\n")
        temporary.replace(self.path)
        self.taken_us = time.time_ns() // 1000


class Ledger:
    """The sources that were taken.

    Args:
        home: the folder of all data.
        deleted_us: when a run was deleted, µs since 1970; 0: it was not. A source all of whose runs were
            deleted since is as good as never taken.
    """

    def __init__(self, home: Path, deleted_us: Callable[[str], int]) -> None:
        self._folder = home / "taken"
        self._deleted_us = deleted_us

    def entry(self, key: str) -> Entry:
        """What is known of a source; `taken_us` is 0 where it is not known."""
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
    """Of what a line says, wherever it stands."""
    said = {name: value for name, value in line.items() if name not in _NOT_COMPARED}
    text = json.dumps(said, sort_keys=True, default=str).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Progress:
    """How far a file of lines was taken, told by what it held."""

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
