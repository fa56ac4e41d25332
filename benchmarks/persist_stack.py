"""What the benchmarks of persist share: a Kafka with steps, a database, and each part alone."""

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
from collections.abc import Iterator
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
from benchmarks.harness import Unmeasured
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
from infra.sql.writers.base import moment
from infra.sql.writers.postgres import COPIES, TYPES
from infra.sql.writers.sqlite import INSERTS
from schemas.codec import HEADER, Decoder, current_schema, plain
from schemas.tables import Base, Step
from schemas.topics import Kind
from tests.support.events import Stream, record
from tests.support.load import POISON
from tests.support.postgres import PostgresServer

EVENTS = 60_000
BATCH = 5_000
UPSERTED_AT_ONCE = 500
"""The fastest size: PostgreSQL takes 65,535 parameters in a statement, and more rows are no faster."""
JSON_EVENTS = 120_000


class Stack:
    """A Kafka with a topic of steps, and a database that is emptied before each round."""

    def __init__(self, kafka: KafkaServer, postgres: PostgresServer, folder: Path) -> None:
        self._folder = folder
        self._bootstrap_servers = kafka.address
        self._url = postgres.url("postgres")
        self.prefix = ""
        migrations.upgrade(self._engine())

    def use_sqlite(self) -> None:
        """Use SQLite from now on."""
        self._url = f"sqlite:///{self._folder / 'bench.db'}"
        migrations.upgrade(self._engine())

    def fill(self, bad_every: int = 0, partitions: int = 1) -> str:
        """Create new topics, fill that of steps and return their prefix."""
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
        """Return the decoded records."""
        decode = Decoder(Kind.STEPS)
        return [decode(value) for value in self._values()]

    def persisted(self, prefix: str = "", stored: int = EVENTS) -> float:
        """Return the rate of the service, from its first batch on."""
        settings = self._settings(prefix or self.prefix)
        self._empty()
        letters = TopicPartition(Kind.DLQ.topic(settings.topic_prefix), 0, OFFSET_END)
        admin = kafka_clients.admin(settings)  # the answer comes only while the client is kept
        admin.delete_records([letters])[letters].result(10)  # letters of the round before
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
        """Return the rate of consume() and value() alone."""
        began = time.perf_counter()
        return len(list(self._values())) / (time.perf_counter() - began)

    def decoded(self) -> float:
        """Return the rate of fastavro's reader alone, without logical types."""
        values, schema = list(self._values()), fastavro.parse_schema(plain(current_schema(Kind.STEPS)))
        began = time.perf_counter()
        for value in values:
            body = io.BytesIO(value)
            body.seek(HEADER.size)
            fastavro.schemaless_reader(body, schema, None)
        return EVENTS / (time.perf_counter() - began)

    def copied(self, rows: list[list[Any]]) -> float:
        """Return the rate of psycopg's COPY alone, with rows that are ready."""
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
        """Return the rate of sqlite3's executemany alone, with rows that are ready."""
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
        """Return the rate of SQLAlchemy's Core with a list of parameters."""
        self._empty()
        statement, parameters = insert(Step).on_conflict_do_nothing(), _parameters(records)
        with self._as_text().begin() as connection:
            began = time.perf_counter()
            for start in range(0, len(parameters), BATCH):
                connection.execute(statement, parameters[start : start + BATCH])
            return len(parameters) / (time.perf_counter() - began)

    def upserted(self, records: list[dict[str, Any]]) -> float:
        """Return the rate of SQLAlchemy's documented upsert of many rows."""
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
        # JSON columns are passed as text, so that no encoder's time counts against SQLAlchemy.
        return sql.engine(self._settings(self.prefix), json_serializer=str)

    def fill_json(self) -> str:
        """Create a topic of the same steps as JSON, which Kafka Connect reads; return its name."""
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
        """Return the rows per second of Debezium's sink."""
        self._empty()
        database = self._url.replace("+psycopg", "")
        with connect.sink(self._folder, self._bootstrap_servers, topic, database, BATCH):
            began, first = self._wait(JSON_EVENTS // 4)
            ended, _ = self._wait(JSON_EVENTS)
            return (JSON_EVENTS - first) / (ended - began)

    def processes(self, count: int) -> float:
        """Return the rows per second of `count` persist processes, from the first row on."""
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
def open_stack() -> Iterator[Stack]:
    """Yield a stack and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="stepstream-bench-"))
    kafka, postgres = KafkaServer(folder / "kafka", class_path(Path())), PostgresServer()
    try:
        kafka.start()
        postgres.start()
        yield Stack(kafka, postgres, folder)
    finally:
        kafka.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _parameters(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    place = {"topic_partition": 0, "topic_offset": 0}
    return [{**fields, **place, "event_time": moment(fields["event_time"])} for fields in records]


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
