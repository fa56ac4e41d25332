"""Pictures of past steps: read from Kafka, as SQL keeps none. Nothing that is live waits for it.

A picture has the number of the line it came with. So that of a step is the newest one of its agent and
episode at or before its line, else the episode's next, as pictures are thinned. It lies on Kafka near the
moment at which the step was written there.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import OrderedDict
from operator import itemgetter
from typing import NamedTuple

from dashboard.sql.queries import Queries, StepPlace
from infra.kafka.log_reader import Entry, LogReader, Part
from infra.kafka.registry import Registry
from infra.settings import Settings
from schemas.codec import Decoder
from schemas.errors import SchemaError, StepstreamError
from schemas.live import LiveFrame
from schemas.topics import Kind, Watermarks

AROUND = 300
"""Records that are read of each partition on either side of a step's moment."""
MAX_BYTES = 48 * 1024 * 1024
MAX_SECONDS = 5.0
"""What is read for one step, at most."""
KEPT = 64 * 1024 * 1024
"""Bytes of pictures that stay in memory for the steps beside it."""
AGAIN_S = 5.0
BATCH = 50

COLUMNS = ("event_time", "episode_index", "step_index", "media_type", "width", "height", "thinned", "data")
"""Of the record, in the order of LiveFrame's fields."""

NONE = "No picture was sent near this step."
GONE = "Kafka no longer keeps the pictures of this step."
AWAY = "Kafka does not answer: pictures of past steps cannot be read now."


class Answer(NamedTuple):
    """The picture of a step, or why there is none."""

    frame: LiveFrame | None
    said: str = ""


Who = tuple[str, str, str]


class Stretch:
    """Pictures of one agent's neighbouring lines, in order: what is known between its first and `until`."""

    def __init__(self, found: list[tuple[int, LiveFrame]], until: int) -> None:
        self._seqs = [seq for seq, _ in found]
        self._frames = [frame for _, frame in found]
        self._until = max([until, *self._seqs[-1:]])
        self.size = sum(len(frame.data) for frame in self._frames)

    def knows(self, seq: int) -> bool:
        """Whether there can be no picture between the newest one here and that line."""
        return bool(self._seqs) and self._seqs[0] <= seq <= self._until

    def at(self, step: StepPlace) -> LiveFrame | None:
        """The newest picture at or before a step, of its episode; else the next of it."""
        index = bisect_right(self._seqs, step.seq)
        near = self._frames[max(index - 1, 0) : index + 1]
        return next((frame for frame in near if frame.episode_index == step.episode_index), None)


class Frames:
    """Reads pictures for one dashboard process, one stretch of Kafka at a time."""

    def __init__(self, settings: Settings, queries: Queries) -> None:
        self._settings = settings
        self._queries = queries
        self._one = asyncio.Lock()
        self._kept: OrderedDict[Who, Stretch] = OrderedDict()
        self._away_until = 0.0

    async def of(self, run_id: str, stream_id: str, seq: int) -> Answer | None:
        """The picture of a step. None: no such step.

        Raises:
            DatabaseError: SQL does not answer.
        """
        step = await self._queries.step_place(run_id, stream_id, seq)
        if step is None:
            return None
        who = run_id, stream_id, step.agent_id
        async with self._one:
            kept = self._kept.get(who)
            if kept is not None and kept.knows(seq):
                return _answer(kept.at(step), NONE)
            if time.monotonic() < self._away_until:
                return _answer(None, AWAY)
            try:
                stretch, said = await asyncio.to_thread(self._read, who, step)
            except StepstreamError:
                self._away_until = time.monotonic() + AGAIN_S
                return _answer(None, AWAY)
            self._keep(who, stretch)
        return _answer(stretch.at(step), said)

    def _keep(self, who: Who, stretch: Stretch) -> None:
        self._kept[who] = stretch
        self._kept.move_to_end(who)
        while sum(kept.size for kept in self._kept.values()) > KEPT and len(self._kept) > 1:
            self._kept.popitem(last=False)

    def _read(self, who: Who, step: StepPlace) -> tuple[Stretch, str]:
        """A stretch around a step, and what to say where it has no picture of it."""
        reader = LogReader(self._settings, (Kind.STEPS, Kind.FRAMES), who[0])
        try:
            moment = _moment(reader, step)
            if moment is None:
                return Stretch([], step.seq), GONE
            here = _places(reader, step.partition, reader.at(Kind.FRAMES, moment))
            whole = {place: reader.watermarks[place] for place in here}
            part = {
                place: Watermarks(
                    max(whole[place].low, offset - AROUND), min(whole[place].high, offset + AROUND)
                )
                for place, offset in here.items()
            }
            deleted = any(0 < whole[place].low >= offset for place, offset in here.items())
            return Stretch(self._pictures(reader, part, who), step.seq), GONE if deleted else NONE
        finally:
            reader.close()

    def _pictures(self, reader: LogReader, part: Part, who: Who) -> list[tuple[int, LiveFrame]]:
        decode = Decoder(Kind.FRAMES, Registry(self._settings).schema)
        found: dict[int, LiveFrame] = {}
        size, until = 0, time.monotonic() + MAX_SECONDS
        for batch in reader.present(part, BATCH):
            size += sum(len(entry.value) for entry in batch)
            found |= _of(batch, decode, who)
            if size > MAX_BYTES or time.monotonic() > until:
                break
        return sorted(found.items(), key=itemgetter(0))


def _moment(reader: LogReader, step: StepPlace) -> int | None:
    """When a step's record was written, by Kafka's clock (ms); None where Kafka has it no more."""
    place = Kind.STEPS, step.partition
    marks = reader.watermarks.get(place)
    if marks is None or not marks.low <= step.offset < marks.high:
        return None
    for batch in reader.present({place: Watermarks(step.offset, step.offset + 1)}, 1):
        for entry in batch:
            if entry.kind is Kind.STEPS and entry.offset == step.offset:
                return entry.timestamp
    return None


def _places(reader: LogReader, partition: int, offsets: dict[int, int]) -> dict[tuple[Kind, int], int]:
    """Where a run's pictures lie: in the partition of its steps, if both topics have equally many."""
    steps = sum(kind is Kind.STEPS for kind, _ in reader.watermarks)
    mine = {partition: offsets[partition]} if len(offsets) == steps else offsets
    return {(Kind.FRAMES, number): offset for number, offset in mine.items()}


def _of(batch: list[Entry], decode: Decoder, who: Who) -> dict[int, LiveFrame]:
    _, stream_id, agent_id = who
    found = {}
    for entry in batch:
        try:
            record = decode(entry.value) if entry.kind is Kind.FRAMES else {}
        except SchemaError:
            continue
        if record.get("stream_id") == stream_id and record["agent_id"] == agent_id:
            found[record["seq"]] = LiveFrame(*(record[name] for name in COLUMNS))
    return found


def _answer(frame: LiveFrame | None, said: str) -> Answer:
    return Answer(None, said) if frame is None else Answer(frame)
