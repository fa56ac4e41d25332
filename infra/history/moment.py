"""Everything of a run at one moment: what a page shows of the past, and the API gives.

    history = History(settings, run_id)
    history.state(parse_position("episode:7+20"), agent_id)   # counters, returns, newest steps

A moment is told from the same rows and by the same fold as the live page's present.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.history.index import Cut, Moment
from infra.history.items import Item, Records
from infra.history.reader import RunReader
from infra.history.sql_source import SqlSource
from infra.settings import Settings
from schemas.codec import Record, checked_in
from schemas.errors import StepstreamError
from schemas.fold import AgentState, Fold, RunState
from schemas.positions import Position
from schemas.topics import Kind

NEWEST_STEPS = 100

Point = tuple[float, float]


@dataclass(frozen=True)
class State:
    """An agent of a run at a moment."""

    moment: Moment | None
    """Time (µs), stream and line of the last record; None: nothing had happened."""
    step: int
    """Steps of the whole run so far."""
    run: RunState
    agent: AgentState | None
    returns: list[Point] = field(default_factory=list)
    """Episode index (its number, where it has none) and return of each finished episode, NaN left out."""
    steps: list[Record] = field(default_factory=list)
    """The agent's newest steps, oldest first."""


class History:
    """Reads the past of one run from SQL.

    Args:
        settings: which database.
        run_id: the run.

    Raises:
        StepstreamError: SQL does not know the run.
        DatabaseError: SQL does not answer.
    """

    def __init__(self, settings: Settings, run_id: str) -> None:
        self._run_id = run_id
        self._sql = SqlSource(settings, run_id)
        self._reader = RunReader(settings, run_id, checked_in, self._sql, kafka=False)
        self._records = Records(run_id, checked_in)
        if not self._reader.facts.known:
            self.close()
            raise StepstreamError(
                f"SQL does not know a run {run_id!r}: `stepstream runs list` names those it has."
            )

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()

    def state(self, position: Position, agent_id: str, newest: int = NEWEST_STEPS) -> State:
        """The run and an agent when the record at a position had happened.

        Raises:
            OutsideError: the run has no such place; the sentence says what it has.
        """
        index, finder = self._reader.index, self._reader.finder(agent_id)
        finder.start(position)  # an end may lie ahead of what is there, a moment may not
        cut = finder.stop(position)
        fold, returns = Fold(), list[Point]()
        first = index.moment(dict.fromkeys(index.streams, 0), index.streams)
        run = fold.runs[self._run_id] = RunState(self._run_id, started_at=first[0] if first else None)
        for item in self._told(cut):
            record = self._records(item)
            fold.add(item.kind, record, item.time)
            if item.kind is Kind.EPISODES and item.agent_id == agent_id:
                _add_return(returns, record)
        for kind in (Kind.STEPS, Kind.METRICS, Kind.LOGS, Kind.DLQ):
            setattr(run, str(kind.table), self._sql.count(kind, cut))
        around = self._reader.items(finder.steps_back(cut, newest), cut)
        steps = [item for item in around if item.kind is Kind.STEPS and item.agent_id == agent_id]
        return State(
            index.last_moment(cut, index.streams),
            index.steps_before(cut),
            run,
            self._agent_state(fold, agent_id, cut),
            returns,
            [self._records(item) for item in steps],
        )

    def _told(self, cut: Cut) -> Iterator[Item]:
        """What a fold needs in full; of all else it only counts."""
        for kind in (Kind.RUNS, Kind.EPISODES):
            yield from self._sql.of_kind(kind, cut)

    def _agent_state(self, fold: Fold, agent_id: str, cut: Cut) -> AgentState | None:
        steps, metrics = (self._sql.count(kind, cut, agent_id) for kind in (Kind.STEPS, Kind.METRICS))
        agent = fold.agents.get((self._run_id, agent_id))
        if agent is None and (steps or metrics):
            agent = AgentState(self._run_id, agent_id, 0, 0)
        if agent is not None:
            agent.steps, agent.metrics = steps, metrics
        return agent


def _add_return(points: list[Point], record: dict[str, Any]) -> None:
    value, number = record["episode_return"], record["episode_index"]
    if value is not None and math.isfinite(value):
        points.append((float(len(points) if number is None else number), value))
