"""Persist from Kafka into SQL, exactly once, against the sum of its parts and against other tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from benchmarks import connect
from benchmarks.harness import ROUNDS, Rates, Row, Unmeasured, harmonic
from benchmarks.persist_stack import BATCH, EVENTS, open_stack
from infra.sql.writers.base import TIME_COLUMN, moment
from infra.sql.writers.postgres import POSTGRES_EPOCH
from schemas.tables import utc_text

BAD_EVERY = 2_000
UNIT = "events/s"
BULK_ROWS = 10_000
UPSERT_ROWS = 2_000


def to_postgresql() -> Row:
    """Measure Kafka → PostgreSQL against the sum of its parts, and beside SQLAlchemy.

    The peer is the bulk upsert in SQLAlchemy's documentation, one statement of many rows through the session.
    Core with a list of parameters, which psycopg sends as a pipeline, is much faster and stands in the note.
    """
    with open_stack() as stack:
        stack.fill()
        records = stack.records()
        rows = [[*fields.values(), 0, place] for place, fields in enumerate(records)]
        for row in rows:
            row[TIME_COLUMN] -= POSTGRES_EPOCH
        seen = _rounds(
            {
                "whole": stack.persisted,
                "consume": stack.consumed,
                "decode": stack.decoded,
                "copy": lambda: stack.copied(rows),
                "executemany": lambda: stack.bulk_inserted(records[:BULK_ROWS]),
                "upsert": lambda: stack.upserted(records[:UPSERT_ROWS]),
            }
        )
    return Row(
        "Kafka → PostgreSQL, exactly once, with primary key and index",
        seen["whole"].best,
        UNIT,
        limit=harmonic(seen["consume"].best, seen["decode"].best, seen["copy"].best),
        limit_name="harmonic sum of consume, fastavro and binary COPY",
        peer=seen["upsert"].best,
        peer_name="SQLAlchemy's bulk upsert through the session, fed decoded records",
        spread=seen["whole"].spread,
        goal="0.8 of the limit, 4 × the peer",
        note=f"{_told(seen)}; {seen['whole'].best / seen['executemany'].best:.1f} × Core's executemany",
    )


def to_sqlite() -> Row:
    """Measure Kafka → SQLite against the sum of its parts."""
    with open_stack() as stack:
        stack.use_sqlite()
        stack.fill()
        rows = [[*fields.values(), 0, place] for place, fields in enumerate(stack.records())]
        for row in rows:
            row[TIME_COLUMN] = utc_text(moment(row[TIME_COLUMN]))
        seen = _rounds(
            {
                "whole": stack.persisted,
                "consume": stack.consumed,
                "decode": stack.decoded,
                "executemany": lambda: stack.executed(rows),
            }
        )
    return Row(
        "Kafka → SQLite, exactly once, with primary key and index",
        seen["whole"].best,
        UNIT,
        limit=harmonic(seen["consume"].best, seen["decode"].best, seen["executemany"].best),
        limit_name="harmonic sum of consume, fastavro and sqlite3's executemany",
        spread=seen["whole"].spread,
        goal="0.8 of the limit",
        note=_told(seen),
    )


def bad_records() -> Row:
    """Measure the cost of one record in 2,000 that is refused: broken JSON and broken Avro in turn.

    The time ends before the last batch, because the last records would wait for a batch to fill.
    """
    with open_stack() as stack:
        stack.fill()
        clean, bad = stack.prefix, stack.fill(bad_every=BAD_EVERY)
        most = EVENTS - BATCH
        seen = _rounds(
            {"bad": lambda: stack.persisted(bad, most), "clean": lambda: stack.persisted(clean, most)}
        )
    return Row(
        "Kafka → PostgreSQL, one record in 2,000 refused",
        seen["bad"].best,
        UNIT,
        limit=seen["clean"].best,
        limit_name="the same without bad records",
        spread=seen["bad"].spread,
        goal="0.9 of the limit",
    )


def beside_debezium() -> Row:
    """Measure persist beside one task of Debezium's JDBC sink, which upserts the same records.

    The sink's rate begins at a quarter of the rows, when it has warmed up.
    """
    connect.jars()
    with open_stack() as stack:
        stack.fill()
        topic = stack.fill_json()
        seen = _rounds({"ours": stack.persisted, "sink": lambda: stack.sunk(topic)}, rounds=2)
    return Row(
        "Kafka → PostgreSQL, beside Kafka Connect",
        seen["ours"].best,
        UNIT,
        peer=seen["sink"].best,
        peer_name="Debezium's JDBC sink, one task, upsert in batches of 5,000, fed JSON",
        spread=seen["ours"].spread,
        goal="2 × the peer",
    )


def two_processes() -> Row:
    """Measure two processes on two partitions against one process."""
    cores = os.cpu_count() or 1
    if cores < 4:
        raise Unmeasured(f"two processes, Kafka and PostgreSQL want 4 cores, and there are {cores}")
    with open_stack() as stack:
        stack.fill(partitions=2)
        seen = _rounds({"two": lambda: stack.processes(2), "one": lambda: stack.processes(1)}, rounds=3)
    return Row(
        "two persist processes on two partitions",
        seen["two"].best,
        UNIT,
        peer=seen["one"].best,
        peer_name="one process",
        spread=seen["two"].spread,
        goal="1.7 × the peer",
    )


def _rounds(parts: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, Rates]:
    """Run every part in turn, `rounds` times. A part returns its own rate, so its setup is not timed."""
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            seen[name].append(part())
    return {name: Rates(tuple(rates)) for name, rates in seen.items()}


def _told(seen: Mapping[str, Rates]) -> str:
    return ", ".join(f"{name} {rates.best / 1000:.0f}k/s" for name, rates in seen.items())
