"""What was before, for panels: read from SQL when it is asked for, sized for the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dashboard.sql.queries import PLAIN, Queries
from infra.history.curves import Axis, Curve, Smoothing
from infra.history.series import PIXELS, Series
from infra.sql.columns import Source

if TYPE_CHECKING:
    from dashboard.time.past import Pasts  # which knows panels


class History(Struct, frozen=True):
    """The history of the run that is looked at, and of the agent that is open.

    A series is named by its source (`steps`, `episodes` or `metrics`) and a name: a number that these carry
    under a name of their own, or a column, as `reward` of steps. Every method raises DatabaseError.
    """

    queries: Queries
    pasts: Pasts
    run_id: str
    agent_id: str | None = None

    async def latest(self, source: Source, name: str, count: int, axis: Axis = "step") -> Curve:
        """The newest points of a series, oldest first."""
        return await self.queries.latest(self._series(source, name, axis), count)

    async def minmax(
        self,
        source: Source,
        name: str,
        *,
        begin: float | None = None,
        end: float | None = None,
        pixels: int = PIXELS,
        axis: Axis = "step",
        smoothing: Smoothing = PLAIN,
    ) -> Curve:
        """A series from `begin` to `end` of its axis: of each of so many pixels the least and the most.

        With `smoothing`, `curve.mean_x` and `curve.mean` are the smoothed line, made of every point.
        """
        return await self.queries.minmax(self._series(source, name, axis), begin, end, pixels, smoothing)

    async def names(self, source: Source) -> list[str]:
        """Names of the numbers that the run's records (of steps and episodes: the agent's) carry."""
        return await self.queries.names(self.run_id, source, self._whose(source))

    async def episode(self, index: int) -> list[dict[str, Any]]:
        """The steps of one episode of the agent in order, at most 20,000."""
        if self.agent_id is None:
            return []
        return await self.queries.episode_steps(self.run_id, self.agent_id, index)

    def _series(self, source: Source, name: str, axis: Axis) -> Series:
        return Series(self.run_id, source, name, self._whose(source), axis)

    def _whose(self, source: Source) -> str | None:
        return None if source == "metrics" else self.agent_id
