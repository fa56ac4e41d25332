"""Replay: the time to the first lines, and the rate beside consuming and decoding alone."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

from confluent_kafka import Consumer, TopicPartition

from benchmarks.harness import ROUNDS, Rates, Row
from cli.replay import tune_collector
from consumers.replay.play import Part, Replay, Sink
from consumers.replay.sink_sql import SqlSink
from consumers.replay.sinks import JsonlSink, NullSink
from infra.embedded.jars import class_path
from infra.embedded.kafka import KafkaServer
from infra.history.items import Item, Records
from infra.history.reader import RunReader
from infra.history.sql_source import SqlSource, seek_point_rows
from infra.kafka import topics
from infra.settings import Settings, load
from schemas.codec import Decoder, Encoder, checked_in
from schemas.positions import parse_position
from schemas.topics import Kind
from tests.support.events import Stream, record
from tests.support.replays import store

RECORDS = 60_000
LARGE = 1_000_000
SEEKS = 200
PACE, PACED = 0.5, 2000
"""Speed and number of the records played in real time; the run has a record each millisecond."""
UNIT = "records/CPU s"
RUN = "run"


def first_line() -> Row:
    """Measure the first 100 records from a random position of a million, each with a new reader."""
    with _folder() as folder:
        settings = _fill_large(folder)
        return _first_lines(settings, LARGE)


def first_line_of_ten_million() -> Row:
    """Measure the first 100 records from a random position of ten million."""
    with _folder() as folder:
        settings = _fill_large(folder)
        _repeat(settings, 10)
        return _first_lines(settings, 10 * LARGE)


def _first_lines(settings: Settings, total: int) -> Row:
    words = {
        "seq": lambda: f"seq:{random.randrange(1, total)}",
        "step": lambda: f"step:{random.randrange(total * 9 // 10)}",
        "episode": lambda: f"episode:{random.randrange(total // 20)}",
        "end-100": lambda: "end-100",
    }
    tune_collector()
    seen = {name: sorted(_first(settings, make()) for _ in range(SEEKS)) for name, make in words.items()}
    worst = max(times[SEEKS * 95 // 100] for times in seen.values())
    halves = {
        name: (times[SEEKS // 2] * 1000, times[SEEKS * 95 // 100] * 1000) for name, times in seen.items()
    }
    told = ", ".join(f"{name} {half:.1f}/{most:.1f}" for name, (half, most) in halves.items())
    return Row(
        f"First 100 records from a random place of {total:,}, in process, p95 of the slowest position",
        worst * 1000,
        "ms",
        goal="under 50 ms",
        lower_is_better=True,
        note=f"p50/p95 in ms: {told}",
    )


def command() -> Row:
    """Measure time and memory of `stepstream replay RUN --from end-100` with a million steps in SQL."""
    with _folder() as folder:
        settings = _fill_large(folder)
        words = [sys.executable, "-m", "cli.main", "replay", RUN, "--from", "end-100"]
        environment = os.environ | {
            "STEPSTREAM_HOME": str(folder),
            "STEPSTREAM_DATABASE_URL": settings.database_url,
        }
        seconds, megabytes = [], 0.0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            child = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with ThreadPoolExecutor() as threads:
                peak = threads.submit(_peak, child)
                lines = child.communicate()[0].count(b"\n")
                seconds.append(time.perf_counter() - began)
            assert lines == 100, lines
            megabytes = max(megabytes, peak.result())
    return Row(
        f"`replay RUN --from end-100` of {LARGE:,} records, the whole command",
        min(seconds),
        "s",
        spread=(max(seconds) - min(seconds)) / median(seconds),
        goal="under 1 s, and 100 MB",
        lower_is_better=True,
        note=f"at most {megabytes:.0f} MB",
    )


def _peak(child: subprocess.Popen[bytes]) -> float:
    """Return the peak memory of a process in MB; `ru_maxrss` would include that of its parent."""
    peak = 0.0
    while child.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
            peak = max(peak, float((re.findall(r"VmHWM:\s+(\d+)", status) or ["0"])[0]) / 1024)
        time.sleep(0.002)
    return peak


def lateness() -> Row:
    """Measure how late a replay in real time writes records, beside a loop that sleeps until each is due."""
    with _stack() as settings:
        seen: dict[str, list[float]] = {"replay": [], "sleep": []}
        for _ in range(3):
            sink = _Watch()
            _play(settings, sink, "sql", speed=PACE, stop=f"seq:{PACED}")
            seen["replay"] += sink.lateness()
            seen["sleep"] += _sleep_loop()
    replay, sleep = (sorted(times)[len(times) * 99 // 100] * 1000 for times in seen.values())
    return Row(
        f"Real time, a record each {1 / PACE:g} ms: lateness, p99",
        replay,
        "ms",
        limit=sleep,
        limit_name="a loop that sleeps",
        goal="1.3 × the loop",
        lower_is_better=True,
    )


class _Watch(NullSink):
    """A sink that keeps when each record came and when it was due."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def write(self, items: list[Item]) -> None:
        now = time.monotonic()
        self._seen += [(now, item.time) for item in items]

    def lateness(self) -> list[float]:
        """Return how late each record came, in seconds; the first one counts as in time."""
        begin, first = self._seen[0]
        return [now - begin - (at - first) / 1e6 / PACE for now, at in self._seen]


def _sleep_loop() -> list[float]:
    begin, late = time.monotonic(), []
    for number in range(PACED):
        due = begin + number / 1000 / PACE
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        late.append(time.monotonic() - due)
    return late


def null_from_sql() -> Row:
    """Measure a replay from SQL to a null sink, beside consuming and decoding alone."""
    with _stack() as settings:
        seen = _rounds(settings, lambda: _play(settings, NullSink(), "sql"))
    return _row("Replay from SQL to a null sink", seen, "1.5 × consume and decode")


def null_from_kafka() -> Row:
    """Measure a replay from Kafka alone, which knows the order only once it has read all records."""
    with _stack() as settings:
        seen = _rounds(settings, lambda: _play(settings, NullSink(), "kafka"))
    return _row("Replay from Kafka alone to a null sink", seen, "0.8 of consume and decode")


def jsonl() -> Row:
    """Measure a replay from SQL as JSONL, beside consuming and decoding alone."""
    with _stack() as settings:
        sink = JsonlSink(Records(RUN, checked_in), _Nowhere())
        seen = _rounds(settings, lambda: _play(settings, sink, "sql"))
    return _row("Replay from SQL as JSONL", seen, "0.4 of consume and decode")


class _Nowhere(io.BytesIO):
    """A stream that discards all bytes."""

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
    """Return records per second of this process's CPU time, for replaying and consuming in turn."""
    parts = {"replay": replay, "consume and decode": lambda: _consume(settings)}
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(ROUNDS):
        for name, part in parts.items():
            began = time.process_time()
            count = part()
            seen[name].append(count / (time.process_time() - began))
    return {name: Rates(tuple(rates)) for name, rates in seen.items()}


def _play(settings: Settings, sink: Sink, source: str, speed: float | None = None, stop: str = "end") -> int:
    tune_collector()
    sql = SqlSource(settings, RUN) if source == "sql" else None
    reader = RunReader(settings, RUN, checked_in, sql, kafka=source == "kafka")
    part = Part(parse_position("beginning"), parse_position(stop), meta=True)
    player = Replay(reader, part, speed=speed)
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


def _fill_large(folder: Path) -> Settings:
    """Create a database with a run of `LARGE` steps."""
    settings = replace(load({}), home=folder, database_url=f"sqlite:///{folder / 'large.db'}")
    encode, decode = Encoder(Kind.STEPS), Records(RUN, checked_in)
    sink = SqlSink(settings, settings.sql_url, decode, RUN)
    for first in range(1, LARGE + 1, 5000):
        items = [
            Item(Kind.STEPS, "stream", seq, 0, "agent", 0, seq - 1, 0, encode(_step(seq)))
            for seq in range(first, first + 5000)
        ]
        sink.write(items)
    sink.close()
    return settings


def _repeat(settings: Settings, times: int) -> None:
    """Repeat the run's steps until it is `times` as long."""
    with contextlib.closing(sqlite3.connect(settings.home / "large.db")) as database:
        names = [column[1] for column in database.execute("PRAGMA table_info(steps)")]
        for part in range(1, times):
            moved = {
                "seq": f"seq + {part * LARGE}",
                "topic_offset": f"topic_offset + {part * LARGE}",
                "episode_index": f"episode_index + {part * LARGE // 20}",
                "event_time": f"printf('%04d', {2026 + part}) || substr(event_time, 5)",
            }
            columns = ", ".join(moved.get(name, name) for name in names)
            database.execute(f"INSERT INTO steps SELECT {columns} FROM steps WHERE seq <= {LARGE}")
            database.commit()
        database.execute("DELETE FROM seek_points")
        rows = seek_point_rows(Kind.STEPS)
        database.execute(
            "INSERT INTO seek_points (run_id, stream_id, block, topic, topic_partition, newest_event_time, "
            f"first_offset, last_offset, records, newest_episode) {rows}",
            [RUN],
        )
        database.commit()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="stepstream-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stack() -> Iterator[Settings]:
    """Start a Kafka, and fill it and SQLite with the same records."""
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
