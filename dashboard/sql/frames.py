"""Pictures of past steps: SQL says where each lies on Kafka. Nothing that is live waits for it.

A picture has the number of the line it came with. So that of a step is the newest one of its agent and
episode at or before its line, else the episode's next, as pictures are thinned.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import NamedTuple

from dashboard.sql.queries import FramePlace, Queries, StepPlace
from infra.kafka.record_fetcher import RecordFetcher
from infra.kafka.registry import Registry
from infra.settings import Settings
from schemas.codec import Decoder
from schemas.errors import SchemaError, StepstreamError
from schemas.live import LiveFrame
from schemas.topics import Kind

KEPT = 64 * 1024 * 1024
"""Bytes of pictures that stay in memory for the steps beside those that were looked at."""
NEIGHBOURS = 16
"""Records behind a picture that are taken along where they come in the same answer."""
AGAIN_S = 5.0

COLUMNS = ("event_time", "episode_index", "step_index", "media_type", "width", "height", "thinned", "data")
"""Of the record, in the order of LiveFrame's fields."""

NONE = "No picture was sent near this step."
GONE = "Kafka no longer keeps the pictures of this step."
AWAY = "Kafka does not answer: pictures of past steps cannot be read now."


class Answer(NamedTuple):
    """The picture of a step, or why there is none."""

    frame: LiveFrame | None
    said: str = ""

    def caption(self, step_index: int | None) -> str:
        """What is to know of it beside a step: that it is another step's, or why there is none."""
        if self.frame is None or self.frame.step_index == step_index:
            return self.said
        return f"picture of step {'–' if self.frame.step_index is None else self.frame.step_index}"


class Frames:
    """Reads pictures for one dashboard process, over one consumer."""

    def __init__(self, settings: Settings, queries: Queries) -> None:
        self._queries = queries
        self._fetcher = RecordFetcher(settings, Kind.FRAMES)
        self._decode = Decoder(Kind.FRAMES, Registry(settings).schema)
        self._one = asyncio.Lock()
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._size = 0
        self._away_until = 0.0

    def low(self, partition: int) -> int:
        """The first picture's offset that Kafka still holds.

        Raises:
            BrokerError: no answer.
        """
        return self._fetcher.low(partition)

    def close(self) -> None:
        """Leave Kafka."""
        self._fetcher.close()

    async def of(self, run_id: str, stream_id: str, seq: int) -> Answer | None:
        """The picture of a step. None: no such step.

        Raises:
            DatabaseError: SQL does not answer.
        """
        step = await self._queries.step_place(run_id, stream_id, seq)
        return None if step is None else await self.at(run_id, stream_id, step)

    async def at(self, run_id: str, stream_id: str, step: StepPlace) -> Answer:
        """The picture of a step whose place is known.

        Raises:
            DatabaseError: SQL does not answer.
        """
        around = await self._queries.frames_around(run_id, stream_id, step)
        chosen = next((place for place in reversed(around) if place.seq <= step.seq), None)
        chosen = chosen or next(iter(around), None)
        if chosen is None:
            return Answer(None, NONE)
        try:
            answer = await self._fetched(chosen)
        except StepstreamError:
            self._away_until = time.monotonic() + AGAIN_S
            return Answer(None, AWAY)
        return answer

    async def before(self, run_id: str, stream_id: str, step: StepPlace) -> None:
        """Fetch the pictures before a step, for who goes back from it."""
        around = await self._queries.frames_around(run_id, stream_id, step, NEIGHBOURS)
        if around and (around[0].partition, around[0].offset) not in self._kept:
            try:
                await self._fetched(around[0])
            except StepstreamError:
                self._away_until = time.monotonic() + AGAIN_S

    async def _fetched(self, place: FramePlace) -> Answer:
        where = (place.partition, place.offset)
        async with self._one:
            if where not in self._kept:
                if time.monotonic() < self._away_until:
                    return Answer(None, AWAY)
                found = await asyncio.to_thread(self._fetcher.fetch, *where, NEIGHBOURS)
                for offset, value in found.items():
                    self._keep((place.partition, offset), value)
            kept = self._kept.get(where)
        frame = self._decoded(kept, place) if kept is not None else None
        return Answer(frame) if frame is not None else Answer(None, GONE)

    def _decoded(self, value: bytes, place: FramePlace) -> LiveFrame | None:
        """The picture; None where the topic was made anew and something else lies there."""
        try:
            record = self._decode(value)
        except SchemaError:
            return None
        if (record["stream_id"], record["seq"]) != (place.stream_id, place.seq):
            return None
        return LiveFrame(*(record[name] for name in COLUMNS))

    def _keep(self, where: tuple[int, int], value: bytes) -> None:
        self._size += len(value) - len(self._kept.pop(where, b""))
        self._kept[where] = value
        while self._size > KEPT and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])
