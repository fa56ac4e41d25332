"""Lines and pictures of a stream → records for Kafka, collected in a window.

Stream ──▶ StreamEncoder ──┬─▶ FastStep (a common step, bytes to bytes)
                           └─▶ Normaliser (any other line) ──▶ RecordEncoder
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from producers.forward.frame_sampler import FrameSampler
from producers.lines.fast_step import FastStep
from producers.lines.frames import NotAPictureError, Picture, encode
from producers.lines.normalise import Event, Normaliser
from producers.spool.format import Checkpoint
from producers.spool.reader import Chunk, Long
from schemas.codec import HEADER, MAGIC, Decoder, Encoder, Record
from schemas.topics import Kind

WINDOW_BYTES = 4 * 1024 * 1024
"""A window of this size takes no more lines: it bounds memory when lines are long."""

log = structlog.get_logger(part="forwarder")

Item = tuple[Kind, bytes, bytes, "StreamEncoder", bytes | None]
"""Kind, key and value of a record, the encoder that made it, and its line (None: it is a picture)."""


class Window:
    """The records that are sent before the next acknowledgement is awaited.

    Args:
        most: records of a full window.
    """

    def __init__(self, most: int = 0) -> None:
        self.items: list[Item] = []
        self.checkpoints: dict[str, Checkpoint] = {}
        """By stream: the checkpoint to save once all items are acknowledged."""
        self.size = 0
        """Bytes of the lines' records."""
        self.sent_at = 0.0
        self._most = most

    @property
    def room(self) -> int:
        """How many more lines it takes."""
        return self._most - len(self.items) if self.size < WINDOW_BYTES else 0


class RecordEncoder:
    """Encodes records of every kind.

    Args:
        ids: schema id of each kind.
        limits: bytes of the largest value that Kafka takes, by kind.
        frame_format: image format of pictures, as the setting has it.
    """

    def __init__(self, ids: Mapping[Kind, int], limits: Mapping[Kind, int], frame_format: str) -> None:
        self._encoders = {kind: Encoder(kind, number) for kind, number in ids.items()}
        self._frame_format = frame_format
        self.limits = limits
        self.steps_header = HEADER.pack(MAGIC, ids[Kind.STEPS])

    def __call__(self, kind: Kind, record: Record) -> tuple[Kind, bytes, bytes]:
        """Kind, key and value of a record."""
        return kind, record["run_id"].encode(), self._encoders[kind](record)

    def frame(self, record: Record, picture: Picture) -> tuple[Kind, bytes, bytes] | None:
        """The frame of a picture; None, and a warning, where it cannot be read or is too large."""
        try:
            media_type, data, width, height = encode(picture, self._frame_format)
        except NotAPictureError as error:
            log.warning("a picture could not be decoded", line=record["seq"], reason=str(error))
            return None
        shown = {"media_type": media_type, "data": data, "width": width, "height": height}
        made = self(Kind.FRAMES, record | shown)
        if len(made[2]) > self.limits[Kind.FRAMES]:
            log.warning("a picture is too large for Kafka", line=record["seq"], bytes=len(made[2]))
            return None
        return made


class _Made(NamedTuple):
    """What one line became."""

    records: list[tuple[Kind, bytes, bytes]]
    event: Event


class StreamEncoder:
    """Encodes the lines of one stream.

    Args:
        normalise: reads every line that is no common step.
        sampler: says which pictures are sent, and when.
        counts: records by kind; changed with each line.
        records: encodes what the normaliser returns.
        longest_line: the setting `max_line_bytes`.
    """

    def __init__(
        self,
        normalise: Normaliser,
        sampler: FrameSampler,
        counts: dict[str, int],
        records: RecordEncoder,
        longest_line: int,
    ) -> None:
        self.stream_id = normalise.identity.stream_id
        self._normalise, self._sampler, self._counts = normalise, sampler, counts
        self._records, self._longest_line = records, longest_line
        self._fast = FastStep(normalise.identity, normalise.context, records.steps_header)

    def lines(self, chunk: Chunk, window: Window, before: Checkpoint) -> None:
        """Add the records of some lines.

        Args:
            before: a checkpoint before these lines: where to begin again for a picture that must wait.
        """
        if isinstance(chunk.lines, Long):
            self._long(chunk.lines, chunk, window, before)
            return
        fast, append, limit = self._fast, window.items.append, self._records.limits[Kind.STEPS]
        seq, steps, size = chunk.first, 0, 0
        for line, arrived in chunk.with_arrivals():
            try:
                value = fast(line, seq, arrived) if fast.learned else None
                made = self._normalised(line, seq, arrived) if value is None else None
            except Exception as error:  # a line that fails must not cost others
                value, made = None, self._made(self._normalise.failed(line, error, seq, arrived))
            if made is not None:
                self._add(made, line, window, before)
            elif value is not None:
                steps += 1
                size += len(value)
                append(
                    (Kind.STEPS, fast.key, value, self, line)
                    if len(value) <= limit
                    else self._too_large(Kind.STEPS, value, line)
                )
            seq += 1
        if steps:
            self._count(Kind.STEPS, steps)
            window.size += size

    def pictures(self, due: Iterable[tuple[Record, Picture]], window: Window) -> None:
        """Add the frames of pictures whose turn has come."""
        for record, picture in due:
            if (frame := self._records.frame(record, picture)) is not None:
                window.items.append((*frame, self, None))
                self._count(Kind.FRAMES)

    def refused(self, kind: Kind, value: bytes, line: bytes, message: str) -> Item:
        """The dead letter of a record that Kafka does not take; the record counts as that."""
        self._count(kind, -1)
        self._count(Kind.DLQ)
        letter = self._normalise.letter(Decoder(kind)(value), line, "too_large", message)
        return (*self._records(Kind.DLQ, letter.record), self, line)

    def _long(self, long: Long, chunk: Chunk, window: Window, before: Checkpoint) -> None:
        arrived = chunk.times[0][1]
        letter = self._normalise.too_long(long.head, long.length, self._longest_line, chunk.first, arrived)
        self._add(self._made(letter), long.head, window, before)

    def _normalised(self, line: bytes, seq: int, arrived: int) -> _Made:
        event = self._normalise(line, seq, arrived)
        if event.step_names:
            self._fast.learn(event.step_names)
        return self._made(event)

    def _made(self, event: Event) -> _Made:
        everything = ((event.kind, event.record), *event.beside)
        return _Made([self._records(kind, record) for kind, record in everything], event)

    def _add(self, made: _Made, line: bytes, window: Window, before: Checkpoint) -> None:
        for kind, key, value in made.records:
            self._count(kind)
            window.size += len(value)
            item = kind, key, value, self, line
            fits = len(value) <= self._records.limits[kind]
            window.items.append(item if fits else self._too_large(kind, value, line))
        if made.event.picture is not None:
            due = self._sampler.offer(made.event.record, made.event.picture, before)
            self.pictures([due] if due is not None else [], window)

    def _too_large(self, kind: Kind, value: bytes, line: bytes) -> Item:
        return self.refused(kind, value, line, f"Its record of {len(value):,} bytes is too large for Kafka.")

    def _count(self, kind: Kind, more: int = 1) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + more
