"""A run that a tracker wrote, and its run id here."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from producers.importers.lines import Lines

LONGEST_ID = 300


@dataclass(frozen=True)
class Source:
    """One run in a file or folder.

    Args:
        path: the file or folder, absolute.
        read: reads its lines.
        trail: the parts of a path that name it; the last one is the shortest name.
        own: the tracker's own name of the run; empty: only the path names it.
        inner: the tracker's key of it, where a file holds several runs.
        everywhere: `own` identifies the run in every file.
    """

    path: Path
    read: Callable[[], Lines]
    trail: tuple[str, ...]
    own: str = ""
    inner: str = ""
    everywhere: bool = False

    @property
    def where(self) -> str:
        """Its place as text for users: the file, and the run in it."""
        return f"{self.path} ({self.own})" if self.inner else str(self.path)

    @property
    def key(self) -> str:
        """Its place as a key for comparison."""
        return f"{self.path}\0{self.inner}"

    def names(self) -> Iterator[str]:
        """Possible run ids, the best first; the last one is always unique."""
        yield from (name for name in self._readable() if len(name) <= LONGEST_ID)
        digest = hashlib.sha256(self.key.encode("utf-8", "surrogateescape")).hexdigest()
        yield f"{(self.own or self.trail[-1])[: LONGEST_ID - 13]}-{digest[:12]}"

    def _readable(self) -> Iterator[str]:
        if self.own:
            yield self.own
        if self.inner and self.inner != self.own:
            yield f"{self.own}-{self.inner}"
        for start in range(len(self.trail) - 1, -1, -1):
            yield "/".join(self.trail[start:])


def trail_of(path: Path, last: str | None = None) -> tuple[str, ...]:
    """The parts of a path's names.

    Args:
        last: stands in place of the file's own name; empty: only the folders do.
    """
    folders = path.parts[1:-1]
    name = path.name if last is None else last
    return (*folders, name) if name else folders or ("root",)


def best_names(
    sources: Sequence[Source], new: Sequence[Source], taken: Callable[[Source, str], bool]
) -> list[str]:
    """The run id of each new source: its first name that no other source could have.

    Args:
        taken: whether a name belongs to another run already.
    """
    users = Counter(name for source in sources for name in set(source.names()))
    return [
        source.own
        if source.everywhere
        else next(name for name in source.names() if users[name] == 1 and not taken(source, name))
        for source in new
    ]
