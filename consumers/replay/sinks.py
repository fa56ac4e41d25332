"""Where a replay goes: JSONL on a stream, another topic. Other modules have databases and the dashboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from consumers.replay.lines import as_line
from consumers.replay.tape import Item
from infra.kafka import client as kafka
from infra.kafka import topics
from infra.settings import Settings
from schemas.codec import Decoder, Schema
from schemas.errors import BrokerError, UsageError
from schemas.topics import LINES, SPECS, Kind

Lookup = Callable[[int], Schema]
SEND_S = 30.0


class JsonLines:
    """Lines that can be ingested again."""

    kinds: tuple[Kind, ...] = LINES

    def __init__(self, lookup: Lookup, out: BinaryIO) -> None:
        self._decoders = {kind: Decoder(kind, lookup) for kind in LINES}
        self._out = out

    def write(self, items: list[Item]) -> None:
        """Write a line for each record that was a worker's line."""
        lines = (as_line(item.kind, self._decoders[item.kind](item.value)) for item in items)
        self._out.write(b"".join(line + b"\n" for line in lines if line is not None))
        self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""


class Topic:
    """One topic for all records: the same bytes under the same key, in order.

    Raises:
        UsageError: the topic is one of those that are read.
        BrokerError: Kafka does not answer, or refuses.
    """

    kinds: tuple[Kind, ...] = tuple(Kind)

    def __init__(self, settings: Settings, name: str, run_id: str) -> None:
        if name in {spec.name(settings.topic_prefix) for spec in SPECS}:
            raise UsageError(f"{name} is one of the topics that are read: the run would be there twice.")
        topics.ensure_topic(settings, name)
        self._name, self._key = name, run_id
        self._failed: list[str] = []
        self._producer = kafka.producer(
            settings, on_delivery=self._delivered, **{"delivery.report.only.error": True}
        )

    def write(self, items: list[Item]) -> None:
        """Send records and wait until they are acknowledged.

        Raises:
            BrokerError: Kafka did not take a record.
        """
        for item in items:
            self._producer.produce(self._name, item.value, self._key, timestamp=item.timestamp)
        left = self._producer.flush(SEND_S)
        if left or self._failed:
            why = (
                self._failed[0] if self._failed else f"{left} records are not acknowledged after {SEND_S:g} s"
            )
            raise BrokerError(f"{self._name} cannot be written: {why}.")

    def close(self) -> None:
        """All is acknowledged."""

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))
