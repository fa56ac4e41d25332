"""Open histories of runs, shared by all viewers; the least recently used one is closed.

state = await moments.read("run", lambda history: history.state(position, agent_id))
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from infra.history.moment import History
from infra.settings import Settings

OPEN = 8
"""Runs that are held at once."""

T = TypeVar("T")


class Moments:
    """The past of some runs. One per process.

    Args:
        settings: which database.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: OrderedDict[str, History] = OrderedDict()
        self._lock = threading.Lock()

    async def read(self, run_id: str, ask: Callable[[History], T], *, fresh: bool = False) -> T:
        """Ask a run's past, in a thread.

        Args:
            run_id: the run.
            ask: what is asked.
            fresh: read first what came to SQL since it was opened.

        Raises:
            StepstreamError: SQL does not know the run, or what was asked for is not there.
            DatabaseError: SQL does not answer.
        """
        return await asyncio.to_thread(self._read, run_id, ask, fresh)

    def _read(self, run_id: str, ask: Callable[[History], T], fresh: bool) -> T:
        history = self._open(run_id)
        with history.lock:
            if fresh:
                history.refresh()
            return ask(history)

    def _open(self, run_id: str) -> History:
        with self._lock:
            history = self._held.get(run_id) or self._held.setdefault(run_id, History(self._settings, run_id))
            self._held.move_to_end(run_id)
            while len(self._held) > OPEN:
                _, oldest = self._held.popitem(last=False)
                with oldest.lock:
                    oldest.close()
        return history

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for history in self._held.values():
                history.close()
            self._held.clear()
