"""What a time bar shows of one viewer: the axis, where he stands on it, and what stands beside it."""

from __future__ import annotations

from typing import Literal

from dashboard.address import Address
from dashboard.live.news import Clock
from dashboard.time import axis as axes
from dashboard.time import marks
from dashboard.time.axis import Span
from dashboard.time.moves import Loop
from dashboard.time.past import Past, Place
from dashboard.time.words import number


class Bar:
    """One viewer's.

    Args:
        viewer: what `follow=` names him by.
    """

    def __init__(self, viewer: str) -> None:
        self.viewer = viewer
        self.loop: Loop | None = None
        self._zoom = 0.0
        self._drawn: tuple[object, ...] = ()
        """What was drawn last, so that it is drawn again only where more is known."""

    def clock(self, state: Literal["live", "paused", "replay"], speed: float, address: Address) -> Clock:
        """What an address asks for, to be filled."""
        self._zoom = number(address.get("zoom"))
        return Clock(state, axes.chosen(address), speed=speed, viewer=self.viewer)

    def fill(self, clock: Clock, past: Past, agent_id: str, place: Place | None) -> None:
        """Fill in the axis, and where a viewer stands on it; None: at the newest. Reads from SQL."""
        history = past.history
        spans = {name: axes.span(history, name, agent_id) for name in axes.AXES}
        clock.axes = tuple(name for name, span in spans.items() if span is not None)
        if not clock.axes:
            return
        clock.axis = clock.axis if clock.axis in clock.axes else "step"
        whole: Span = spans[clock.axis] or (0.0, 0.0)
        here = place or past.place(history.index.ends(), agent_id)
        clock.value = axes.value(history, clock.axis, here)
        clock.words = axes.spoken(clock.axis, clock.value)
        clock.low, clock.high = axes.zoomed(whole, clock.value, self._zoom)
        clock.newest = whole[1]
        if self.loop is not None:
            end = axes.value(history, clock.axis, self.loop.stop) if self.loop.stop else whole[1]
            clock.loop = (axes.value(history, clock.axis, self.loop.start), end)

    async def draw(self, clock: Clock, past: Past, agent_id: str, *, waits: bool) -> None:
        """Add what stands on the bar, where it is other than before.

        Args:
            clock: filled.
            waits: it may come later, where only more of the run is known.

        Raises:
            DatabaseError: SQL does not answer.
        """
        window = (clock.low, clock.high)
        drawn = (past.generation, clock.axis, agent_id, window if self._zoom > 1 else None)
        is_same = drawn[1:] == self._drawn[1:] if waits else drawn == self._drawn
        if clock.axes and not is_same:
            self._drawn = drawn
            clock.drawing = await marks.drawing(past, clock.axis, window, agent_id)
