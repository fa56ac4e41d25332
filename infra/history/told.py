"""What a run's events and episodes tell, in memory: the state of a run at any moment is folded from there."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping
from copy import copy
from typing import Any

from infra.history.items import Records
from infra.history.sql_source import SqlSource
from schemas.fold import Fold, RunState
from schemas.seek_points import BLOCK
from schemas.topics import Kind

EVERY = 256
"""Records between two states that are kept, from which a fold goes on."""
FIELDS = ("run_id", "stream_id", "agent_id", "seq", "event_time", "extras", "episode_index", "episode_return")
"""Of an episode, what a fold and a curve read."""
KINDS = (Kind.RUNS, Kind.EPISODES)

Point = tuple[float, float]
"""x and y."""


class Stream:
    """One stream's records, by line, and the fold behind each `EVERY` of them."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.records: list[tuple[Kind, dict[str, Any]]] = []
        self.folds: list[Fold] = [Fold()]
        self.curves: dict[str, tuple[list[int], list[Point]]] = {}
        """By agent the lines of its episodes that have a return, and the points."""

    def cut(self, seq: int) -> None:
        """Forget the lines from this one on."""
        at = bisect_left(self.seqs, seq)
        del self.seqs[at:], self.records[at:], self.folds[at // EVERY + 1 :]
        for seqs, points in self.curves.values():
            del points[bisect_left(seqs, seq) :], seqs[bisect_left(seqs, seq) :]

    def add(self, kind: Kind, record: dict[str, Any]) -> None:
        """Take the next record."""
        if self.seqs and len(self.seqs) % EVERY == 0 and len(self.folds) == len(self.seqs) // EVERY:
            self.folds.append(self.fold(self.seqs[-1] + 1))
        self.seqs.append(record["seq"])
        self.records.append((kind, record))
        if kind is Kind.EPISODES:
            seqs, points = self.curves.setdefault(record["agent_id"], ([], []))
            found = point_of(record, len(points))
            points += found
            seqs += [record["seq"]] * len(found)

    def fold(self, behind: int) -> Fold:
        """The state when the lines before this one had happened."""
        at = bisect_left(self.seqs, behind)
        number = min(at // EVERY, len(self.folds) - 1)
        made = Fold()
        made.runs = {key: copy(run) for key, run in self.folds[number].runs.items()}
        made.agents = {key: copy(agent) for key, agent in self.folds[number].agents.items()}
        for kind, record in self.records[number * EVERY : at]:
            made.add(kind, record, record["event_time"])
        return made


class Told:
    """Of a whole run.

    Args:
        sql: where it is read.
        records: items as records.
    """

    def __init__(self, sql: SqlSource, records: Records) -> None:
        self._sql, self._records = sql, records
        self.streams: dict[str, Stream] = {}

    def learn(self, stream: str, first: int, behind: int) -> None:
        """Read a stream anew from a line on."""
        known = self.streams.setdefault(stream, Stream())
        known.cut(first)
        items = [item for kind in KINDS for item in self._sql.between(kind, stream, first, behind)]
        for item in sorted(items, key=lambda item: item.seq):
            record = self._records(item)
            if item.kind is Kind.EPISODES:
                record = {name: record[name] for name in FIELDS}
            known.add(item.kind, record)

    def fold(self, cut: Mapping[str, int], agent_id: str, run: RunState) -> Fold:
        """The state of a run, and of one agent, before a cut. `run`: what is known before any record."""
        fold = Fold()
        fold.runs[run.run_id] = run
        for stream, behind in cut.items():
            if (known := self.streams.get(stream)) is not None:
                part = known.fold(behind)
                part.agents = {key: agent for key, agent in part.agents.items() if key[1] == agent_id}
                fold.merge(part)
        return fold

    def returns(self, cut: Mapping[str, int], agent_id: str) -> list[Point]:
        """Episode (its number, where it has none) and return of an agent's episodes before a cut."""
        points: list[Point] = []
        for stream, behind in cut.items():
            known = self.streams.get(stream)
            if known is not None and agent_id in known.curves:
                seqs, found = known.curves[agent_id]
                points += found[: bisect_left(seqs, behind)]
        return points


class Counts:
    """How many records of a kind an agent has before a line: counted on from the nearest known line."""

    def __init__(self, sql: SqlSource) -> None:
        self._sql = sql
        self._known: dict[tuple[Kind, str, str], list[tuple[int, int]]] = {}

    def before(self, kind: Kind, stream: str, behind: int, agent_id: str) -> int:
        """Of lines of one stream."""
        known = self._known.setdefault((kind, stream, agent_id), [(0, 0)])
        seq, count = known[bisect_left(known, (behind, math.inf)) - 1]
        count += self._sql.count(kind, stream, seq, behind, agent_id)
        if behind - seq > BLOCK:
            insort(known, (behind, count))
        return count

    def forget(self, stream: str, first: int) -> None:
        """The lines from this one on may be others now."""
        for (_, of_stream, _), known in self._known.items():
            if of_stream == stream:
                del known[max(1, bisect_left(known, (first, math.inf))) :]


def point_of(record: Mapping[str, Any], number: int) -> list[Point]:
    """An episode's point, if it has a return; `number` stands for an index that is missing."""
    value, index = record["episode_return"], record["episode_index"]
    if value is None or not math.isfinite(value):
        return []
    return [(float(number if index is None else index), value)]
