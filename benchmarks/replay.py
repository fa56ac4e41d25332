"""Replay: the first line from anywhere, and how much goes through, beside consuming and decoding alone."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks.harness import ROUNDS, Rates, Row
from consumers.replay.play import Part, Replay, Sink
from consumers.replay.sink_sql import SqlSink
from consumers.replay.sinks import JsonlSink, NullSink
from infra.embedded.jars import class_path
from infra.embedded.kafka import KafkaServer
from infra.history.items import Item, Records
from infra.history.reader import RunReader
from infra.history.sql_source import SqlSource
from infra.kafka import topics
from infra.settings import Settings, load
from schemas.codec import Decoder, checked_in
from schemas.positions import parse_position
from schemas.topics import Kind
from tests.support.events import Stream, record
from tests.support.replays import store

RECORDS = 60_000
LARGE = 1_000_000
SEEKS = 200
UNIT = "records/CPU s"
RUN = "run"


def first_line() -> Row:
    """The first 100 records from a random place of a run of a million, each with a new reader."""
    with _folder() as folder:
        settings = replace(load({}), home=folder, database_url=f"sqlite:///{folder / 'large.db'}")
        _fill_large(settings)
        words = {
            "seq": lambda: f"seq:{random.randrange(1, LARGE)}",
            "step": lambda: f"step:{random.randrange(LARGE * 9 // 10)}",
            "episode": lambda: f"episode:{random.randrange(LARGE // 20)}",
            "end-100": lambda: "end-100",
        }
        seen = {name: sorted(_first(settings, make()) for _ in range(SEEKS)) for name, make in words.items()}
    worst = max(times[SEEKS * 95 // 100] for times in seen.values())
    halves = {
        name: (times[SEEKS // 2] * 1000, times[SEEKS * 95 // 100] * 1000) for name, times in seen.items()
    }
    told = ", ".join(f"{name} {half:.1f}/{most:.1f}" for name, (half, most) in halves.items())
    return Row(
        f"First 100 records from a random place of {LARGE:,}, in process, p95 of the slowest position",
        worst * 1000,
        "ms",
        goal="under 50 ms",
        lower_is_better=True,
        note=f"p50/p95 in ms: {told}",
    )


def null_from_sql() -> Row:
    """To a null sink from SQL, beside consuming and decoding alone."""
    with _stack() as settings:
        seen = _rounds(settings, lambda: _play(settings, NullSink(), "sql"))
    return _row("Replay from SQL to a null sink", seen, "1.5 × consume and decode")


def null_from_kafka() -> Row:
    """To a null sink from Kafka alone, which knows the order only once it has read all."""
    with _stack() as settings:
        seen = _rounds(settings, lambda: _play(settings, NullSink(), "kafka"))
    return _row("Replay from Kafka alone to a null sink", seen, "0.8 of consume and decode")


def jsonl() -> Row:
    """As JSONL from SQL, beside consuming and decoding alone."""
    with _stack() as settings:
        sink = JsonlSink(Records(RUN, checked_in), _Nowhere())
        seen = _rounds(settings, lambda: _play(settings, sink, "sql"))
    return _row("Replay from SQL as JSONL", seen, "0.4 of consume and decode")


class _Nowhere(io.BytesIO):
    """A stream that keeps nothing."""

    def write(self, text: bytes) -> int:  # type: ignore[override]
        return len(text)


def _row(what: str, seen: dict[str, Rates], goal: str) -> Row:
    return Row(
        what,
        seen["replay"].best,
        UNIT,
        limit=seen["consume and decode"].best,
        limit_name="consume and decode alone",
        spread=seen["replay"].spread,
        goal=goal,
    )


def _rounds(settings: Settings, replay: Callable[[], int]) -> dict[str, Rates]:
    """Records per second of the process' own time, a replay and consuming in turn."""
    parts = {"replay": replay, "consume and decode": lambda: _consume(settings)}
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(ROUNDS):
        for name, part in parts.items():
            began = time.process_time()
            count = part()
            seen[name].append(count / (time.process_time() - began))
    return {name: Rates(tuple(rates)) for name, rates in seen.items()}


def _play(settings: Settings, sink: Sink, source: str) -> int:
    sql = SqlSource(settings, RUN) if source == "sql" else None
    reader = RunReader(settings, RUN, checked_in, sql, kafka=source == "kafka")
    player = Replay(reader, Part(parse_position("beginning"), meta=True))
    player.play(*player.find(), sink)
    reader.close()
    return player.played


def _first(settings: Settings, words: str) -> float:
    began = time.perf_counter()
    reader = RunReader(settings, RUN, checked_in, SqlSource(settings, RUN), kafka=False)
    player = Replay(reader, Part(parse_position(words), parse_position("end"), meta=True))
    start, stop = player.find()
    items = reader.items(start, stop)
    found = [item for item, _ in zip(items, range(100), strict=False)]
    assert found
    seconds = time.perf_counter() - began
    reader.close()
    return seconds


def _consume(settings: Settings) -> int:
    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "bench"})
    consumer.assign([TopicPartition(Kind.STEPS.topic(settings.topic_prefix), 0, 0)])
    decode, left = Decoder(Kind.STEPS), RECORDS
    while left:
        messages = consumer.consume(min(5000, left), 1)
        left -= len(messages)
        for message in messages:
            decode(message.value() or b"")
    consumer.close()
    return RECORDS


def _step(seq: int) -> dict[str, object]:
    episode, place = divmod(seq - 1, 20)
    own = {"episode_index": episode, "step_index": place, "metrics": '{"epsilon":0.31,"q_before":0.11}'}
    return record(Kind.STEPS, seq, reward=0.123456789 + seq, info='{"lives":3,"x":1.5}', **own)


def _fill_large(settings: Settings) -> None:
    from schemas.codec import Encoder

    encode, decode = Encoder(Kind.STEPS), Records(RUN, checked_in)
    sink = SqlSink(settings, settings.sql_url, decode, RUN)
    for first in range(1, LARGE + 1, 5000):
        items = [
            Item(Kind.STEPS, "stream", seq, 0, "agent", 0, seq - 1, 0, encode(_step(seq)))
            for seq in range(first, first + 5000)
        ]
        sink.write(items)
    sink.close()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="stepstream-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stack() -> Iterator[Settings]:
    """Kafka and SQLite with the same records."""
    with _folder() as folder:
        server = KafkaServer(folder / "kafka", class_path(Path()))
        server.start()
        try:
            settings = replace(load({}), home=folder, bootstrap_servers=server.address, partitions=1)
            topics.ensure_topics(settings)
            stream = Stream(server.address, settings.topic_prefix)
            for seq in range(1, RECORDS + 1):
                stream.send(Kind.STEPS, _step(seq))
            stream.flush()
            store(settings, RECORDS)
            yield settings
        finally:
            server.stop()
