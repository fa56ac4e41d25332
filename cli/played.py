"""A replay's progress bar on stderr. Its library is imported late, so that a replay begins at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MANY = 200_000
"""From so many records on, reading takes long enough to show a bar."""


class Played:
    """The bar: first for reading the order of records, then for playing them.

    Args:
        stop: ends reading when set.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._shown: Any = None
        self._task: Any = None

    def reading(self, done: int, total: int) -> None:
        """Show the number of records that were read.

        Raises:
            KeyboardInterrupt: `stop` was set.
        """
        if self._stop.is_set():
            raise KeyboardInterrupt
        if total >= MANY:
            self._update("reading Kafka", done, total)

    def playing(self, done: int, total: int | None) -> None:
        """Show the number of records that were played."""
        self._update("playing", done, total)

    def close(self) -> None:
        """Remove the bar."""
        if self._shown is not None:
            self._shown.stop()

    def _update(self, what: str, done: int, total: int | None) -> None:
        if not sys.stderr.isatty() or sys.stdout.isatty():  # the lines themselves are on that terminal
            return
        if self._shown is None:
            self._shown = _bar()
            self._shown.start()
            self._task = self._shown.add_task(what, total=total, rate="")
        speed = self._shown.tasks[0].speed
        rate = f"{speed:,.0f}/s" if speed else ""
        self._shown.update(self._task, description=what, completed=done, total=total, rate=rate)


@contextmanager
def played(stop: threading.Event) -> Iterator[Played]:
    """A replay's bar, where stderr is a terminal and the records go elsewhere."""
    shown = Played(stop)
    try:
        yield shown
    finally:
        shown.close()


def _bar() -> Any:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    what, rate = TextColumn("{task.description}"), TextColumn("{task.fields[rate]}")
    columns = (what, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
