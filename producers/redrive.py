"""Dead letters in SQL: found, and sent again once the line, or the reader of lines, is mended.

A redriven letter keeps the run, stream and number of its line, so it conflicts with nothing: it goes where
the line would have gone, and the row in `dead_letters` stays, with the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Engine, Select, select, update

from infra.kafka.batch_producer import BatchProducer
from infra.kafka.registry import Registry
from infra.settings import Settings
from infra.sql import engine as sql
from producers.lines.context import Identity
from producers.lines.normalise import OF_SDK, Normaliser
from producers.lines.times import microseconds
from schemas.codec import Encoder
from schemas.errors import BrokerError
from schemas.tables import DeadLetter, Run
from schemas.topics import Kind

WINDOW = 500
FLUSH_SECONDS = 60.0


class Wanted(NamedTuple):
    """Which letters: None is any."""

    run_id: str | None = None
    stream_id: str | None = None
    seq: int | None = None
    reason: str | None = None


class Outcome(NamedTuple):
    """What became of a letter: the kind it was sent as, or why it still cannot be used."""

    stream_id: str
    seq: int
    kind: str | None
    reason: str | None
    message: str | None


def found(
    engine: Engine, wanted: Wanted, *, waiting: bool = False, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """Letters by run, stream and number.

    Args:
        waiting: only those not redriven yet.

    Raises:
        DatabaseError: the database does not answer.
    """
    query: Select[Any] = select(DeadLetter.__table__).order_by(
        DeadLetter.run_id, DeadLetter.stream_id, DeadLetter.seq
    )
    for name, value in wanted._asdict().items():
        if value is not None:
            query = query.where(getattr(DeadLetter, name) == value)
    if waiting:
        query = query.where(DeadLetter.redriven_at.is_(None))
    with sql.reading(engine) as connection:
        rows = connection.execution_options(yield_per=WINDOW).execute(query.limit(limit))
        for row in rows.mappings():
            yield dict(row)


class Redriver:
    """Sends letters again.

    Args:
        raw: stands in place of what the letter holds: the mended line.

    Raises:
        BrokerError: no broker answers.
    """

    def __init__(self, settings: Settings, engine: Engine, raw: bytes | None = None) -> None:
        self._engine, self._raw = engine, raw
        registry = Registry(settings)
        self._encoders = {kind: Encoder(kind, registry.id_to_write(kind)) for kind in Kind}
        self._prefix = settings.topic_prefix
        self._outbox = BatchProducer(settings)

    def send(self, letters: list[dict[str, Any]]) -> list[Outcome]:
        """Send what can be used by now, wait for Kafka, and write down that it was.

        Raises:
            BrokerError: Kafka did not take it; nothing was written down.
        """
        outcomes = [self._send(letter) for letter in letters]
        if not self._outbox.flush(FLUSH_SECONDS):
            raise BrokerError(f"Kafka did not acknowledge within {FLUSH_SECONDS:.0f} s: try again.")
        if failures := self._outbox.failures():
            raise BrokerError(f"Kafka did not take a letter ({failures[0].reason}): nothing was marked.")
        sent = [letter for letter, outcome in zip(letters, outcomes, strict=True) if outcome.kind]
        self._mark(sent)
        return outcomes

    def _send(self, letter: dict[str, Any]) -> Outcome:
        where = letter["stream_id"], letter["seq"]
        raw = bytes(letter["raw"]) if self._raw is None else self._raw
        key = letter["run_id"].encode()
        if letter["topic"] is not None:  # a record that a consumer refused
            self._outbox.send(letter["topic"], key, raw)
            return Outcome(*where, letter["topic"].removeprefix(self._prefix), None, None)
        sdk = letter["producer_version"].endswith(OF_SDK)
        identity = Identity(letter["stream_id"], letter["run_id"], letter["agent_id"], sdk=sdk)
        event = Normaliser(identity)(raw, letter["seq"], microseconds(letter["event_time"]))
        if event.kind is Kind.DLQ:
            return Outcome(*where, None, event.record["reason"], event.record["message"])
        record = event.record | {"run_id": letter["run_id"]}
        self._outbox.send(event.kind.topic(self._prefix), key, self._encoders[event.kind](record))
        return Outcome(*where, event.kind.value, None, None)

    def _mark(self, letters: list[dict[str, Any]]) -> None:
        now = datetime.now(UTC)
        with sql.writing(self._engine) as connection:
            for letter in letters:
                key = (
                    DeadLetter.run_id == letter["run_id"],
                    DeadLetter.stream_id == letter["stream_id"],
                    DeadLetter.seq == letter["seq"],
                )
                first = DeadLetter.redriven_at.is_(None)
                marked = connection.execute(update(DeadLetter).where(*key, first).values(redriven_at=now))
                if marked.rowcount:  # from now on its line counts as what it became
                    one_less = update(Run).where(Run.run_id == letter["run_id"])
                    connection.execute(one_less.values(dead_letters=Run.dead_letters - 1))
