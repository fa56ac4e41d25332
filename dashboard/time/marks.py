"""What stands on a time bar: the return curve, what happened, and how far back there are pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import attrgetter
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from msgspec import Struct, field

from dashboard.time import axis as axes
from dashboard.time.axis import Span
from dashboard.time.past import Past
from infra.history.curves import Numbers, downsampled
from infra.history.moment import History
from infra.history.told import Stream
from infra.sql import attempts
from schemas.errors import StepstreamError
from schemas.positions import EPOCH
from schemas.seek_points import BLOCK
from schemas.topics import Kind

WIDTH, HEIGHT = 1000.0, 40.0
"""Of the curve, in its own units."""
MOST_MARKS = 60
POINTS = 600

START = "run_started"
EVENTS = {
    "run_failed": "Crash",
    "run_cancelled": "Cancelled",
    "error": "Error",
    "checkpoint_saved": "Checkpoint",
    "checkpoint_loaded": "Checkpoint loaded",
}


class Mark(NamedTuple):
    """Something that happened at a line."""

    kind: str
    words: str
    stream: str
    seq: int
    time: int
    """µs since 1970."""
    episode: int | None = None

    @property
    def at(self) -> str:
        """As it stands in the address."""
        return self.kind if self.kind in ("best", "worst") else f"{self.stream}/{self.seq}"


class Drawing(Struct):
    """A bar without its cursor. Places are shares of its width, from 0 to 1."""

    curve: str = ""
    """A CSS image of the return curve."""
    marks: list[tuple[Mark, float]] = field(default_factory=list)
    pictures: tuple[float, float] | None = None


async def drawing(past: Past, axis: str, window: Span, agent_id: str) -> Drawing:
    """The bar of an agent, from one value of the axis to another.

    Raises:
        DatabaseError: SQL does not answer.
    """
    made = await past.read(lambda: _drawing(past, axis, window, agent_id))
    made.pictures = await _pictures(past, axis, window, agent_id)
    return made


def _drawing(past: Past, axis: str, window: Span, agent_id: str) -> Drawing:
    history = past.history
    x, y = _curve(history, axis, agent_id)
    marks = list(_marks(history, agent_id))[:MOST_MARKS]
    shares = [_share(_place(history, axis, mark), window) for mark in marks]
    seen = [(mark, share) for mark, share in zip(marks, shares, strict=True) if 0 <= share <= 1]
    return Drawing(_image((x - window[0]) / _width(window), y), seen)


def _curve(history: History, axis: str, agent_id: str) -> tuple[Numbers, Numbers]:
    """Place and return of each of an agent's episodes."""
    parts = []
    for name, stream in history.told.streams.items():
        seqs, points = stream.curves.get(agent_id, ([], []))
        if seqs:
            told = np.array(points)
            times = np.array(_times(stream, seqs))
            lines = axes.Lines(name, np.array(seqs, float), times, told[:, 0])
            x = axes.places(history.index, axis, lines)
            parts.append(np.column_stack([x, told[:, 1]]))
    if not parts:
        return np.zeros(0), np.zeros(0)
    whole = np.concatenate(parts)
    whole = whole[np.argsort(whole[:, 0], kind="stable")]
    return whole[:, 0], whole[:, 1]


def _times(stream: Stream, seqs: list[int]) -> list[float]:
    known = dict(zip(stream.seqs, (record["event_time"] for _, record in stream.records), strict=True))
    return [known[seq] for seq in seqs]


def _image(x: Numbers, y: Numbers) -> str:
    """A line as a CSS image: a mask, so that the theme gives its colour."""
    inside = (x >= 0) & (x <= 1)
    x, y = x[inside], y[inside]
    if len(x) < 2:
        return ""
    chosen = downsampled(y, POINTS)
    low, high = float(y.min()), float(y.max())
    ys = HEIGHT - 2 - (y[chosen] - low) / ((high - low) or 1.0) * (HEIGHT - 4)
    points = " ".join(f"{a * WIDTH:.1f},{b:.1f}" for a, b in zip(x[chosen], ys, strict=True))
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH:.0f} {HEIGHT:.0f}' "
        f"preserveAspectRatio='none'><polyline points='{points}' fill='none' stroke='black' "
        "vector-effect='non-scaling-stroke'/></svg>"
    )
    return f'url("data:image/svg+xml,{quote(svg)}")'


def _marks(history: History, agent_id: str) -> Iterator[Mark]:
    yield from _extremes(history, agent_id)
    for name, stream in history.told.streams.items():
        yield from (
            Mark(event, EVENTS[event], name, seq, time)
            for event, seq, time in _events(stream)
            if event in EVENTS
        )
    yield from _restarts(history)
    for name, seq, time, reason in history.dead_letters(MOST_MARKS):
        yield Mark("dead", f"Dead letter: {reason}", name, seq, time)
    yield from _gaps(history)


def _events(stream: Stream) -> Iterator[tuple[str, int, int]]:
    """Events of the run in a stream, each with its line and time (µs)."""
    for seq, (kind, record) in zip(stream.seqs, stream.records, strict=True):
        if kind is Kind.RUNS:
            yield record["event"], seq, record["event_time"]


def _restarts(history: History) -> Iterator[Mark]:
    """Where each attempt at the run but the first begins, and where a stream itself begins the run again."""
    spans: dict[str, attempts.Span] = {}
    starts: dict[str, list[Mark]] = {}
    for name, blocks in history.index.streams.items():
        events = _events(history.told.streams.get(name, Stream()))
        marks = [Mark("restart", "Restart", name, seq, time) for event, seq, time in events if event == START]
        yield from marks[1:]
        worker, first = attempts.worker_of(name), history.index.line(name, 0)
        starts.setdefault(worker, []).extend(marks[:1])
        began, ended = _moment(first.time if first else 0), _moment(blocks.times[-1])
        span = spans.setdefault(worker, attempts.Span(began, ended))
        span.first, span.last = min(span.first, began), max(span.last, ended)
        span.starts = bool(starts[worker])
    for workers in attempts.in_attempts(spans)[1:]:
        yield min((mark for worker in workers for mark in starts[worker]), key=attrgetter("time"))


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def _extremes(history: History, agent_id: str) -> Iterator[Mark]:
    for kind, best in (("best", True), ("worst", False)):
        if (found := history.extreme(best=best, agent_id=agent_id)) is not None:
            value, stream, line = found
            words = f"{kind.capitalize()} episode {line.own_episode}: return {value:g}"
            yield Mark(kind, words, stream, line.seq, line.time, line.own_episode)


def _gaps(history: History) -> Iterator[Mark]:
    """Lines that are missing among others of a thousand."""
    for name in history.index.workers:
        blocks = history.index.streams[name]
        known = 0
        for number, time, counts in list(zip(blocks.numbers, blocks.times, blocks.counts, strict=True))[:-1]:
            lines, known = sum(counts.values()) - known, sum(counts.values())
            missing = BLOCK - (number == 0) - lines
            if missing > 0:
                yield Mark("gap", f"{missing} lines are missing here", name, number * BLOCK, time)


def _place(history: History, axis: str, mark: Mark) -> float:
    episode = mark.episode
    if axis == "episode" and episode is None:
        line = history.index.line(mark.stream, mark.seq)
        episode = line.episode if line else 0
    one = (np.array([float(number)]) for number in (mark.seq, mark.time, episode or 0))
    return float(axes.places(history.index, axis, axes.Lines(mark.stream, *one))[0])


async def _pictures(past: Past, axis: str, window: Span, agent_id: str) -> tuple[float, float] | None:
    """From where to where Kafka still holds pictures of an agent."""
    found = await past.read(lambda: past.history.pictures(agent_id))
    if found is None:
        return None
    stream, partition = found
    try:
        low = await asyncio.to_thread(past.frames.low, partition)
    except StepstreamError:
        return None
    ends = await past.read(lambda: past.history.pictures_from(stream, agent_id, low))
    if ends is None:
        return None
    marks = [Mark("", "", stream, seq, time, episode) for seq, time, episode in ends]
    places = await past.read(lambda: [_share(_place(past.history, axis, mark), window) for mark in marks])
    return max(0.0, places[0]), min(1.0, places[1])


def _share(value: float, window: Span) -> float:
    return (value - window[0]) / _width(window)


def _width(window: Span) -> float:
    return (window[1] - window[0]) or 1.0
