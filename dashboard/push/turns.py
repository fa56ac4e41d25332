"""Chooses which panel draws next: charts and tables together take a limited share of the page's time.

A number of the newest step must not wait for a chart. So what is heavy is drawn one piece a message, each no
more often than it asks for; after a draw of d ms comes a rest of d·(1/share - 1), so that all of them
together take no more than their share, and less where the machine is busy. Where steps come one by one, the
next is foreseen: what would be drawn just then goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

SHARE = 0.18
EASY_MS = 22.0
"""From the socket to the screen where the machine has time; longer is a busy one."""
LONGEST_REST_S = 1.0
SOON_S = 0.02
"""What is drawn waits so long for numbers to go with: a page that draws paints none."""
AHEAD_S = 0.05
"""From so long before the next step is due, what is drawn waits for it,"""
LATE_S = 0.05
"""and so long after."""


class Turn(Protocol):
    """What takes turns."""

    every: float
    """Seconds between two of its turns, at least."""
    drawn: float
    """When its last turn was."""

    @property
    def waits(self) -> bool:
        """Whether it wants one."""


T = TypeVar("T", bound=Turn)


class Turns:
    """The turns of one page. Times are in seconds on a clock of the caller's."""

    def __init__(self) -> None:
        self._rest_until = 0.0
        self._stepped = self._due = 0.0
        """When a step came last, and when the next should."""

    def stepped(self, now: float) -> None:
        """A step came."""
        self._stepped, self._due = now, now + (now - self._stepped)

    def holds(self, now: float) -> bool:
        """Whether a step is about to come."""
        return self._due - AHEAD_S < now < self._due + LATE_S

    def alone(self, now: float) -> float:
        """Until when what is drawn waits for numbers."""
        soon = now + SOON_S
        return self._due + LATE_S if self.holds(soon) else soon

    def drew(self, draw_ms: float, paint_ms: float, now: float) -> None:
        """The page says how long its last draw took, and the delta's way to the screen."""
        if draw_ms > 0:
            share = SHARE * min(1.0, EASY_MS / max(paint_ms, 1.0))
            self._rest_until = now + min(draw_ms / 1000 * (1 / share - 1), LONGEST_REST_S)

    def next(self, those: Iterable[T], now: float) -> T | None:
        """Who draws now: of those whose time has come, the one that waits longest."""
        if now < self._rest_until:
            return None
        due = [one for one in those if one.waits and now >= one.drawn + one.every]
        return min(due, key=lambda one: one.drawn + one.every, default=None)

    def left(self, those: Sequence[Turn], now: float) -> float | None:
        """Seconds until somebody's time comes; None: nobody waits."""
        times = [max(one.drawn + one.every, self._rest_until) for one in those if one.waits]
        return max(min(times) - now, SOON_S) if times else None
