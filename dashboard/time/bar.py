"""What a time bar shows of one viewer: the axis, where he stands on it, and what stands beside it."""

from __future__ import annotations

from dashboard.live.news import Clock
from dashboard.time import axis as axes
from dashboard.time import marks
from dashboard.time.axis import Span
from dashboard.time.moves import Loop
from dashboard.time.past import Past, Place


class Bar:
    """Remembers what was drawn last, so that it is drawn again only where more is known."""

    def __init__(self) -> None:
        self._drawn: tuple[object, ...] = ()

    async def fill(
        self, clock: Clock, past: Past, agent_id: str, place: Place | None, *, loop: Loop | None, zoom: float
    ) -> None:
        """Fill in the axis, and where a viewer stands on it; None: at the newest.

        Raises:
            DatabaseError: SQL does not answer.
        """
        await past.read(lambda: _fill(clock, past, agent_id, place, loop=loop, zoom=zoom))
        window = (clock.low, clock.high)
        drawn = (past.generation, clock.axis, agent_id, window if zoom > 1 else None)
        if clock.axes and drawn != self._drawn:
            self._drawn = drawn
            clock.drawing = await marks.drawing(past, clock.axis, window, agent_id)


def _fill(
    clock: Clock, past: Past, agent_id: str, place: Place | None, *, loop: Loop | None, zoom: float
) -> None:
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
    clock.low, clock.high = axes.zoomed(whole, clock.value, zoom)
    clock.newest = whole[1]
    if loop is not None:
        end = axes.value(history, clock.axis, loop.stop) if loop.stop else whole[1]
        clock.loop = (axes.value(history, clock.axis, loop.start), end)
