"""Persist stores the new records of a batch, skips the known ones and refuses only the bad ones."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text, update

from consumers.persist.batch import Outcome, Storer
from consumers.persist.dead_letters import DeadLetterWriter
from infra.settings import load
from infra.sql import migrations
from infra.sql.writers import Writer, open_writer
from infra.sql.writers.base import moment
from schemas.codec import Decoder, Encoder
from schemas.tables import DeadLetter, Step
from schemas.topics import Kind
from tests.support.events import record

ENCODERS = {kind: Encoder(kind) for kind in (Kind.STEPS, Kind.DLQ)}


@dataclass(frozen=True)
class Message:
    """A record as Kafka's client gives it."""

    kind: Kind
    at: int
    body: bytes | None

    def topic(self) -> str:
        """Return the topic."""
        return f"telemetry.{self.kind.value}"

    def partition(self) -> int:
        """Return the partition."""
        return 2

    def offset(self) -> int:
        """Return the offset."""
        return self.at

    def key(self) -> bytes | None:
        """Return the key, in bytes."""
        return b"run"

    def value(self) -> bytes | None:
        """Return the value, in bytes."""
        return self.body

    def timestamp(self) -> tuple[int, int]:
        """Return the type and the time that Kafka gives, in ms."""
        return 1, 1000 + self.at


def step(offset: int, seq: int, **own: Any) -> Message:
    """Return the Kafka message of a step."""
    return Message(Kind.STEPS, offset, ENCODERS[Kind.STEPS](record(Kind.STEPS, seq, **own)))


def store(
    writer: Writer, messages: list[Message], storer: Storer | None = None, deleted: Any = None
) -> Outcome:
    """Store a batch of steps in a transaction of its own."""
    storer = storer or Storer(Kind.STEPS, Decoder(Kind.STEPS))
    with writer.transaction() as tx:
        return storer.store(tx, messages, deleted or {})


def seqs(writer: Writer) -> list[int]:
    """Return the line numbers of the stored steps."""
    with writer.transaction() as tx:
        return list(tx.connection.scalars(select(Step.seq).order_by(Step.seq)))


BAD = {"late": {"event_time": 1 << 62}, "no JSON": {"info": "{"}, "NUL": {"worker_id": "\0"}}
bad = st.sampled_from(["unreadable", *BAD])
good = st.integers(1, 12)


@given(st.lists(st.lists(good | bad, max_size=12), max_size=5))
@examples(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_batches_of_new_known_and_bad_records(writer: Writer, batches: list[list[Any]]):
    """Every key is stored and counted once; every bad record is refused once; the others are repeats."""
    with writer.transaction() as tx:
        tx.connection.execute(delete(Step))
    storer, offset, total = Storer(Kind.STEPS, Decoder(Kind.STEPS)), 0, Outcome()
    for batch in batches:
        messages = []
        for what in batch:
            offset += 1
            if what == "unreadable":
                messages.append(Message(Kind.STEPS, offset, b"?"))
            else:
                messages.append(step(offset, 99, **BAD[what]) if what in BAD else step(offset, what))
        total.add(store(writer, messages, storer))
    flat = [what for batch in batches for what in batch]
    numbers = [what for what in flat if isinstance(what, int)]
    assert seqs(writer) == sorted(set(numbers))
    assert total.stored == len(set(numbers))
    assert sum(run.steps for run in total.fold.runs.values()) == total.stored
    assert sum(agent.steps for agent in total.fold.agents.values()) == total.stored
    assert total.repeated == len(numbers) - total.stored
    assert [refused.message.offset() for refused in total.refused] == [
        place for place, what in enumerate(flat, 1) if isinstance(what, str)
    ]


def test_what_is_unfit_is_found_among_thousands(writer: Writer):
    """Bad records anywhere in a batch are refused alone, without a second, slower attempt."""
    wrong = {0: {"observation": "{"}, 700: {"worker_id": "\0"}, 701: {"extras": "NaN"}, 1999: {"info": ""}}
    with writer.transaction() as tx, mock.patch.object(tx, "insert_new") as carefully:
        outcome = Storer(Kind.STEPS, Decoder(Kind.STEPS)).store(
            tx, [step(i, i, **wrong.get(i, {})) for i in range(2000)], {}
        )
    assert [refused.record["seq"] for refused in outcome.refused if refused.record] == list(wrong)
    assert outcome.stored == 1996
    assert seqs(writer) == [i for i in range(2000) if i not in wrong]
    carefully.assert_not_called()


def test_what_only_the_database_refuses_is_found_among_thousands(postgres: str):
    """If the database refuses a row that passed every check, the other rows are stored."""
    writer = open_writer(replace(load({}), database_url=postgres))
    migrations.upgrade(writer.engine)
    with writer.transaction() as tx:
        tx.connection.execute(text("ALTER TABLE steps ADD CHECK (seq % 1000 <> 7)"))
        outcome = Storer(Kind.STEPS, Decoder(Kind.STEPS)).store(tx, [step(i, i) for i in range(2000)], {})
    assert [refused.record["seq"] for refused in outcome.refused if refused.record] == [7, 1007]
    assert outcome.stored == 1998
    assert seqs(writer) == [i for i in range(2000) if i % 1000 != 7]
    writer.close()


def test_records_of_a_deleted_run_stay_away_and_a_run_begun_anew_does_not(writer: Writer):
    """Records from before a run's deletion are not stored; later ones under its name are stored."""
    deleted = {"run": (1000 + 5) * 1000}
    outcome = store(writer, [step(i, i) for i in range(1, 10)], deleted=deleted)
    assert seqs(writer) == [6, 7, 8, 9]
    assert outcome.of_deleted_runs == 5


def test_two_workers_on_one_stream_are_noticed(writer: Writer):
    """A stored key that comes again with another time is counted as a contradiction and not stored."""
    store(writer, [step(1, 1), step(2, 2)])
    outcome = store(writer, [step(3, 1), step(4, 2, event_time=5)])
    assert (outcome.stored, outcome.repeated, outcome.contradicted) == (0, 2, 1)


def test_a_letter_about_a_letter_ends(writer: Writer):
    """A dead letter with characters that a database refuses is stored with replacement characters."""
    storer = Storer(Kind.DLQ, Decoder(Kind.DLQ))
    broken = record(Kind.DLQ, 7, message="nul \0", run_id="a\0b", event_time=1 << 62)
    with writer.transaction() as tx:
        outcome = storer.store(tx, [Message(Kind.DLQ, 41, ENCODERS[Kind.DLQ](broken))], {})
    letter = DeadLetterWriter()(outcome.refused[0])
    headers = dict(letter.headers)
    assert headers["__connect.errors.topic"] == "telemetry.dlq"
    assert (headers["__connect.errors.partition"], headers["__connect.errors.offset"]) == ("2", "41")
    with writer.transaction() as tx:
        again = storer.store(tx, [Message(Kind.DLQ, 42, letter.value)], {})
        stored = tx.connection.execute(select(DeadLetter.__table__)).mappings().one()
    assert (again.stored, again.refused) == (1, [])
    assert (stored["stream_id"], stored["seq"], stored["run_id"]) == ("telemetry.dlq-2", 41, "a\ufffdb")
    assert (stored["topic"], stored["topic_partition"], stored["topic_offset"]) == ("telemetry.dlq", 2, 41)


@pytest.mark.parametrize("name", ["run_id", "stream_id", "agent_id", "worker_id"])
def test_a_letter_about_an_id_too_long_is_stored(writer: Writer, name: str):
    """A dead letter about an id that is too long is stored, and keeps its stream and number if they fit."""
    outcome = store(writer, [step(7, 1), step(8, 2, **{name: secrets.token_hex(3000)})])
    assert (outcome.stored, len(outcome.refused)) == (1, 1)
    letter = DeadLetterWriter()(outcome.refused[0])
    with writer.transaction() as tx:
        again = Storer(Kind.DLQ, Decoder(Kind.DLQ)).store(tx, [Message(Kind.DLQ, 1, letter.value)], {})
        stored = tx.connection.execute(select(DeadLetter.stream_id, DeadLetter.seq)).one()
    assert (again.stored, again.refused) == (1, [])
    assert tuple(stored) == (("telemetry.steps-2", 8) if name == "stream_id" else ("stream", 2))


def test_a_worker_s_letter_keeps_its_own_place(writer: Writer):
    """A line that a producer refused is stored with its offset on the dlq topic."""
    with writer.transaction() as tx:
        Storer(Kind.DLQ, Decoder(Kind.DLQ)).store(
            tx, [Message(Kind.DLQ, 3, ENCODERS[Kind.DLQ](record(Kind.DLQ, 1)))], {}
        )
        assert tx.connection.scalar(select(func.count()).where(DeadLetter.topic.is_(None))) == 1
        assert tx.connection.scalar(select(DeadLetter.topic_offset)) == 3


def test_a_redriven_letter_that_is_refused_again_waits_again(writer: Writer):
    """A letter sent again before its redrive changes nothing; one sent after it waits again."""
    storer = Storer(Kind.DLQ, Decoder(Kind.DLQ))
    body = ENCODERS[Kind.DLQ](record(Kind.DLQ, 1))
    redriven = moment((1000 + 10) * 1000)
    for offset, expected, letters in ((5, redriven, []), (20, None, [1])):
        with writer.transaction() as tx:
            storer.store(tx, [Message(Kind.DLQ, 3, body)], {})
            tx.connection.execute(update(DeadLetter).values(redriven_at=redriven))
            outcome = storer.store(tx, [Message(Kind.DLQ, offset, body)], {})
            assert outcome.repeated == 1
            assert [run.dead_letters for run in outcome.fold.runs.values()] == letters
            assert tx.connection.scalar(select(DeadLetter.redriven_at)) == expected
