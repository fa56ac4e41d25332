"""The clocks of one viewer: how fast a replay goes, and how far behind live it follows. Pure."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

import msgspec

from dashboard.live.news import News, Row
from schemas.live import LiveFrame

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)
"""The keys 1 to 9."""
DELAYS = {"0": "none", "0.5": "0.5 s", "2": "2 s"}
"""The address's `behind` → its words."""
IDLE_S = 3.0
"""Seconds of waiting; a longer pause is skipped, and the page says so."""

T = TypeVar("T")


class Pace:
    """Event time against the viewer's own. Event times are in µs, the viewer's in seconds."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._event, self._own = 0, 0.0

    def start(self, event: int, now: float) -> None:
        """Play on from an event time."""
        self._event, self._own = event, now

    def at(self, now: float) -> int:
        """The event time that is reached."""
        return self._event + int((now - self._own) * self.speed * 1_000_000)

    def change(self, speed: float, now: float) -> None:
        """Go on from here at another speed."""
        self.start(self.at(now), now)
        self.speed = speed

    def skip(self, event: int, now: float) -> int:
        """Jump to the next event where it would be waited for too long; returns the µs that were skipped."""
        pause = event - self.at(now)
        if pause <= IDLE_S * self.speed * 1_000_000:
            return 0
        self.start(event, now)
        return pause


class Delayed:
    """Holds live news until `seconds` after they happened, so that they come as evenly as they were made."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._steps: deque[tuple[float, Row]] = deque()
        self._episodes: deque[tuple[float, Row]] = deque()
        self._frames: deque[tuple[float, LiveFrame]] = deque()
        self._late = 0.0
        """How much later than its event time a step comes here, at most, in seconds."""

    def put(self, news: News, now: float) -> News:
        """Keep what an agent did; returns the rest, which is shown at once."""
        if news.steps:
            self._late = max(self._late * 0.99, now - news.steps[-1].record.event_time / 1e6)
        self._steps.extend((self._due(step.record.event_time), step) for step in news.steps)
        self._episodes.extend((self._due(one.record.event_time), one) for one in news.episodes)
        if news.frame is not None:
            self._frames.append((self._due(news.frame.event_time), news.frame))
        return msgspec.structs.replace(news, steps=[], episodes=[], frame=None)

    def take(self, now: float, agent: str | None) -> News | None:
        """What is due; None: nothing."""
        steps, episodes, frames = (_due(held, now) for held in (self._steps, self._episodes, self._frames))
        if not (steps or episodes or frames):
            return None
        return News(agent=agent, steps=steps, episodes=episodes, frame=frames[-1] if frames else None)

    def _due(self, at: int) -> float:
        return at / 1e6 + self._late + self.seconds


def _due(held: deque[tuple[float, T]], now: float) -> list[T]:
    found = []
    while held and held[0][0] <= now:
        found.append(held.popleft()[1])
    return found
