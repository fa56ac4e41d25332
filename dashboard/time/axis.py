"""What a time bar counts in: a moment as a number on an axis, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from dashboard.address import Address
from dashboard.time.past import Place
from infra.history.curves import Numbers
from infra.history.index import Cut, Index
from infra.history.moment import History
from schemas import positions as at
from schemas.positions import EPOCH, Anchor, Position
from schemas.seek_points import BLOCK
from schemas.topics import Kind

AXES: Mapping[str, str] = {
    "step": "Step",
    "episode": "Episode",
    "time": "Wall time",
    "offset": "Offset",
    "training": "Training step",
}
"""The address's `axis` → its words."""
EXACT_BLOCKS = 16
"""In a run of more thousands of lines, marks stand between the steps that are known: no pixel shows it."""

Span = tuple[float, float]


def chosen(address: Address) -> str:
    """The axis that an address asks for."""
    asked = address.get("axis")
    return asked if asked in AXES else "step"


def span(history: History, axis: str, agent_id: str) -> Span | None:
    """The least and the greatest value that the run has on an axis; None: it has none."""
    index = history.index
    if axis == "training":
        steps = history.training_steps()
        return (steps[0][0], steps[-1][0]) if steps else None
    if not index.steps:
        return None
    if axis == "time":
        first = index.moment(dict.fromkeys(index.streams, 0), index.streams)
        return (first[0] / 1000 if first else 0.0, index.newest_time / 1000)
    if axis == "episode":
        newest = index.last_step(agent_id)
        return (0.0, float(newest[1].own_episode or 0)) if newest else None
    if axis == "offset":
        mine = [ends for (kind, _), ends in index.offset_ranges.items() if kind is Kind.STEPS]
        return float(mine[-1][0]), float(mine[-1][1])
    return 0.0, float(index.steps - 1)


def value(history: History, axis: str, place: Place) -> float:
    """Where a moment stands on an axis."""
    line = place.line
    if axis == "step" or line is None:
        return float(max(place.step, 0))
    if axis == "time":
        return line.time / 1000
    if axis == "offset":
        return float(line.offset)
    if axis == "training":
        return _training_step(history, place)
    return float(line.own_episode or 0)


def _training_step(history: History, place: Place) -> float:
    """The last training step of which a rollout had ended, else the first."""
    steps, last = history.training_steps(), history.index.last_moment(place.cut, place.cut)
    reached = [step for step, time in steps if last is not None and time <= last[0]]
    return float(reached[-1] if reached else steps[0][0] if steps else 0)


def position(history: History, axis: str, number: float, agent_id: str) -> Position:
    """The position at a place of an axis; beyond its ends, at them."""
    low, high = span(history, axis, agent_id) or (0.0, 0.0)
    number = min(max(number, low), high)
    anchor: Anchor = at.Step(max(0, round(number)))
    if axis == "time":
        anchor = at.Time(round(number * 1000))
    elif axis == "episode":
        anchor = at.Episode(max(0, round(number)))
    elif axis == "offset":
        partition = [part for kind, part in history.index.offset_ranges if kind is Kind.STEPS][-1]
        anchor = at.Offset(Kind.STEPS, partition, max(0, round(number)))
    elif axis == "training":
        later = [time for step, time in history.training_steps() if step >= round(number)]
        anchor = at.Time(later[0]) if later else at.End()
    return Position(anchor)


def find(history: History, place: Position, agent_id: str) -> Cut:
    """The cut behind what a position names: of an episode its first step, as its steps come one by one.

    Raises:
        OutsideError: the run has no such place.
    """
    finder = history.finder(agent_id)
    if place.steps or not isinstance(place.anchor, at.Episode | at.Named | at.Beginning):
        finder.start(place)
        return finder.stop(place)
    return first_step(history.index, finder.start(place), agent_id)


def first_step(index: Index, start: Cut, agent_id: str) -> Cut:
    """The cut behind an agent's first step from here on; where there is none, behind everything."""
    lines = index.lines(start)
    mine = (moment for moment, line in lines if line.kind is Kind.STEPS and line.agent_id == agent_id)
    moment = next(mine, None)
    return index.cut(moment, behind=True) if moment else index.ends()


class Lines(NamedTuple):
    """Lines of one stream, as columns."""

    stream: str
    seqs: Numbers
    times: Numbers
    """Event time, µs."""
    episodes: Numbers


def places(index: Index, axis: str, lines: Lines) -> Numbers:
    """Where lines stand on an axis: as exactly as a bar shows it."""
    if axis == "time":
        return lines.times / 1000
    if axis == "episode":
        return lines.episodes
    return _offsets(index, lines) if axis == "offset" else _steps(index, lines)


def _offsets(index: Index, lines: Lines) -> Numbers:
    blocks = index.streams[lines.stream].offsets
    known = [ends for block in blocks for (kind, _), ends in block.items() if kind is Kind.STEPS]
    begins = _begins(index, lines.stream)
    return np.interp(lines.seqs, np.linspace(begins[0], begins[-1], len(known)), [low for low, _ in known])


def _steps(index: Index, lines: Lines) -> Numbers:
    """The last step of the whole run by then."""
    return np.maximum(_counted(index, lines) - 1, 0)


def _counted(index: Index, lines: Lines) -> Numbers:
    """The steps of the whole run by then: of its only stream with steps by number, of several by time."""
    blocks = index.streams[lines.stream]
    stepping = [name for name, each in index.streams.items() if each.steps[-1]]
    if stepping != [lines.stream]:
        counted = (_counted_at(index, name, lines.times) for name in stepping)
        return sum(counted, np.zeros(len(lines.times)))
    if len(blocks.numbers) <= EXACT_BLOCKS:
        found = (index.line(lines.stream, int(seq)) for seq in lines.seqs)
        return np.array([line.steps if line else blocks.steps[-1] for line in found], dtype=np.float64)
    return np.interp(lines.seqs, _begins(index, lines.stream), [0, *blocks.steps])


def _counted_at(index: Index, stream: str, times: Numbers) -> Numbers:
    blocks, first = index.streams[stream], index.line(stream, 0)
    begun = first.time if first else blocks.times[0]
    return np.interp(times, [begun, *blocks.times], [0, *blocks.steps])


def _begins(index: Index, stream: str) -> Numbers:
    """Where each of a stream's blocks begins, and the end of the last."""
    ends = [*(number * BLOCK for number in index.streams[stream].numbers), index.end(stream)]
    return np.array(ends, dtype=np.float64)


def zoomed(whole: Span, value: float, times: float) -> Span:
    """A part of an axis, so many times narrower, around a value; at the end it follows the end."""
    if times <= 1:
        return whole
    width = (whole[1] - whole[0]) / times
    low = min(max(value - width / 2, whole[0]), whole[1] - width)
    return low, low + width


def spoken(axis: str, number: float) -> str:
    """A value in words."""
    if axis == "time":
        return (
            (EPOCH + timedelta(milliseconds=number)).isoformat(" ", "milliseconds").replace("+00:00", " UTC")
        )
    return f"{AXES[axis]} {number:,.0f}"
