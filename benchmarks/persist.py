"""Kafka into SQL, exactly once: the service against the sum of its parts, and against what else there is."""

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
    """Kafka → PostgreSQL against the sum of its parts, and beside SQLAlchemy's ways to do the same.

    The peer is the bulk upsert of its documentation, one statement of many rows through the session; a list
    of parameters to Core, which psycopg sends as a pipeline, is far quicker, and is told in the note.
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
    """Kafka → SQLite against the sum of its parts."""
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
    """What it costs that one record in 2,000 cannot be stored: by turns broken JSON and broken Avro.

    Measured until all but the last batch are stored, each as a row or a letter: the letters that come
    behind them all would wait for a batch to fill.
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
    """What a user would take instead: one task of Debezium's JDBC sink, upserting the same records.

    Its rate is that of its rows from a quarter of them on, when it has warmed up.
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
    """Two processes on two partitions against one."""
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
    """Every part in turn, so many times over. A part returns its rate: what it needs ready takes no time."""
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            seen[name].append(part())
    return {name: Rates(tuple(rates)) for name, rates in seen.items()}


def _told(seen: Mapping[str, Rates]) -> str:
    return ", ".join(f"{name} {rates.best / 1000:.0f}k/s" for name, rates in seen.items())
