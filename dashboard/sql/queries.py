"""The dashboard's reads from SQL. Asynchronous: every statement runs in a thread, with a time limit.

    queries = Queries(settings)
    page = await queries.runs(PageRequest.of(request))      # {"rowData": page.rows, "rowCount": page.total}
    header = await queries.run(run_id)
    curve = await queries.minmax(Series(run_id, "metrics", "train/loss"), pixels=800)
    page = await queries.steps(run_id, agent_id, PageRequest(start, end))

Every method raises DatabaseError (no tables, no answer, too slow); a page also UsageError (a bad filter).
Moments are ms since 1970 (UTC).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from math import inf
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from dashboard.live.shared import Shared
from dashboard.sql import rollout, rollouts, runs, steps
from dashboard.sql.page import Page, PageRequest
from dashboard.sql.rollouts import Chosen, Key
from dashboard.sql.runs import RunHeader
from dashboard.sql.seek_index import SeekIndexes
from dashboard.sql.steps import FramePlace, StepPlace
from infra.history.curves import ROLLING, Curve, Smoothing
from infra.history.series import PIXELS, Series, SeriesReader
from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql.beside import Beside
from infra.sql.columns import Source, names
from infra.sql.offsets import stored_offsets
from infra.sql.reading import LONGEST_S, reading
from schemas.topics import Partition

__all__ = ["Curve", "FramePlace", "Page", "PageRequest", "Queries", "RunHeader", "Series", "StepPlace"]

P = ParamSpec("P")
T = TypeVar("T")

PLAIN = Smoothing()
FRESH_S = 0.2
NAMES_S, MOST_NAMES = 2.0, 1000
"""Names of numbers are not read again so soon, of so many runs and agents: every page asks for them."""


class Queries:
    """Reads of both kinds of database. One per process; its methods may run side by side.

    Args:
        settings: where the database is.
        seconds: what one question may take.
    """

    def __init__(self, settings: Settings, seconds: float = LONGEST_S) -> None:
        self._seconds = seconds
        self._engine = sql.engine(settings)
        self._indexes = SeekIndexes()
        self._names: dict[tuple[str, Source, str | None], tuple[float, list[str]]] = {}
        """When they were read. No `Shared`: users' panels ask from threads, whose event loops are others."""
        self._beside = Beside(settings, seconds)
        self._series = SeriesReader(self._read, self._beside.ask)
        self.training_steps: Shared[list[dict[str, Any]]] = Shared(self._training_steps, FRESH_S)
        """A run's rows of `training_steps` in order: all pages share one reading."""

    def close(self) -> None:
        """Close the connections."""
        self._series.close()
        self._beside.close()
        self._engine.dispose()

    async def runs(self, request: PageRequest) -> Page:
        """Runs by any column of `runs`, the newest first; further keys: `agents`, `mean_return`."""
        return await self._ask(runs.listed, request)

    async def run(self, run_id: str) -> RunHeader | None:
        """The head of a run; None where SQL does not know it (yet)."""
        return await self._ask(runs.header, run_id)

    async def attempts(self, run_id: str) -> list[dict[str, Any]]:
        """A run's attempts, the first one first. Keys: those of `infra.sql.attempts.Attempt`."""
        return await self._ask(runs.attempts, run_id)

    async def agents(self, run_id: str) -> list[dict[str, Any]]:
        """A run's agents by id: the columns of `agents`."""
        return await self._ask(runs.agents, run_id)

    async def stored_steps(self, run_id: str, agent_id: str) -> int:
        """How many steps of one agent are there."""
        return await self._ask(runs.stored_steps, run_id, agent_id)

    async def return_curve(self, run_id: str, agent_id: str, points: int = 2000) -> Curve:
        """Return per episode of an agent over the whole run; x is the episode's index, or its number."""
        series = Series(run_id, "episodes", "episode_return", agent_id, "episode")
        return await self.minmax(series, pixels=points // 2, smoothing=Smoothing("mean", ROLLING))

    async def newest_returns(self, run_id: str) -> list[float]:
        """Returns of a run's newest hundred episodes, oldest first, all agents together."""
        return await self._ask(runs.newest_returns, run_id)

    async def learning_curve(self, run_id: str, points: int = 40) -> list[float]:
        """Mean returns of so many parts of a run, all agents together: a sparkline."""
        return await self._ask(runs.learning_curve, run_id, points)

    async def tags(self, run_id: str) -> list[str]:
        """Tags that the run was started with."""
        return await self._ask(runs.tags, run_id)

    async def episodes(
        self, run_id: str, agent_id: str | None, request: PageRequest, episode_index: int | None = None
    ) -> Page:
        """Episodes (or those of one index), the newest first. Keys: `rows.episode_row`."""
        return await self._ask(steps.episodes, self._indexes, (run_id, agent_id, episode_index), request)

    async def steps(
        self,
        run_id: str,
        agent_id: str | None,
        request: PageRequest,
        episode_index: int | None = None,
        *,
        full: bool = False,
    ) -> Page:
        """Steps (or those of one episode), the newest first. Keys: `rows.step_row`.

        Long texts are cut unless `full`; `cut` says so.
        """
        return await self._ask(steps.steps, self._indexes, (run_id, agent_id, episode_index), request, full)

    async def episode_steps(self, run_id: str, agent_id: str, episode_index: int) -> list[dict[str, Any]]:
        """The steps of one episode in order, at most 20,000."""
        return await self._ask(steps.episode_steps, run_id, agent_id, episode_index)

    async def first_observations(self, run_id: str, agent_id: str) -> dict[str, int]:
        """What episodes began with, and for each the first episode that did: at most 10,000."""
        return await self._ask(steps.first_observations, run_id, agent_id)

    async def step(self, run_id: str, stream_id: str, seq: int) -> dict[str, Any] | None:
        """One step with its texts in full."""
        return await self._ask(steps.step, run_id, stream_id, seq)

    async def step_beside(
        self, run_id: str, stream_id: str, seq: int, *, after: bool
    ) -> dict[str, Any] | None:
        """The step before or after a step, in full; None at the end of its episode."""
        return await self._ask(steps.step_beside, run_id, stream_id, seq, after)

    async def step_of_episode(
        self, run_id: str, agent_id: str, episode_index: int, step_index: int | None = None
    ) -> dict[str, Any] | None:
        """A step of an episode by its number, in full; without one the episode's first."""
        return await self._ask(steps.step_of_episode, run_id, agent_id, episode_index, step_index)

    async def step_place(self, run_id: str, stream_id: str, seq: int) -> StepPlace | None:
        """Whose a step is, and where it lies on Kafka."""
        return await self._ask(steps.step_place, run_id, stream_id, seq)

    async def frames_around(
        self, run_id: str, stream_id: str, step: StepPlace, before: int = 1
    ) -> list[FramePlace]:
        """Where the newest pictures of a step's episode at or before it lie, and the next, in order."""
        return await self._ask(steps.frames_around, run_id, stream_id, step, before)

    async def latest(self, series: Series, count: int) -> Curve:
        """The newest points of a series, oldest first."""
        return await self._series.latest(series, count)

    async def minmax(
        self,
        series: Series,
        begin: float | None = None,
        end: float | None = None,
        pixels: int = PIXELS,
        smoothing: Smoothing = PLAIN,
    ) -> Curve:
        """A series from `begin` to `end` of its axis: of each of so many pixels the least and the most."""
        return await self._series.minmax(series, begin, end, pixels, smoothing)

    def points(self, series: Series) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Every point of a series in pages: step, episode, ms since 1970, value."""
        return self._series.points(series)

    async def names(self, run_id: str, source: Source, agent_id: str | None = None) -> list[str]:
        """Names of the numbers in `metrics` of a run's (an agent's) rows, as the first and newest tell."""
        asked = (run_id, source, agent_id)
        read_at, found = self._names.get(asked, (-inf, []))
        if time.monotonic() - read_at > NAMES_S:
            if len(self._names) >= MOST_NAMES:
                self._names.clear()
            found = await self._ask(names, run_id, agent_id, source)
            self._names[asked] = time.monotonic(), found
        return found

    async def before(self, run_id: str) -> dict[str, Any] | None:
        """The columns of the run that began before a run, of its project and environment if there is one."""
        return await self._ask(runs.before, run_id)

    async def logs(self, run_id: str, request: PageRequest) -> Page:
        """The run's log, the newest line first. Keys: `rows.log_row`."""
        return await self._ask(steps.logs, self._indexes, run_id, request)

    async def dead_letters(self, run_id: str, request: PageRequest) -> Page:
        """The run's dead letters, the newest first. Keys: `rows.dead_letter_row`."""
        return await self._ask(steps.dead_letters, self._indexes, run_id, request)

    async def reasons(self, run_id: str | None = None) -> dict[str, int]:
        """How many dead letters have each reason, the most first; of a run, or of all."""
        return await self._ask(steps.reasons, run_id)

    async def unstored(self, ends: Mapping[Partition, int]) -> int:
        """How many records before these offsets of Kafka are not stored."""
        stored = await self._ask(stored_offsets, {partition.topic for partition in ends})
        return sum(max(end - stored.get(partition, 0), 0) for partition, end in ends.items())

    async def _training_steps(self, run_id: str) -> list[dict[str, Any]]:
        return await self._ask(rollouts.training_steps, run_id)

    async def rollouts(self, chosen: Chosen, request: PageRequest) -> Page:
        """Rollouts, the newest training step first. Keys: `rollouts.NAMES`, and `rewards/FUNCTION`."""
        return await self._ask(rollouts.listed, self._indexes, chosen, request)

    async def rollout(self, run_id: str, key: Key) -> dict[str, Any] | None:
        """One rollout with its texts in full; not its tokens."""
        return await self._ask(rollout.rollout, run_id, key)

    async def siblings(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The samples of a rollout's group, itself among them."""
        return await self._ask(rollout.siblings, row)

    async def rollout_beside(
        self, chosen: Chosen, request: PageRequest, key: Key
    ) -> tuple[Key | None, Key | None]:
        """The rollouts before and after one in a list."""
        return await self._ask(rollout.beside, chosen, request, key)

    async def has_tokens(self, run_id: str, key: Key) -> bool:
        """Whether a rollout has token arrays."""
        return await self._ask(rollout.has_tokens, run_id, key)

    async def tokens(self, run_id: str, key: Key) -> dict[str, list[Any]]:
        """A rollout's token arrays by name."""
        return await self._ask(rollout.tokens, run_id, key)

    async def _ask(
        self, read: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await asyncio.to_thread(lambda: self._read(read, *args, **kwargs))

    def _read(self, read: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with reading(self._engine, self._seconds) as connection:
            return read(connection, *args, **kwargs)
