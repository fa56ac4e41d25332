"""Plays a run: from a position to another, in order and at a pace; when told to follow, what comes on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from consumers.replay.follow import Arrived, Mark, Sequencer, by_time
from consumers.replay.pace import Pace
from infra.history.finder import Finder, OutsideError
from infra.history.index import Cut
from infra.history.items import Item
from infra.history.reader import RECENT_LINES, RunReader
from infra.kafka.log_reader import Entry
from schemas import positions as at
from schemas.errors import SchemaError, StepstreamError, UsageError
from schemas.head_reader import HeadReader
from schemas.positions import Position, ends_before_it_begins
from schemas.topics import BESIDE, META_SUFFIX, Kind

_NOTHING_BETWEEN = "--to {} lies before --from {}: nothing is between them."
_DLQ = Kind.DLQ  # a member is looked up slowly
FIRST_CHUNK, CHUNK = 100, 2000
"""Records that a sink gets at once: few at first, so that the first is there at once."""


class Sink(Protocol):
    """Where records go."""

    def write(self, items: list[Item]) -> None:
        """Take records, in order."""

    def close(self) -> None:
        """No more will come."""


@dataclass(frozen=True)
class Part:
    """What is played of a run.

    Raises:
        UsageError: it ends before it begins.
    """

    start: Position
    stop: Position | None = None
    """Included. None: what is there now, or, when following, whatever comes."""
    agent_id: str | None = None
    meta: bool = False
    """stepstream's own records of the run (start, heartbeats, stderr, end), too."""

    def __post_init__(self) -> None:
        if self.stop is not None and ends_before_it_begins(self.start, self.stop):
            raise UsageError(_NOTHING_BETWEEN.format(self.stop, self.start))


@dataclass
class Replay:
    """One replay of one run.

    Args:
        reader: the run.
        part: what of it.
        speed: how much faster than the run was; None: as fast as it goes.
        skip_idle: seconds that a pause in the run may last.
        follow: go on with what comes, until `stop` is set or the part's end is reached.
        loop: begin again at the part's beginning, until `stop` is set.
        turn: waits for leave to play a step; None: it is played when it is due.
        tell: takes a note for the user.
        progress: told after each write how many records were given, and of how many lines, if that is known.
    """

    reader: RunReader
    part: Part
    speed: float | None = None
    skip_idle: float | None = None
    follow: bool = False
    loop: bool = False
    turn: Callable[[], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    tell: Callable[[str], None] = lambda note: None
    progress: Callable[[int, int | None], None] = lambda done, total: None
    played: int = 0
    rest: Item | None = None
    """The first record that was not given, where it was stopped."""
    _ahead: bool = False
    """The part begins behind what is there."""
    _lines: int | None = None
    _late: int = 0
    """Records that came after it was told to stop."""
    _pace: Pace | None = None
    _letters: dict[str, set[int]] = field(default_factory=dict)

    def find(self) -> tuple[Cut, Cut | None]:
        """Where each stream begins and ends.

        Raises:
            OutsideError: the run has no such place.
            UsageError: the end lies before the beginning.
        """
        needs_newest = any(
            position is not None and isinstance(position.anchor, at.End | at.Ago | at.Named)
            for position in (self.part.start, self.part.stop)
        )
        if needs_newest:
            self.reader.load()
        while True:
            try:
                start, stop, is_whole = self._found(self.reader.finder(self.part.agent_id))
            except OutsideError:
                if self.reader.loaded:
                    raise
            else:
                if is_whole or self.reader.loaded:
                    break
            self.reader.load()
        if stop is not None and not self._ahead:
            self._check_order(start, stop)
        self._lines = self._count(start, stop)
        return start, stop

    def play(self, start: Cut, stop: Cut | None, sink: Sink) -> None:
        """Play a part that `find` found.

        Raises:
            StepstreamError: a source or the sink refuses, or the run was deleted meanwhile.
        """
        passes = itertools.repeat(None) if self.loop else (None,)
        for _ in passes:
            self._pace = Pace(self.speed, self.skip_idle, self.stop, self.tell) if self.speed else None
            self._give(self._wanted(self.reader.items(start, stop)), sink)
            if self.stop.is_set():
                return
        if self.follow and not self._is_over(stop):
            self._go_on(sink)

    def missing(self, start: Cut, stop: Cut | None) -> int:
        """How many lines of the part are nowhere: reads it once, and gives nothing."""
        self.reader.counting = True
        for _ in self.reader.items(start, stop):
            if self.stop.is_set():
                break
        self.reader.counting = False
        missing = sum(self.reader.missing.values())
        self.reader.counts.clear()
        self.reader.missing.clear()
        self.reader.open_at.clear()
        return missing

    def _found(self, finder: Finder) -> tuple[Cut, Cut | None, bool]:
        """Start, stop, and whether more from Kafka cannot change them."""
        try:
            start = finder.start(self.part.start)
        except OutsideError:
            if not (self.follow and self.reader.loaded) or self.part.start.steps:
                raise
            self._ahead, start = True, self.reader.index.ends()
        if self.part.stop is None:
            return start, None, True
        try:
            stop = finder.stop(self.part.stop)
        except OutsideError:
            if not self.reader.loaded or not _may_lie_ahead(self.part.stop):
                raise
            return start, None, True
        return start, stop, self.reader.index.moment(stop, stop) is not None

    def _check_order(self, start: Cut, stop: Cut) -> None:
        index, both = self.reader.index, stop.keys() & start.keys()
        if isinstance(self.part.start.anchor, at.End):
            is_before = any(stop[stream] < start[stream] for stream in both)
        elif index.moment(start, start) is None or index.moment(stop, stop) is None:
            return
        else:
            is_before = all(stop[stream] <= start[stream] for stream in both)
        if is_before:
            raise UsageError(_NOTHING_BETWEEN.format(self.part.stop, self.part.start))

    def _count(self, start: Cut, stop: Cut | None) -> int | None:
        if self.follow or self.loop:
            return None
        index = self.reader.index
        ends = {stream: index.end(stream) for stream in index.streams}
        streams = ends if self.part.meta else index.workers
        return sum(
            max(0, min(ends[stream], (stop or ends).get(stream, ends[stream])) - max(start.get(stream, 0), 1))
            for stream in streams
        )

    def _wanted(self, items: Iterable[Item]) -> Iterator[Item]:
        everything = self.part.agent_id is None and self.part.meta
        for item in items:
            if item[0] is _DLQ:
                self._letters.setdefault(item.stream_id, set()).add(item.seq)
            if everything or self._is_wanted(item):
                yield item

    def _is_wanted(self, item: Item) -> bool:
        if self.part.agent_id is not None and item.agent_id != self.part.agent_id:
            return False
        return self.part.meta or not item.stream_id.endswith(META_SUFFIX)

    def _give(self, items: Iterator[Item], sink: Sink) -> None:
        for chunk in self._chunks(items):
            sink.write(chunk)
            self.played += len(chunk)
            self.progress(self.played, self._lines)

    def _chunks(self, items: Iterator[Item]) -> Iterator[list[Item]]:
        """Records to be given together, until told to stop: the next one is `rest` then."""
        if self._pace is None and self.turn is None:
            yield from self._whole_chunks(items)
            return
        chunk: list[Item] = []
        try:
            for item in items:
                if chunk and item.kind in BESIDE:
                    chunk.append(item)  # with its line
                    continue
                early = self._pace.early(item.time) if self._pace else 0.0
                waits_for_turn = self.turn is not None and item.kind is Kind.STEPS
                if chunk and (early > 0 or waits_for_turn or len(chunk) >= CHUNK):
                    yield chunk
                    chunk = []
                if self._pace is not None and early > 0:
                    self._pace.wait(early)
                if self.turn is not None and waits_for_turn and not self.stop.is_set():
                    self.turn()
                if self.stop.is_set() and self._may_end_before(item):
                    self.rest = item
                    break
                chunk.append(item)
        except StepstreamError:
            if chunk:
                yield chunk  # it was due before the source failed
            raise
        if chunk:
            yield chunk

    def _whole_chunks(self, items: Iterator[Item]) -> Iterator[list[Item]]:
        """Few records at first. What stands beside a line is in the line's chunk."""
        size, rest = FIRST_CHUNK, list[Item]()
        while chunk := rest + list(itertools.islice(items, size)):
            is_last = len(chunk) < size
            rest = [] if is_last else _last_line(chunk)
            yield chunk[: len(chunk) - len(rest)]
            if self.stop.is_set():
                last = [*rest, *itertools.takewhile(lambda item: not self._ends_before(item), items)]
                if last:
                    yield last
                return
            size = min(size * 2, CHUNK)

    def _ends_before(self, item: Item) -> bool:
        if not self._may_end_before(item):
            return False
        self.rest = item
        return True

    def _may_end_before(self, item: Item) -> bool:
        """Whether a position names exactly this record: a line of the only worker, or a step.

        What comes before the next such record is given still, within reason.
        """
        self._late += 1
        workers = self.reader.index.workers
        named = item.stream_id in workers and (len(workers) == 1 or item.kind is Kind.STEPS)
        return named or self._late > RECENT_LINES

    def _is_over(self, stop: Cut | None) -> bool:
        """Whether lines lie behind the end already, so that nothing is left to wait for."""
        if self.part.stop is None or stop is None:
            return False
        ends = {stream: self.reader.next_lines.get(stream, 0) for stream in stop}
        index = self.reader.index
        return any(index.end(stream) > stop[stream] for stream in ends if not stream.endswith(META_SUFFIX))

    def _go_on(self, sink: Sink) -> None:
        self.reader.load()
        if self.reader.log_reader is None:
            raise StepstreamError("Kafka does not answer, so the run cannot be followed.")
        sequencer = Sequencer(self.reader.next_lines, self._recent_letters())
        start = Mark(self.part.start, self.reader.index.steps) if self._ahead else None
        stop = self._stop_ahead()
        for item, episode in self.reader.beyond():
            sequencer.push(Arrived(item, episode))
        heads = HeadReader(self.reader.lookup)
        over = False
        while not (self.stop.is_set() or over):
            for entry in self.reader.log_reader.newer():
                if (arrived := _arrived(entry, heads)) is not None:
                    sequencer.push(arrived)
            ready = sorted(sequencer.ready(time.monotonic()), key=by_time)
            inside: list[Item] = []
            for arrived in ready:
                begun = start is None or start.place(arrived)[0]
                over = over or (stop is not None and stop.place(arrived)[1])
                if begun and not over and self._is_wanted(arrived.item):
                    inside.append(arrived.item)
            self._give(iter(inside), sink)

    def _stop_ahead(self) -> Mark | None:
        if self.part.stop is None:
            return None
        position = self.part.stop
        if position.steps:
            index = self.reader.index
            start = self.reader.finder(self.part.agent_id).start(Position(position.anchor))
            position = Position(at.Step(index.steps_before(start) + position.steps))
        return Mark(position, self.reader.index.steps)

    def _recent_letters(self) -> dict[str, set[int]]:
        ends = self.reader.next_lines
        return {
            stream: {line for line in lines if line >= ends.get(stream, 0) - RECENT_LINES}
            for stream, lines in self._letters.items()
        }


def _last_line(chunk: list[Item]) -> list[Item]:
    """The last line of a chunk, and what stands beside it; nothing where that is the whole chunk."""
    at = len(chunk) - 1
    while at and chunk[at].kind in BESIDE:
        at -= 1
    return chunk[at:] if at else []


def _may_lie_ahead(position: Position) -> bool:
    return isinstance(position.anchor, at.Step | at.Offset)


def _arrived(entry: Entry, heads: HeadReader) -> Arrived | None:
    kind, partition, offset, timestamp, value = entry
    try:
        stream, seq, event_time, episode, agent = heads(value)
    except SchemaError:
        return None
    item = Item(kind, stream, seq, event_time, agent, partition, offset, timestamp, value)
    return Arrived(item, episode)
