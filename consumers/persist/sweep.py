"""The work of persist between batches: mark silent runs as lost, delete runs past their retention."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from infra.sql import runs
from infra.sql.engine import Engine
from infra.sql.seek_points import index_runs
from schemas.errors import DatabaseError
from schemas.topics import Partition

log = structlog.get_logger(service="persist")

SWEEP_EVERY_S = 5.0
RETENTION_EVERY_S = 3600.0


class SilenceWatch:
    """Distinguishes a silent run from the lag of persist.

    It remembers the ends of the partitions at a moment. When the database has everything up to there, runs
    that were silent for `lost_seconds` before that moment are lost.
    """

    def __init__(self, lost_seconds: float) -> None:
        self._lost = timedelta(seconds=lost_seconds)
        self._moment: datetime | None = None
        self._ends: Mapping[Partition, int] = {}

    def look(self, now: datetime, ends: Mapping[Partition, int]) -> None:
        """Remember the ends of the partitions."""
        self._moment, self._ends = now, ends

    def silent_since(self, stored: Mapping[Partition, int]) -> datetime | None:
        """Runs not heard since then are lost; None: the database has not caught up yet."""
        if self._moment is None:
            return None
        behind = any(stored.get(partition, 0) < end for partition, end in self._ends.items())
        return None if behind else self._moment - self._lost


def index_old_runs(engine: Engine, stop: threading.Event) -> None:
    """Start a thread that makes the seek points of runs that were stored before seek points existed."""

    def work() -> None:
        try:
            if count := index_runs(engine, stop=stop):
                log.info("indexed for replay", runs=count)
        except DatabaseError as error:
            log.warning("indexing waits for the next start", reason=str(error))

    threading.Thread(target=work, daemon=True).start()


class Retention:
    """Deletes old runs in a background thread, a few thousand rows at a time."""

    def __init__(self, engine: Engine, days: float) -> None:
        self._engine, self._days = engine, days

    def start(self, stop: threading.Event) -> None:
        """Start, if a retention is set; ends with the process."""
        if self._days > 0:
            threading.Thread(target=self._watch, args=(stop,), daemon=True).start()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.enforce(datetime.now(UTC), stop)
            except DatabaseError as error:
                log.warning("retention waits", reason=str(error))
            stop.wait(RETENTION_EVERY_S)

    def enforce(self, now: datetime, stop: threading.Event) -> None:
        """Delete the runs that are too old."""
        for run_id in runs.past_retention(self._engine, now - timedelta(days=self._days)):
            if stop.is_set():
                return
            began = time.monotonic()
            rows = runs.remove(self._engine, run_id, partial(datetime.now, UTC))
            log.info("deleted by age", run=run_id, rows=rows, seconds=round(time.monotonic() - began, 1))
