"""Positions, as users write them, as cuts through a run: by stream, where to begin or to end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from infra.history.index import Cut, Index, Line, Moment
from schemas import positions as at
from schemas.errors import StepstreamError, UsageError
from schemas.positions import EPOCH, Position
from schemas.topics import Kind

Extreme = Callable[[bool, str | None], tuple[str, int] | None]


class OutsideError(StepstreamError):
    """A position that the run does not have (yet)."""


@dataclass
class Finder:
    """Finds positions in one run.

    Args:
        index: of the run.
        extreme: stream and line of the best (True) or worst finished episode, of an agent or of all.
        topic_prefix: for sentences.
        agent_id: episodes and steps that are counted from a position are this agent's.
    """

    index: Index
    extreme: Extreme
    topic_prefix: str
    agent_id: str | None = None
    partitions: Callable[[Kind], list[int]] = lambda kind: []
    """A topic's partitions, where Kafka was asked."""

    def start(self, position: Position) -> Cut:
        """Where each stream begins, for a part that begins here.

        Raises:
            OutsideError: the run has no such place; the sentence says what it has.
        """
        if position.steps:
            return self.index.cut(self._shifted(position))
        return self._start(position.anchor)

    def stop(self, position: Position) -> Cut:
        """Where each stream ends, for a part that ends here, this place included: the lines behind it."""
        if position.steps:
            return self.index.cut(self._shifted(position), behind=True)
        return self._stop(position.anchor)

    def _start(self, anchor: at.Anchor) -> Cut:
        index = self.index
        match anchor:
            case at.Beginning():
                cut = dict.fromkeys(index.streams, 0)
            case at.End():
                cut = index.ends()
            case at.Seq(number):
                cut = self._with_meta(dict.fromkeys(index.workers, number), anchor)
            case at.Episode(number):
                cut = self._with_meta(self._first_of_episode(number), anchor)
            case at.Time(micros):
                cut = {stream: index.first_at_time(stream, micros) for stream in index.streams}
                self._found(cut, anchor)
            case at.Ago(micros):
                cut = self._start(at.Time(index.newest_time - micros))
            case at.Named():
                stream, first, _ = self._named(anchor)
                cut = index.cut((first.time, stream, first.seq))
            case at.Offset() | at.Step():
                cut = index.cut(self._moment(anchor, first=True))
        return cut

    def _stop(self, anchor: at.Anchor) -> Cut:
        index = self.index
        match anchor:
            case at.Beginning():
                moment = index.moment(self._start(anchor), index.streams)
                cut = index.cut(moment, behind=True) if moment else index.ends()
            case at.End():
                cut = index.ends()
            case at.Seq(number):
                cut = self._meta_before(dict.fromkeys(index.workers, number + 1))
            case at.Episode(number):
                cut = self._meta_before(self._first_of_episode(number + 1))
            case at.Time(micros):
                cut = {stream: index.first_at_time(stream, micros + 1) for stream in index.streams}
            case at.Ago(micros):
                cut = self._stop(at.Time(index.newest_time - micros))
            case at.Named():
                stream, _, last = self._named(anchor)
                cut = index.cut((last.time, stream, last.seq), behind=True)
            case at.Offset() | at.Step():
                cut = index.cut(self._moment(anchor, first=False), behind=True)
        return cut

    def _first_of_episode(self, number: int) -> Cut:
        return {name: self.index.first_at_episode(name, number, self.agent_id) for name in self.index.workers}

    def _moment(self, anchor: at.Anchor, *, first: bool) -> Moment:
        match anchor:
            case at.Offset(kind, partition, offset):
                self._check(anchor)
                find = self.index.first_at_offset if first else self.index.last_at_offset
                found = find(kind, partition, offset)
            case at.Step(number):
                found = self.index.step(number)
            case _:
                found = None
        if found is None:
            raise self._outside(anchor)
        return found

    def _shifted(self, position: Position) -> Moment:
        """The step that lies so many steps before or behind the first step at a position."""
        start = self._start(position.anchor)
        if self.agent_id is None:
            found = self.index.step(self.index.steps_before(start) + position.steps)
        elif position.steps > 0:
            found = self._nth(start, position.steps)
        else:
            found = self._nth_before(start, -position.steps)
        if found is None:
            raise self._outside(position)
        return found

    def _nth(self, start: Cut, number: int) -> Moment | None:
        for moment, line in self.index.lines(start):
            if line.kind is Kind.STEPS and line.agent_id == self.agent_id:
                if number == 0:
                    return moment
                number -= 1
        return None

    def _nth_before(self, start: Cut, number: int) -> Moment | None:
        found: list[Moment] = []
        back, steps = number, self.index.steps_before(start)
        while len(found) < number:
            from_step = max(0, steps - back)
            first = self.index.step(from_step)
            if first is None:
                return None
            found = [
                moment
                for moment, line in self.index.lines(self.index.cut(first), start)
                if line.kind is Kind.STEPS and line.agent_id == self.agent_id
            ]
            if from_step == 0:
                break
            back *= 2
        return found[-number] if len(found) >= number else None

    def _named(self, anchor: at.Named) -> tuple[str, Line, Line]:
        """Stream, first and last line of an episode: `best`, `worst` or `latest`."""
        if anchor.word == "latest":
            newest = self.index.last_step(self.agent_id)
            if newest is None:
                raise OutsideError(f"The run has no steps, so it has no episode {anchor}.")
            stream, line = newest
        else:
            episode = self.extreme(anchor.word == "best", self.agent_id)
            at_line = self.index.line(*episode) if episode else None
            if episode is None or at_line is None:
                raise OutsideError(f"The run has no finished episode with a return, so it has no {anchor}.")
            stream, line = episode[0], at_line
        if line.own_episode is None:
            return stream, line, line
        ends = self.index.episode(stream, line.agent_id, line.own_episode)
        return (stream, *ends) if ends else (stream, line, line)

    def _with_meta(self, cut: Cut, anchor: at.Anchor) -> Cut:
        """Lines and episodes are counted in workers' streams; the others begin with the first of them."""
        self._found(cut, anchor)
        first = self.index.moment(cut, cut)
        assert first is not None
        return self.index.cut(first) | cut

    def _meta_before(self, cut: Cut) -> Cut:
        last = self.index.last_moment(cut, cut)
        if last is None:
            return dict.fromkeys(self.index.streams, 0) | cut
        return self.index.cut(last, behind=True) | cut

    def _found(self, cut: Cut, anchor: at.Anchor) -> Cut:
        if self.index.moment(cut, cut) is None:
            raise self._outside(anchor)
        return cut

    def _check(self, anchor: at.Offset) -> None:
        """Raise where the run has nothing at this offset: where it has, is said."""
        topic = anchor.kind.topic(self.topic_prefix)
        here = {part: ends for (kind, part), ends in self.index.offset_ranges.items() if kind is anchor.kind}
        there = self.partitions(anchor.kind)
        if there and anchor.partition not in there:
            raise UsageError(f"{topic} has the partitions 0 to {max(there)}; there is no {anchor.partition}.")
        if anchor.partition not in here:
            others = " and ".join(
                f"partition {p} at {a} to {b}" for p, (a, b) in sorted(here.items()) if p >= 0
            )
            has = f"it has {others}" if others else "it has none in this topic"
            raise OutsideError(f"Partition {anchor.partition} of {topic} has no record of the run: {has}.")
        low, high = here[anchor.partition]
        if not low <= anchor.offset <= high:
            raise OutsideError(
                f"Partition {anchor.partition} of {topic} holds the offsets {low} to {high} of the run: "
                f"{anchor.offset} is outside."
            )

    def _outside(self, position: at.Anchor | Position) -> OutsideError:
        return OutsideError(f"Nothing of the run lies at {position}: it holds {self.holds()}.")

    def holds(self) -> str:
        """What the run has, in words."""
        index = self.index
        workers = [name for name in index.workers if index.streams[name].numbers]
        if not workers:
            return "no lines"
        begin, end = min(map(index.begin, workers)), max(map(index.end, workers)) - 1
        said = [f"lines {begin} to {end}"]
        episodes = [
            index.streams[name].episodes[-1] for name in workers if index.streams[name].episodes[-1] >= 0
        ]
        if episodes:
            said.append(f"episodes {self._first_episode(workers)} to {max(episodes)}")
        if index.steps:
            said.append(f"steps 0 to {index.steps - 1}")
        first = index.moment(dict.fromkeys(workers, 0), workers)
        times = (first[0] if first else 0, max(index.streams[name].times[-1] for name in workers))
        return ", ".join(said) + f", times {_time(times[0])} to {_time(times[1])}"

    def _first_episode(self, workers: Iterable[str]) -> int:
        firsts = ((name, self.index.first_at_episode(name, 0)) for name in workers)
        lines = (self.index.line(name, seq) for name, seq in firsts if seq < self.index.end(name))
        return min(line.episode for line in lines if line)


def _time(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")
