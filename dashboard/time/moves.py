"""How a viewer moves: by a position, by a step, an episode, a training step."""

from __future__ import annotations

import math
from typing import NamedTuple

from dashboard.time import axis as axes
from dashboard.time.past import Past, Place
from infra.history.finder import OutsideError
from infra.history.index import Cut, Moment
from schemas import positions as at
from schemas.positions import Position, parse_position
from schemas.topics import Kind

NAMES = ("scrub", "go", "live", "play", "from", "to", "home", "step", "episode", "training")


class Move(NamedTuple):
    """A control's name, and its value: `go` a position; `step`, `episode`, `training` +1 or -1."""

    name: str
    value: str = ""

    @classmethod
    def of(cls, name: str, value: str) -> Move | None:
        """What a page said; None: that is no move."""
        if name not in NAMES:
            return None
        if name in ("scrub", "step", "episode", "training"):
            try:
                finite = math.isfinite(float(value))
            except ValueError:
                return None
            return cls(name, value) if finite else None
        return cls(name, value)


class Loop(NamedTuple):
    """A range that is played again and again; without a `stop` to the newest."""

    start: Place
    stop: Place | None = None

    @property
    def words(self) -> str:
        """As it stands in the address."""
        return f"{words(self.start)}..{words(self.stop) if self.stop else 'end'}"

    def is_over(self, place: Place) -> bool:
        """Whether a place is at its end."""
        return self.stop is not None and place.step >= self.stop.step

    @classmethod
    def of(cls, past: Past, text: str, agent_id: str) -> Loop | None:
        """A loop of the address; None: that is none.

        Raises:
            OutsideError: the run has no such place.
            UsageError: an end of it is no position.
        """
        start, dots, stop = text.partition("..")
        if not dots:
            return None
        ends = [
            None
            if word == "end"
            else past.place(axes.find(past.history, parse_position(word), agent_id), agent_id)
            for word in (start, stop)
        ]
        return cls(ends[0], ends[1]) if ends[0] is not None else None


def looped(past: Past, loop: Loop | None, end: str, place: Place | None, agent_id: str) -> Loop:
    """A loop with another end: it begins or ends here. The other end stays where that is still possible."""
    index = past.history.index
    here = place or past.place(index.ends(), agent_id)
    if end == "from":
        return Loop(here, loop.stop if loop and loop.stop and here.step < loop.stop.step else None)
    if loop and loop.start.step < here.step:
        return Loop(loop.start, here)
    first = axes.first_step(index, dict.fromkeys(index.streams, 0), agent_id)
    return Loop(past.place(first, agent_id), here)


def words(place: Place | None) -> str:
    """A place as a position."""
    return f"step:{place.step}" if place is not None and place.step >= 0 else "beginning"


def moved(past: Past, move: Move, place: Place | None, agent_id: str, axis: str = "step") -> Cut | None:
    """The cut that a move leads to, a scrub by its number on an axis; None: there is nowhere to go.

    Raises:
        OutsideError: the run has no such place.
        UsageError: it is no position.
    """
    history, index = past.history, past.history.index
    here = place or past.place(index.ends(), agent_id)
    match move.name:
        case "home":
            return axes.first_step(index, dict.fromkeys(index.streams, 0), agent_id)
        case "step":
            return _by_step(past, here, agent_id, forward=float(move.value) > 0)
        case "episode":
            return _by_episode(past, here, agent_id, forward=float(move.value) > 0)
        case "training":
            return _by_training_step(past, here, forward=float(move.value) > 0)
    if (named := _line(past, move.value, agent_id)) is not None:
        return named
    if move.name == "scrub":
        there = axes.position(history, axis, float(move.value), agent_id)
    else:
        there = parse_position(move.value)
    return axes.find(history, there, agent_id)


def _line(past: Past, text: str, agent_id: str) -> Cut | None:
    """The cut behind a line, `<stream>/<line>`, or a step of an episode, `episode:<n>/<m>`.

    Raises:
        OutsideError: the run has no such episode, or that has no such step.
    """
    stream, slash, number = text.rpartition("/")
    if not slash or not (number.isascii() and number.isdigit()) or len(number) > 18:
        return None
    index = past.history.index
    if stream in index.streams:
        line = index.line(stream, int(number))
        return index.cut((line.time, stream, line.seq), behind=True) if line else None
    if not stream.startswith("episode:"):
        return None
    start = parse_position(stream)
    first = axes.find(past.history, start, agent_id)
    newest = past.history.newest(Kind.STEPS, first, agent_id, 1)
    if int(number) == 0 or not newest:
        return first
    there = axes.find(past.history, Position(start.anchor, int(number)), agent_id)
    episodes = [place.line.own_episode for cut in (first, there) if (place := past.place(cut, agent_id)).line]
    if len(set(episodes)) > 1:
        raise OutsideError(f"Episode {episodes[0]} has no step {number}.")
    return there


def _by_step(past: Past, here: Place, agent_id: str, *, forward: bool) -> Cut | None:
    index = past.history.index
    if forward:
        for moment, line in index.lines(here.cut):
            if line.kind is Kind.STEPS and line.agent_id == agent_id:
                return index.cut(moment, behind=True)
        return None
    newest = past.history.newest(Kind.STEPS, here.cut, agent_id, 2)
    return _behind(past, newest[0].stream_id, newest[0].seq) if len(newest) > 1 else None


def _by_episode(past: Past, here: Place, agent_id: str, *, forward: bool) -> Cut | None:
    """The first step of the next episode; back: of this one, or from there of the one before."""
    number = here.line.own_episode if here.line else None
    if number is None:
        return None
    wanted = number + 1 if forward else number
    cut = axes.find(past.history, Position(at.Episode(wanted)), agent_id)
    if not forward and cut == here.cut and number > 0:
        cut = axes.find(past.history, Position(at.Episode(number - 1)), agent_id)
    return cut


def _by_training_step(past: Past, here: Place, *, forward: bool) -> Cut | None:
    """Where the first rollout of the next training step has ended, or of the one before."""
    now = axes.value(past.history, "training", here) if here.line else -math.inf
    steps = past.history.training_steps()
    beside = [time for step, time in steps if (step > now if forward else step < now)]
    if not beside:
        return None
    index, target = past.history.index, beside[0] if forward else beside[-1]
    return {stream: index.first_at_time(stream, target + 1) for stream in index.streams}


def _behind(past: Past, stream: str, seq: int) -> Cut:
    index = past.history.index
    line = index.line(stream, seq)
    moment: Moment = (line.time if line else 0, stream, seq)
    return index.cut(moment, behind=True)
