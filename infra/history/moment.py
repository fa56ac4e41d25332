"""Everything of a run at one moment: what a page shows of the past, and the API gives.

    history = History(settings, run_id)
    history.state(parse_position("episode:7+20"), agent_id)   # counters, returns, newest steps

A moment is told from the same rows and by the same fold as the live page's present.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import finalize

from infra.history.finder import Finder
from infra.history.index import Cut, Index, Line, Moment
from infra.history.items import Item, Records
from infra.history.reader import RunReader
from infra.history.sql_source import SqlSource
from infra.history.told import Counts, Point, Told
from infra.settings import Settings
from schemas.codec import Record, checked_in
from schemas.errors import StepstreamError
from schemas.fold import AgentState, Fold, RunState
from schemas.positions import Position
from schemas.topics import META_SUFFIX, Kind

NEWEST_STEPS = 100

COUNTED = (Kind.STEPS, Kind.METRICS, Kind.LOGS, Kind.DLQ)
"""Kinds of which a fold knows only the number; the others are told in full."""


class FramePlace(NamedTuple):
    """Where a picture lies in the topic of frames."""

    stream_id: str
    seq: int
    partition: int
    offset: int


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
    frame: FramePlace | None = None
    """Of the agent's newest picture."""


class History:
    """Reads the past of one run from SQL. Threads take turns. It is closed when nobody has it any longer.

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
        self.close = finalize(self, self._reader.close)
        """Gives the connection back."""
        self._records = Records(run_id, checked_in)
        self.lock = threading.RLock()
        """Held while something is read: there is one connection."""
        if not self._reader.facts.known:
            self.close()
            raise StepstreamError(
                f"SQL does not know a run {run_id!r}: `stepstream runs list` names those it has."
            )
        self.told = Told(self._sql, self._records)
        self._counts = Counts(self._sql)
        self._training: list[tuple[int, int]] | None = None
        self._learn(dict.fromkeys(self._reader.index.streams, 0))

    @property
    def index(self) -> Index:
        """Finds lines."""
        return self._reader.index

    def refresh(self) -> bool:
        """Read what came to SQL since; returns whether that is anything."""
        with self.lock:
            before, new = self.index, self._reader.refresh()
            self._learn(new)
            return self.index is not before

    def _learn(self, new: Cut) -> None:
        self._agents, self._training = self._sql.agents(), None
        ends = self.index.ends()
        for stream, first in new.items():
            self.told.learn(stream, first, ends[stream])
            self._counts.forget(stream, first)

    def finder(self, agent_id: str | None) -> Finder:
        """Finds positions; steps and episodes that are counted are an agent's."""
        return self._reader.finder(agent_id)

    def state(self, position: Position, agent_id: str, newest: int = NEWEST_STEPS) -> State:
        """The run and an agent when the record at a position had happened.

        Raises:
            OutsideError: the run has no such place; the sentence says what it has.
        """
        with self.lock:
            finder = self.finder(agent_id)
            finder.start(position)  # an end may lie ahead of what is there, a moment may not
            return self.state_at(finder.stop(position), agent_id, newest)

    def state_at(self, cut: Cut, agent_id: str, newest: int = NEWEST_STEPS) -> State:
        """The run and an agent when the lines before a cut had happened."""
        with self.lock:
            index, run_id = self.index, self._run_id
            first = index.moment(dict.fromkeys(index.streams, 0), index.streams)
            fold = self.told.fold(cut, agent_id, RunState(run_id, started_at=first[0] if first else None))
            run = fold.runs[run_id]
            for kind in COUNTED:
                setattr(run, kind.table, self.count(kind, cut))
            return State(
                index.last_moment(cut, index.streams),
                index.steps_before(cut),
                run,
                self._agent_state(fold, agent_id, cut),
                self.told.returns(cut, agent_id),
                [self._records(item) for item in self.newest(Kind.STEPS, cut, agent_id, newest)],
                self._frame(cut, agent_id),
            )

    def count(self, kind: Kind, cut: Cut, agent_id: str | None = None) -> int:
        """How many records of workers' lines (of an agent) lie before a cut."""
        total = 0
        for stream, behind in cut.items():
            if stream.endswith(META_SUFFIX) or not self.index.streams[stream].numbers:
                continue
            if agent_id is not None and self._agents != 1:
                total += self._counts.before(kind, stream, behind, agent_id)
            else:
                before, block = self.index.count(kind, stream, behind)
                total += before + self._sql.count(kind, stream, block, behind)
        return total

    def newest(self, kind: Kind, cut: Cut, agent_id: str, count: int) -> list[Item]:
        """An agent's last records of one kind before a cut, in replay's order."""
        found = [
            item
            for stream, behind in cut.items()
            for item in self._sql.newest(kind, stream, behind, agent_id, count)
        ]
        if len({item.stream_id for item in found}) > 1:
            found.sort(key=lambda item: (self._time(item), item.stream_id, item.seq))
        return found[-count:]

    def _time(self, item: Item) -> int:
        """The greatest event time of its stream so far."""
        line = self.index.line(item.stream_id, item.seq)
        return line.time if line is not None else item.time

    def between(self, start: Cut, stop: Cut, agent_id: str) -> Iterator[Item]:
        """An agent's records between two cuts, in replay's order."""
        return (item for item in self._reader.items(start, stop) if item.agent_id == agent_id)

    def record(self, item: Item) -> Record:
        """An item's fields."""
        return self._records(item)

    def extreme(self, *, best: bool, agent_id: str) -> tuple[float, str, Line] | None:
        """Return, stream and last line of the agent's best or worst episode."""
        found = self._sql.extreme_episode(best=best, agent_id=agent_id)
        line = self.index.line(*found[1:]) if found else None
        return (found[0], found[1], line) if found and line else None

    def dead_letters(self, most: int) -> list[tuple[str, int, int, str]]:
        """Stream, line, event time (µs) and reason of the newest that wait."""
        return self._sql.dead_letters(most)

    def training_steps(self) -> list[tuple[int, int]]:
        """The trainer's steps in order, each with the event time (µs) of its first rollout."""
        if self._training is None:
            self._training = self._sql.training_steps()
        return self._training

    def pictures(self, agent_id: str) -> tuple[str, int] | None:
        """Stream and partition of the agent's newest picture."""
        return self._sql.newest_frame(agent_id)

    def pictures_from(self, stream: str, agent_id: str, offset: int) -> list[tuple[int, int, int]] | None:
        """Line, event time (µs) and episode of the agent's first picture from an offset on, and its last."""
        return self._sql.frames_from(stream, agent_id, offset)

    def _frame(self, cut: Cut, agent_id: str) -> FramePlace | None:
        """The place of the agent's newest picture, in the stream of its newest step."""
        newest = self.newest(Kind.STEPS, cut, agent_id, 1)
        if not newest:
            return None
        stream = newest[0].stream_id
        found = self._sql.frame(stream, cut[stream], agent_id)
        return FramePlace(stream, *found) if found else None

    def _agent_state(self, fold: Fold, agent_id: str, cut: Cut) -> AgentState | None:
        steps, metrics = (self.count(kind, cut, agent_id) for kind in (Kind.STEPS, Kind.METRICS))
        agent = fold.agents.get((self._run_id, agent_id))
        if agent is None and (steps or metrics):
            agent = AgentState(self._run_id, agent_id, 0, 0)
        if agent is not None:
            agent.steps, agent.metrics = steps, metrics
        return agent
