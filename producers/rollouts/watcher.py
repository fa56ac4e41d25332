"""Reads the rollout files below a folder as they are written, into lines of a spool.

The guarantee:

1. A line of the spool is written whole or not at all, and says which row of which version of which file it
   was made of. The spool is the memory: what stands in it is never made again.
2. `state.json` is written after the spool, so after a kill the spool's newest lines are read first, and what
   they tell is left out when the files are read again from their start.
3. The same bytes are the same lines: readers are pure, and where one was asked for what it held back is
   kept, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from producers.rollouts.checkpoint import FileState, State
from producers.rollouts.lines import line_of, place_of
from producers.rollouts.model import Format, Numbers, Rollout
from producers.rollouts.parsing import Finding, Unusable, not_written
from producers.rollouts.recognise import Left, NoPyarrowError, is_candidate, recognise
from producers.rollouts.source import Source

QUIET_SECONDS = 0.5
"""A file that was not written to for so long gives what its reader holds back."""
WRITE_BYTES = 256 * 1024
MOST_SAID = 20
"""Files that are left out are named up to this number; then they are counted."""
LAST = ("metrics", "prime-rl-tokens", "tinker-cookbook-capture")
"""Formats that name no run of their own: read after those that do."""


@dataclass
class Totals:
    """What was read so far."""

    read: int = 0
    rollouts: int = 0
    metrics: int = 0
    notes: int = 0
    dead_letters: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    run_ids: dict[str, None] = field(default_factory=dict)
    pickles: int = 0
    left_out: int = 0
    _counting: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    _newest: dict[str, int] = field(default_factory=dict)

    def add(self, run_id: str, key: str, scope: str, generation: int, precedence: int) -> None:
        """Count a rollout."""
        self.rollouts += 1
        name = hash((run_id, key))
        before = self._counting.get(name)
        if before is None or (generation, precedence) >= before[1:]:
            self._counting[name] = (scope, generation, precedence)
        self._newest[scope] = max(generation, self._newest.get(scope, 0))

    @property
    def superseded(self) -> int:
        """Rollouts that another one takes the place of."""
        counting = sum(generation == self._newest[scope] for scope, generation, _ in self._counting.values())
        return self.rollouts - counting


class Watcher:
    """One folder. For one thread.

    Args:
        folder: what is watched, absolute.
        state: how far it was read before; changed.
        write: takes whole lines for the spool.
        tell: takes one sentence for the user.
        started: told each run that is new, with its name.
        wanted: the only format, where the user names one.
        only: read these files alone.
        run_id: of files that name none; asked again for each row where it is a function.
    """

    def __init__(
        self,
        folder: Path,
        state: State,
        write: Callable[[bytes], None],
        tell: Callable[[str], None],
        *,
        started: Callable[[str, str, str], None] = lambda run_id, name, format_: None,
        wanted: Format | None = None,
        only: list[Path] | None = None,
        run_id: str | Callable[[], str] | None = None,
        agent_id: str | None = None,
    ) -> None:
        self.folder, self.state, self.totals = folder, state, Totals()
        self._write, self.tell, self._started = write, tell, started
        self._wanted, self._only = wanted, only
        self._run_id, self._agent_id = run_id, agent_id
        self._sources: dict[Path, Source] = {}
        self._left: dict[Path, str] = {}
        self._said: set[tuple[Path, str]] = set()
        self._grew: dict[Path, float] = {}
        self._turns = 0
        self._lines: list[bytes] = []
        self._size = 0
        self._is_away = False

    def poll(self, paths: Iterable[Path] | None = None) -> bool:
        """Read what is new, in these files or in all; whether there was anything."""
        found = False
        for path in self._ordered(self._files() if paths is None else paths):
            found = self._read(path) or found
        self._flush_quiet()
        self._hand_over()
        return found

    def end(self) -> None:
        """Nothing more will come: what is held back, and torn last lines as dead letters."""
        for source in self._sources.values():
            self._guarded(source.path, lambda source=source: self._take(source, source.end()))  # type: ignore[misc]
        self._hand_over()

    @property
    def files(self) -> int:
        """Files that were recognised."""
        return sum(self.totals.formats.values())

    # Files

    def _files(self) -> list[Path]:
        if self._only is not None:
            return self._only
        found, why = list[Path](), ""
        try:
            with os.scandir(self.folder):
                found = list(self._below())
        except OSError as error:
            why = f"cannot be read ({error.strerror}): waits until it is there again"
        if self._sources and not found and not why:  # all was deleted, or its disk was unmounted
            why = "is empty now: waits for files"
        if bool(why) != self._is_away:
            self._is_away = bool(why)
            self.tell(f"{self.folder} {why or 'is there again'}.")
        return found

    def _below(self) -> Iterator[Path]:
        for folder, folders, names in os.walk(self.folder, onerror=self._not_walked):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from (Path(folder, name) for name in names if is_candidate(name))

    def _not_walked(self, error: OSError) -> None:
        self._say_once(Path(error.filename or self.folder), f"cannot be read ({error.strerror}): left out")

    def _ordered(self, paths: Iterable[Path]) -> list[Path]:
        """In the order of their steps; those that name no run of their own come last."""
        known = [path for path in paths if is_candidate(path.name)]
        sources = {path: self._source(path) for path in sorted(known, key=_natural)}
        there = [path for path, source in sources.items() if source is not None]
        return sorted(there, key=lambda path: self._sources[path].format.name in LAST)

    def _source(self, path: Path) -> Source | None:
        if path in self._sources or path in self._left:
            return self._sources.get(path)
        shown = PurePosixPath(self.folder.name, *path.relative_to(self.folder).parts)
        try:
            found = recognise(path, shown, self._wanted)
        except NoPyarrowError as error:
            found = Left(str(error).removeprefix(f"{path.name} ").removesuffix("."))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say_once(path, f"cannot be read ({error.strerror}): left out")
            return None
        if isinstance(found, Left):
            self._leave_out(path, found)
            return None
        state = self.state.files.setdefault(str(shown), FileState())
        state.format = found.name
        if not self.totals.formats[found.name]:
            self.tell(f"{found.name}: recognised in {shown}.")
        self.totals.formats[found.name] += 1
        source = self._sources[path] = Source(path, shown, found, state, self.tell)
        return source

    def _leave_out(self, path: Path, left: Left) -> None:
        if not left.final:
            return
        self._left[path] = left.why
        self.totals.pickles += "pickle" in left.why
        self.totals.left_out += 1
        if self.totals.left_out <= MOST_SAID:
            self.tell(f"left out: {path.relative_to(self.folder)} {left.why}.")
        elif self.totals.left_out == MOST_SAID + 1:
            self.tell("left out: further files, which are counted only.")

    def _read(self, path: Path) -> bool:
        source = self._sources[path]
        found = False

        def read() -> None:
            nonlocal found
            if source.changed():
                self._grew[path] = time.monotonic()
                found = self._take(source, source.read())

        self._guarded(path, read)
        return found

    def _guarded(self, path: Path, act: Callable[[], Any]) -> None:
        try:
            act()
        except FileNotFoundError:
            self._grew.pop(path, None)  # deleted after its import, or on its way to another name
        except OSError as error:
            self._say_once(path, f"cannot be read ({error.strerror}): tried again")

    def _say_once(self, path: Path, what: str) -> None:
        if (path, what) not in self._said:
            self._said.add((path, what))
            self.tell(f"{path} {what}.")

    def _flush_quiet(self) -> None:
        now = time.monotonic()
        for path in [path for path, grew in self._grew.items() if now - grew >= QUIET_SECONDS]:
            del self._grew[path]
            source = self._sources[path]
            self._take(source, source.flush())

    # Lines

    def _take(self, source: Source, findings: Iterator[Finding]) -> bool:
        before, found = source.rows, False
        for finding in findings:
            self._append(source, finding)
            found = True
        self.totals.read += source.rows - before
        return found or source.rows > before

    def _append(self, source: Source, finding: Finding) -> None:
        what = finding.what
        run_id = self._run_of(source, finding)
        episodes = self.state.episodes
        episode = episodes.get(run_id, 0)
        place = {"episode": episode, "turns": self._turns}
        try:
            line = line_of(finding, source, run_id, self._agent_id, **place)
        except Exception as error:  # of one row, and what nobody has seen: a letter, no end
            what = not_written(finding, source.name, error)
            line = line_of(replace(finding, what=what), source, run_id, self._agent_id, **place)
        if isinstance(what, Rollout):
            episodes[run_id] = episode + 1
            self._turns += len(what.turns)
            self._count(what, source, run_id)
        elif isinstance(what, Numbers):
            self.totals.metrics += 1
        elif isinstance(what, Unusable):
            self.totals.dead_letters += 1
        else:
            self.totals.notes += 1
        self._lines.append(line)
        self._size += len(line)
        if self._size >= WRITE_BYTES:
            self._hand_over()

    def _count(self, what: Rollout, source: Source, run_id: str) -> None:
        key, scope, generation = place_of(what, source)
        self.totals.add(run_id, key, scope, generation, what.precedence)

    def _run_of(self, source: Source, finding: Finding) -> str:
        """The run that the file names; else the one that another file of the same folder names; else ours."""
        root = source.root
        named = getattr(finding.what, "run", None)
        if named is not None:
            self.state.runs[str(root)] = named
        run_id = named or self.state.runs.get(str(root)) or self._own_run() or self._run_of_root(root)
        if run_id not in self.totals.run_ids:
            self.totals.run_ids[run_id] = None
            name = getattr(finding.what, "run_name", None) or root.name or self.folder.name
            self._started(run_id, name, source.format.name)
        return run_id

    def _own_run(self) -> str | None:
        return self._run_id() if callable(self._run_id) else self._run_id

    def _run_of_root(self, root: PurePosixPath) -> str:
        """A folder's run has the folder's name, and a mark of where it is."""
        path = self.folder.parent / root
        mark = hashlib.blake2b(os.fsencode(path), digest_size=4).hexdigest()
        return f"{(root.name or self.folder.name)[:200]}-{mark}"

    def _hand_over(self) -> None:
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._write(b"".join(lines))


def _natural(path: Path) -> list[Any]:
    """Numbers in a path sort as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]
