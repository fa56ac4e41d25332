"""When a record is due: a run's own pace, times a factor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

BEHIND_S = 0.3
"""Whoever is further behind does not hurry to catch up: the pace goes on from here."""
SLEPT_S = 0.05
"""A shorter pause is slept, which ends more exactly than a wait for the event."""
TOLD_S = 10.0
"""A longer pause is said."""


class Pace:
    """Waits until records are due.

    Args:
        speed: how much faster than the run was.
        skip_idle: seconds of the run that a pause in it may last; None: as long as it was.
        stop: ends the waiting.
        tell: takes a note for the user.
    """

    def __init__(
        self, speed: float, skip_idle: float | None, stop: threading.Event, tell: Callable[[str], None]
    ) -> None:
        self._speed, self._stop, self._tell = speed, stop, tell
        self._longest = None if skip_idle is None else round(skip_idle * 1e6)
        self._due = 0.0
        self._last: int | None = None

    def early(self, micros: int) -> float:
        """Seconds until a record of this time is due; call it once for each, in order."""
        now = time.monotonic()
        if self._last is None:
            self._due, self._last = now, micros
            return 0.0
        passed = max(0, micros - self._last)
        if self._longest is not None:
            passed = min(passed, self._longest)
        self._last = max(self._last, micros)
        self._due += passed / 1e6 / self._speed
        if now - self._due > BEHIND_S:
            self._due = now
        return self._due - now

    def wait(self, seconds: float) -> None:
        """Wait so long, or until told to stop."""
        if seconds > TOLD_S:
            pause, wait = (timedelta(seconds=round(each)) for each in (seconds * self._speed, seconds))
            self._tell(
                f"the run paused for {pause} here: the next record comes in {wait}. "
                "--skip-idle SECONDS shortens pauses."
            )
        if seconds > SLEPT_S:
            self._stop.wait(seconds)
        else:
            time.sleep(seconds)
