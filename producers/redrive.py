"""Sends dead letters again, once the line, or the reader of lines, is corrected.

A redriven letter keeps the run, stream and number of its line, so its row conflicts with no other. The row in
`dead_letters` stays and gets the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from infra.kafka.batch_producer import BatchProducer
from infra.kafka.registry import Registry
from infra.settings import Settings
from producers.lines.context import Identity
from producers.lines.normalise import OF_SDK, Normaliser
from producers.lines.times import microseconds
from schemas.codec import Encoder
from schemas.errors import BrokerError
from schemas.topics import Kind

FLUSH_SECONDS = 60.0


class Outcome(NamedTuple):
    """The kind as which a letter was sent, or why it still cannot be used."""

    stream_id: str
    seq: int
    kind: str | None
    reason: str | None
    message: str | None


class Redriver:
    """Sends letters again. It does not mark them: `infra.sql.dead_letters` does.

    Args:
        raw: the corrected line, sent in place of what the letter holds.

    Raises:
        BrokerError: no broker answers.
    """

    def __init__(self, settings: Settings, raw: bytes | None = None) -> None:
        self._raw = raw
        registry = Registry(settings)
        self._encoders = {kind: Encoder(kind, registry.id_to_write(kind)) for kind in Kind}
        self._prefix = settings.topic_prefix
        self._producer = BatchProducer(settings)

    def send(self, letters: list[dict[str, Any]]) -> list[Outcome]:
        """Send the letters that can be used by now, and wait for Kafka's acknowledgement.

        Raises:
            BrokerError: Kafka did not take a letter.
        """
        outcomes = [self._send(letter) for letter in letters]
        if not self._producer.flush(FLUSH_SECONDS):
            raise BrokerError(f"Kafka did not acknowledge within {FLUSH_SECONDS:.0f} s: try again.")
        if failures := self._producer.failures():
            raise BrokerError(f"Kafka did not take a letter ({failures[0].reason}): nothing was marked.")
        return outcomes

    def _send(self, letter: dict[str, Any]) -> Outcome:
        where = letter["stream_id"], letter["seq"]
        raw = bytes(letter["raw"]) if self._raw is None else self._raw
        key = letter["run_id"].encode()
        if letter["topic"] is not None:  # a record that a consumer refused
            self._producer.send(letter["topic"], key, raw)
            return Outcome(*where, letter["topic"].removeprefix(self._prefix), None, None)
        sdk = letter["producer_version"].endswith(OF_SDK)
        identity = Identity(letter["stream_id"], letter["run_id"], letter["agent_id"], sdk=sdk)
        event = Normaliser(identity)(raw, letter["seq"], microseconds(letter["event_time"]))
        if event.kind is Kind.DLQ:
            return Outcome(*where, None, event.record["reason"], event.record["message"])
        record = event.record | {"run_id": letter["run_id"]}
        self._producer.send(event.kind.topic(self._prefix), key, self._encoders[event.kind](record))
        return Outcome(*where, event.kind.value, None, None)
