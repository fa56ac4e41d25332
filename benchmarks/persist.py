"""Kafka into SQL, exactly once: the service against the sum of its parts, and against what else there is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import psycopg
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from sqlalchemy import Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from benchmarks import connect
from benchmarks.harness import ROUNDS, Rates, Row, Unmeasured, harmonic
from consumers.persist.dead_letters import DeadLetterWriter
from consumers.persist.service import Persist
from infra.embedded.jars import class_path
from infra.embedded.kafka import KafkaServer
from infra.kafka import client as kafka_clients
from infra.kafka import topics
from infra.settings import Settings, load
from infra.sql import engine as sql
from infra.sql import migrations
from infra.sql.writers import open_writer
from infra.sql.writers.base import TIME_COLUMN, moment
from infra.sql.writers.postgres import COPIES, POSTGRES_EPOCH, TYPES
from infra.sql.writers.sqlite import INSERTS
from schemas.codec import HEADER, Decoder, current_schema, plain
from schemas.tables import Base, Step, utc_text
from schemas.topics import Kind
from tests.support.events import Stream, record
from tests.support.load import POISON
from tests.support.postgres import PostgresServer

EVENTS = 60_000
BATCH = 5_000
BAD_EVERY = 2_000
UNIT = "events/s"
BULK_ROWS = 10_000
UPSERT_ROWS = 2_000
UPSERTED_AT_ONCE = 500
"""Its best: PostgreSQL takes 65,535 parameters of one statement, and a larger one is no quicker."""
JSON_EVENTS = 120_000


def to_postgresql() -> Row:
    """Kafka → PostgreSQL against the sum of its parts, and beside SQLAlchemy's ways to do the same.

    The peer is the bulk upsert of its documentation, one statement of many rows through the session; a list
    of parameters to Core, which psycopg sends as a pipeline, is far quicker, and is told in the note.
    """
    with _stack() as stack:
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
    with _stack() as stack:
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
    with _stack() as stack:
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
    with _stack() as stack:
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
    with _stack() as stack:
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


class _Stack:
    """A Kafka with a topic of steps, and a database that is emptied before each round."""

    def __init__(self, kafka: KafkaServer, postgres: PostgresServer, folder: Path) -> None:
        self._folder = folder
        self._bootstrap_servers = kafka.address
        self._url = postgres.url("postgres")
        self.prefix = ""
        migrations.upgrade(self._engine())

    def use_sqlite(self) -> None:
        """SQLite from now on."""
        self._url = f"sqlite:///{self._folder / 'bench.db'}"
        migrations.upgrade(self._engine())

    def fill(self, bad_every: int = 0, partitions: int = 1) -> str:
        """New topics, the one of steps full; returns their prefix."""
        self.prefix = f"bench-{uuid.uuid4().hex[:6]}."
        settings = replace(self._settings(self.prefix), partitions=partitions)
        topics.ensure_topics(settings)
        stream = Stream(self._bootstrap_servers, self.prefix, **{"compression.type": "lz4"})
        for seq in range(EVENTS):
            turn, place = divmod(seq, bad_every) if bad_every else (0, 0)
            if not bad_every or place != bad_every // 2:
                stream.send(Kind.STEPS, _step(seq))
            elif turn % 2:
                stream.raw(Kind.STEPS, POISON, b"run-000001")
            else:
                stream.send(Kind.STEPS, _step(seq, observation="{"))
        stream.flush()
        return self.prefix

    def records(self) -> list[dict[str, Any]]:
        """The records, decoded."""
        decode = Decoder(Kind.STEPS)
        return [decode(value) for value in self._values()]

    def persisted(self, prefix: str = "", stored: int = EVENTS) -> float:
        """The service itself, from its first batch on."""
        settings = self._settings(prefix or self.prefix)
        self._empty()
        letters = TopicPartition(Kind.DLQ.topic(settings.topic_prefix), 0, OFFSET_END)
        admin = kafka_clients.admin(settings)  # kept: without it no answer comes
        admin.delete_records([letters])[letters].result(10)  # of the round before
        service = Persist(settings, open_writer(settings), Decoder, DeadLetterWriter)
        stop, done, first = threading.Event(), 0, 0
        try:
            while not first:
                began = time.perf_counter()
                first = service.turn(stop)
            done = first
            while done < stored:
                done += service.turn(stop)
            return done / (time.perf_counter() - began)
        finally:
            service.close()

    def consumed(self) -> float:
        """consume() and value() alone."""
        began = time.perf_counter()
        return len(list(self._values())) / (time.perf_counter() - began)

    def decoded(self) -> float:
        """fastavro's reader alone, without logical types."""
        values, schema = list(self._values()), fastavro.parse_schema(plain(current_schema(Kind.STEPS)))
        began = time.perf_counter()
        for value in values:
            body = io.BytesIO(value)
            body.seek(HEADER.size)
            fastavro.schemaless_reader(body, schema, None)
        return EVENTS / (time.perf_counter() - began)

    def copied(self, rows: list[list[Any]]) -> float:
        """psycopg's COPY of ready rows alone."""
        self._empty()
        with psycopg.connect(self._url.replace("+psycopg", "")) as connection:
            began = time.perf_counter()
            for start in range(0, EVENTS, BATCH):
                with connection.cursor() as cursor, cursor.copy(COPIES["steps"]) as copy:
                    copy.set_types(TYPES["steps"])
                    for row in rows[start : start + BATCH]:
                        copy.write_row(row)
                connection.commit()
            return EVENTS / (time.perf_counter() - began)

    def executed(self, rows: list[list[Any]]) -> float:
        """sqlite3's executemany of ready rows alone."""
        self._empty()
        file = str(self._folder / "bench.db")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=NORMAL")
            began = time.perf_counter()
            for start in range(0, EVENTS, BATCH):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERTS["steps"], rows[start : start + BATCH])
                connection.execute("COMMIT")
            return EVENTS / (time.perf_counter() - began)

    def bulk_inserted(self, records: list[dict[str, Any]]) -> float:
        """What SQLAlchemy's Core does with a list of parameters."""
        self._empty()
        statement, parameters = insert(Step).on_conflict_do_nothing(), _parameters(records)
        with self._as_text().begin() as connection:
            began = time.perf_counter()
            for start in range(0, len(parameters), BATCH):
                connection.execute(statement, parameters[start : start + BATCH])
            return len(parameters) / (time.perf_counter() - began)

    def upserted(self, records: list[dict[str, Any]]) -> float:
        """SQLAlchemy's documented upsert of many rows."""
        self._empty()
        parameters = _parameters(records)
        with Session(self._as_text()) as session:
            began = time.perf_counter()
            for start in range(0, len(parameters), UPSERTED_AT_ONCE):
                rows = parameters[start : start + UPSERTED_AT_ONCE]
                session.execute(insert(Step).values(rows).on_conflict_do_nothing())
            session.commit()
            return len(parameters) / (time.perf_counter() - began)

    def _as_text(self) -> Engine:
        # JSON columns are given as the text that they are: no encoder counts against it.
        return sql.engine(self._settings(self.prefix), json_serializer=str)

    def fill_json(self) -> str:
        """A topic of the same steps as JSON, which Kafka Connect reads by itself; returns its name."""
        topic = f"{self.prefix}json"
        topics.ensure_topic(replace(self._settings(self.prefix), partitions=1), topic)
        producer = Producer({"bootstrap.servers": self._bootstrap_servers, "compression.type": "lz4"})
        for seq in range(JSON_EVENTS):
            if seq % 10_000 == 0:
                producer.flush(60)
            producer.produce(topic, json.dumps(_step(seq) | {"topic_partition": 0, "topic_offset": seq}))
        producer.flush(60)
        return topic

    def sunk(self, topic: str) -> float:
        """Debezium's sink: rows by time."""
        self._empty()
        database = self._url.replace("+psycopg", "")
        with connect.sink(self._folder, self._bootstrap_servers, topic, database, BATCH):
            began, first = self._wait(JSON_EVENTS // 4)
            ended, _ = self._wait(JSON_EVENTS)
            return (JSON_EVENTS - first) / (ended - began)

    def processes(self, count: int) -> float:
        """The real program, so many of them: rows by time, from the first row on."""
        self._empty()
        settings = self._settings(self.prefix)
        names = ("bootstrap_servers", "topic_prefix", "group_prefix", "database_url")
        told = {f"STEPSTREAM_{name.upper()}": str(getattr(settings, name)) for name in names}
        command = [str(Path(sys.executable).with_name("stepstream")), "persist"]
        running = [subprocess.Popen(command, env=os.environ | told) for _ in range(count)]
        try:
            began, first = self._wait(1)
            ended, _ = self._wait(EVENTS)
            return (EVENTS - first) / (ended - began)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(10)

    def _wait(self, rows: int, seconds: float = 90) -> tuple[float, int]:
        deadline = time.perf_counter() + seconds
        with self._engine().connect() as connection:
            while (found := connection.scalar(select(func.count()).select_from(Step)) or 0) < rows:
                if time.perf_counter() > deadline:
                    raise Unmeasured(f"{found} of {rows} rows after {seconds:.0f} s")
                connection.rollback()
                time.sleep(0.1)
        return time.perf_counter(), found

    def _values(self) -> Iterator[bytes]:
        consumer = Consumer(
            {"bootstrap.servers": self._bootstrap_servers, "group.id": "bench", "enable.auto.commit": False}
        )
        consumer.assign([TopicPartition(Kind.STEPS.topic(self.prefix), 0, 0)])
        left = EVENTS
        while left:
            messages = consumer.consume(min(BATCH, left), 1)
            left -= len(messages)
            yield from (message.value() or b"" for message in messages)
        consumer.close()

    def _settings(self, prefix: str) -> Settings:
        return replace(
            load(),
            home=self._folder,
            bootstrap_servers=self._bootstrap_servers,
            database_url=self._url,
            topic_prefix=prefix,
            group_prefix=f"bench-{uuid.uuid4().hex[:6]}.",
            batch_records=BATCH,
        )

    def _engine(self) -> Engine:
        return sql.engine(self._settings(self.prefix))

    def _empty(self) -> None:
        with self._engine().begin() as connection:
            for name in Base.metadata.tables:
                connection.execute(text(f"DELETE FROM {name}"))
        if self._url.startswith("postgresql"):
            with psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute(b"VACUUM FULL")
                connection.execute(b"CHECKPOINT")


@contextlib.contextmanager
def _stack() -> Iterator[_Stack]:
    folder = Path(tempfile.mkdtemp(prefix="stepstream-bench-"))
    kafka, postgres = KafkaServer(folder / "kafka", class_path(Path())), PostgresServer()
    try:
        kafka.start()
        postgres.start()
        yield _Stack(kafka, postgres, folder)
    finally:
        kafka.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _rounds(parts: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, Rates]:
    """Every part in turn, so many times over. A part returns its rate: what it needs ready takes no time."""
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            seen[name].append(part())
    return {name: Rates(tuple(rates)) for name, rates in seen.items()}


def _parameters(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    place = {"topic_partition": 0, "topic_offset": 0}
    return [{**fields, **place, "event_time": moment(fields["event_time"])} for fields in records]


def _told(seen: Mapping[str, Rates]) -> str:
    return ", ".join(f"{name} {rates.best / 1000:.0f}k/s" for name, rates in seen.items())


def _step(seq: int, **own: Any) -> dict[str, Any]:
    fields = {
        "run_id": "run-000001",
        "stream_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "worker_id": "w0",
        "observation": '{"row":3,"pos":[0.1,0.22,0.333,0.4444]}',
        "reward": 0.123456789 + seq,
        "terminated": False,
        "truncated": False,
        "info": '{"lives":3,"x":1.5}',
        "metrics": '{"epsilon":0.31,"q_before":0.11,"q_after":0.2}',
    }
    return record(Kind.STEPS, seq, **fields | own)
