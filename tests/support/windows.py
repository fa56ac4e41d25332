"""A stream read to its end as the forwarder reads it, without Kafka."""

from __future__ import annotations

from collections.abc import Iterator

from producers.forward.encoder import RecordEncoder, Window
from producers.forward.stream import Stream
from schemas.codec import current_id
from schemas.topics import Kind


def record_encoder() -> RecordEncoder:
    """An encoder with the checked-in ids, for a Kafka that takes records of any size."""
    return RecordEncoder({kind: current_id(kind) for kind in Kind}, dict.fromkeys(Kind, 1 << 30), "png")


def windows(stream: Stream, most: int) -> Iterator[Window]:
    """Windows of at most so many lines; each is acknowledged when the next one is asked for."""
    records = record_encoder()
    while not stream.ended:
        stream.wake()
        window = Window(most)
        stream.fill(window, records)
        if window.items:
            yield window
        if (checkpoint := window.checkpoints.get(stream.stream_id)) is not None:
            stream.acknowledge(checkpoint)
