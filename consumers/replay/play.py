"""Plays a run: what the log holds, in order and at a pace; then, when told to follow, what comes on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from consumers.replay.position import End, Episode, Seq
from consumers.replay.tape import Item, Order, Tape
from consumers.replay.window import Window
from infra.kafka.log_reader import Entry, LogReader
from infra.kafka.registry import Registry
from infra.settings import Settings
from schemas.errors import SchemaError, StepstreamError
from schemas.topics import META_SUFFIX, Kind

CHUNK = 2000
MANY = 200_000
"""To read so many records takes long enough to be said."""
PATIENCE_S = 1.0
"""A line that is missing among newer ones is waited for so long, when following."""
RECENT_LINES = 10_000
"""So far back in a stream a line that is missing now may still come."""


class Sink(Protocol):
    """Where records go."""

    kinds: tuple[Kind, ...]
    """What it takes."""

    def write(self, items: list[Item]) -> None:
        """Take records, in order."""

    def close(self) -> None:
        """No more will come."""


@dataclass
class Replay:
    """One replay of one run.

    Args:
        speed: how much faster than the run was; None: as fast as it goes.
        follow: go on with what comes, until `stop` is set or the window's end is reached.
        meta: stepstream's own records of the run (start, heartbeats, stderr, end), too.
        tell: takes a note for the user.
    """

    settings: Settings
    run_id: str
    window: Window
    sink: Sink
    speed: float | None = None
    follow: bool = False
    meta: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    tell: Callable[[str], None] = lambda note: None

    def play(self) -> int:
        """Play it; returns the number of records that were given to the sink.

        Raises:
            BrokerError: Kafka refuses, or does not answer.
            StepstreamError: the log holds nothing of this run, or nothing at that position.
        """
        reader = LogReader(self.settings, self.sink.kinds, self.run_id)
        tape = Tape(Registry(self.settings, self.stop).schema)
        try:
            self.window.check(reader.watermarks, follow=self.follow, topic_prefix=self.settings.topic_prefix)
            order = self._record(reader, tape)
            played = self._give(self._selected(order))
            if self.follow and not self.window.is_over(order):
                played += self._go_on(reader, tape, order)
            return played
        finally:
            reader.close()
            tape.close()
            self.sink.close()

    def _record(self, reader: LogReader, tape: Tape) -> Order:
        """All of the run: only whoever has read it knows that no stream with earlier lines comes later."""
        count = sum(marks.high - marks.low for marks in reader.watermarks.values())
        if count >= MANY:
            self.tell(f"{count:,} records are read first, to know their order.")
        for entry in itertools.chain.from_iterable(reader.present()):
            tape.add(*entry)
        if tape.unreadable:
            self.tell(f"{tape.unreadable} records of the run cannot be read and are left out.")
        if len(tape) == 0:
            raise StepstreamError(
                f"Kafka holds nothing of a run {self.run_id!r} under {self.settings.topic_prefix!r}: "
                "`stepstream runs list` names those in SQL, and older records may be past Kafka's retention."
            )
        return tape.ordered()

    def _selected(self, order: Order) -> Iterator[Item]:
        rows = self.window.rows(order)
        if not self.meta:
            rows = rows[~order.is_meta[rows]]
        if len(rows) == 0 and not self.follow and not isinstance(self.window.start, End):
            self._explain_nothing(order)
        return order.items(rows)

    def _explain_nothing(self, order: Order) -> None:
        lines = order["seq"][~order.is_meta]
        episodes = order["episode"][order["episode"] >= 0]
        holds = f"lines 1 to {lines.max()}" if len(lines) else "no lines"
        if len(episodes):
            holds += f" and episodes {episodes.min()} to {episodes.max()}"
        note = f"Nothing of run {self.run_id!r} lies there: Kafka holds its {holds}."
        if isinstance(self.window.start, Seq | Episode):
            raise StepstreamError(note)
        self.tell(note)

    def _give(self, items: Iterable[Item]) -> int:
        played = 0
        chunks = _chunks(items) if self.speed is None else self._paced(items, self.speed)
        for chunk in chunks:
            self.sink.write(chunk)
            played += len(chunk)
            if self.stop.is_set():
                break
        return played

    def _paced(self, items: Iterable[Item], speed: float) -> Iterator[list[Item]]:
        """Chunks of what is due, each when it is due."""
        chunk: list[Item] = []
        begin_at, begin = time.monotonic(), 0
        for item in items:
            begin = begin or item.time
            early = (item.time - begin) / 1e6 / speed - (time.monotonic() - begin_at)
            if early > 0:
                if chunk:
                    yield chunk
                    chunk = []
                self.stop.wait(early)
            if self.stop.is_set():
                return
            chunk.append(item)
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _go_on(self, reader: LogReader, tape: Tape, order: Order) -> int:
        tail = Tail(tape, order)
        played = 0
        over = False
        while not (self.stop.is_set() or over):
            for entry in reader.newer():
                over |= self._take(entry, tape, tail)
            items = tail.ready(time.monotonic(), everything=over)
            if items:
                self.sink.write(items)
                played += len(items)
        return played

    def _take(self, entry: Entry, tape: Tape, tail: Tail) -> bool:
        """Take a newer record; true where it lies beyond the end."""
        try:
            head = tape.head(entry.value)
        except SchemaError:
            return False
        is_meta = head.stream_id.endswith(META_SUFFIX)
        if not is_meta and self.window.ends_before(head, entry.kind, entry.partition, entry.offset):
            return True
        wanted = self.window.begins_before(head) and (self.meta or not is_meta)
        item = Item(*entry[:-1], head.event_time, entry.value)
        tail.push(head.stream_id, head.seq, item, wanted)
        return False


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk


class Tail:
    """Puts newer records in order: every line of a stream is one record, so its numbers have no gaps.

    A line that is missing among newer ones is waited for, then passed over; it is given when it comes.
    """

    def __init__(self, tape: Tape, order: Order) -> None:
        self._next: dict[str, int] = {}
        self._missing: dict[str, set[int]] = {}
        self._held: dict[str, dict[int, tuple[Item, bool]]] = {}
        self._stuck_since: dict[str, float] = {}
        self._out: list[Item] = []
        names = list(tape.streams)
        for number, seqs in order.lines_by_stream():
            newest = int(seqs.max())
            recent = np.arange(max(1, newest - RECENT_LINES), newest)
            self._next[names[number]] = newest + 1
            self._missing[names[number]] = set(np.setdiff1d(recent, seqs).tolist())

    def push(self, stream: str, seq: int, item: Item, wanted: bool) -> None:
        """Take a record; one that is not wanted only fills its place."""
        if item.kind is Kind.FRAMES:
            self._out += [item] if wanted else []
        elif seq >= self._next.setdefault(stream, 1):
            self._held.setdefault(stream, {}).setdefault(seq, (item, wanted))
        elif seq in self._missing.setdefault(stream, set()):
            self._missing[stream].discard(seq)
            self._out += [item] if wanted else []

    def ready(self, now: float, *, everything: bool = False) -> list[Item]:
        """What can be given, in order.

        Args:
            now: seconds of a monotonic clock.
            everything: wait for no missing line any longer.
        """
        for stream, held in self._held.items():
            self._release(stream, held)
            if not held:
                self._stuck_since.pop(stream, None)
            elif everything or now - self._stuck_since.setdefault(stream, now) >= PATIENCE_S:
                self._pass_over(stream, min(held))
                self._release(stream, held)
        self._held = {stream: held for stream, held in self._held.items() if held}
        out, self._out = self._out, []
        return out

    def _release(self, stream: str, held: dict[int, tuple[Item, bool]]) -> None:
        while (seq := self._next[stream]) in held:
            item, wanted = held.pop(seq)
            self._out += [item] if wanted else []
            # A dead letter may be redriven: what it becomes is another record of the same number.
            if item.kind is Kind.DLQ:
                self._missing.setdefault(stream, set()).add(seq)
            self._next[stream] = seq + 1
            self._stuck_since.pop(stream, None)

    def _pass_over(self, stream: str, seq: int) -> None:
        first = max(self._next[stream], seq - RECENT_LINES)
        self._missing.setdefault(stream, set()).update(range(first, seq))
        self._next[stream] = seq
        self._stuck_since.pop(stream, None)
