"""Rollouts of language models: importing files, a training step on the page, and a million in SQL."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import ingest, page, pages
from benchmarks.harness import Row, Unmeasured, harmonic, interleaved
from cli.watch import WatchSession
from dashboard.sql.queries import PageRequest, Queries
from dashboard.sql.rollouts import Chosen, Key
from infra import settings as settings_module
from infra.kafka.client import client_config
from infra.settings import Settings
from infra.sql import migrations
from infra.sql.writers import open_writer
from schemas.codec import Decoder, current_schema
from schemas.topics import Kind
from tests.support import needs
from tests.support.rollout_rows import fill, texts

SAMPLES = 512
FILES = 120
"""Files that the whole reads: so many that the start of a session is a small part of the time."""
SOME = 12
"""Files that each part reads."""
BYTES = 4096
ROUNDS = 5
STEPS = 30
OTHER_RATE = 2000
MILLION = int(os.environ.get("STEPSTREAM_BENCH_ROLLOUTS", "1000000"))
CHARACTERS = 1000
"""The length of each answer among the million."""
RECORDS = (Kind.EPISODES, Kind.ROLLOUTS, Kind.STEPS)

IN_TABLE = """(step) => {
  const cell = document.querySelector("#rollouts-grid .ag-row[row-index='0'] [col-id=training_step]");
  return cell?.textContent === String(step) && performance.timeOrigin + performance.now();
}"""


def watched() -> Row:
    """Measure `watch` of verl's files, 4 kB a rollout, until Kafka has acknowledged the last record.

    The limit is the sum of the parts, one after the other: reading the file, decoding with msgspec,
    and encoding and producing the three records of each rollout: episode, rollout and turn.
    """
    with ingest._kafka() as settings, tempfile.TemporaryDirectory() as folder:
        parts = _Parts(settings, Path(folder))
        seen = interleaved(
            {name: getattr(parts, name) for name in ("whole", "read", "decode", "encode", "produce")}, ROUNDS
        )
    limit = harmonic(*(seen[name].best for name in ("read", "decode", "encode", "produce")))
    return Row(
        "watch of rollouts of 4 kB to acknowledged", seen["whole"].best, "rollouts/s", limit,
        "read, msgspec, fastavro, produce", spread=seen["whole"].spread, goal="≥ 0.8 of the limit",
    )  # fmt: skip


def step_in_table() -> Row:
    """Measure the p95 from the rename of a file of 512 samples to its row in the page's table."""
    found = _appeared()
    p50, p95 = np.percentile(found, [50, 95])
    return Row(
        "training step in the table, p95", float(p95), "ms", goal="≤ 1,000", lower_is_better=True,
        note=f"p50 {p50:.0f} ms; {OTHER_RATE:,} steps/s of another run stream",
    )  # fmt: skip


def million_sqlite() -> Row:
    """Measure pages, searches and transcripts of a million rollouts in SQLite."""
    with pages.sqlite_settings() as settings:
        return _million(settings, "SQLite")


def million_postgresql() -> Row:
    """Measure pages, searches and transcripts of a million rollouts in PostgreSQL."""
    with pages.postgresql_settings() as (settings, server):
        return _million(settings, "PostgreSQL", lambda: server.sql("VACUUM ANALYZE", "bench"))


def _million(settings: Settings, name: str, tidy: Callable[[], object] = lambda: None) -> Row:
    writer = open_writer(settings)
    migrations.upgrade(writer.engine)
    steps = -(-MILLION // SAMPLES)
    fill(writer, steps, SAMPLES, CHARACTERS)
    writer.close()
    tidy()
    queries = Queries(settings, seconds=60)
    slowest = asyncio.run(_asked(queries, steps * SAMPLES))
    queries.close()
    return Row(
        f"page of {steps * SAMPLES:,} rollouts in {name}", slowest["page"], "ms", goal="≤ 200",
        lower_is_better=True,
        note=f"search {slowest['search']:.0f} ms (goal ≤ 1,000), transcript {slowest['transcript']:.0f} ms "
        "(goal ≤ 200), the slowest of each",
    )  # fmt: skip


async def _asked(queries: Queries, count: int) -> dict[str, float]:
    """Return the slowest query of each kind in ms; each runs twice, and the second time counts."""
    run, rng = Chosen("run"), np.random.default_rng(7)
    starts = [0, count - 100, *rng.integers(0, count - 100, 30).tolist()]
    words = ["p1", "d64", "b1f4 c3e8", "p9c3f", "question 12", '"question 1200"', "nowhere"]
    asked: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        *(("page", lambda at=at: queries.rollouts(run, PageRequest(at, at + 100))) for at in starts),
        *(
            ("search", lambda said=said: queries.rollouts(Chosen("run", said), PageRequest(0, 100)))
            for said in words
        ),
        *(("transcript", lambda at=at: queries.rollout("run", Key("stream", at + 1))) for at in starts),
    ]
    slowest: dict[str, float] = {}
    for name, ask in asked:
        for again in (False, True):
            begun = time.perf_counter()
            await ask()
            if again:
                slowest[name] = max(slowest.get(name, 0.0), 1000 * (time.perf_counter() - begun))
    return slowest


def _appeared() -> list[float]:
    if reason := needs.chromium():
        raise Unmeasured(reason)
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.chromium_path(), args=page.FLAGS)
        bench = page.Bench(Path(folder), browser)
        try:
            bench.start()
            return _steps(bench)
        finally:
            bench.stop()
            browser.close()


def _steps(bench: page.Bench) -> list[float]:
    files = bench.folder / "outputs"
    files.mkdir()
    words = texts(BYTES)
    _step_file(files, 0, words)
    bench._spawn([page.PROGRAM, "watch", str(files), "--run-id", "lm"], "watch")
    worker, out = bench.folder / "worker.py", bench.folder / "wrote.json"
    worker.write_text(page.WORKER)
    arguments = [str(OTHER_RATE), "8", str(STEPS * 4 + 60), str(out)]
    bench._spawn(
        [page.PROGRAM, "run", "--run-id", "other", "--", sys.executable, str(worker), *arguments], "run"
    )
    tab = bench.browser.new_page()
    tab.goto(f"http://127.0.0.1:{bench.port}/runs/lm?panel=rollouts")
    tab.wait_for_function(IN_TABLE, arg=0, timeout=120_000)
    tab.wait_for_timeout(5000)
    found = []
    for step in range(1, STEPS + 1):
        wrote = _step_file(files, step, words)
        seen = tab.wait_for_function(IN_TABLE, arg=step, polling="raf", timeout=60_000).json_value()
        found.append(seen - wrote)
        tab.wait_for_timeout(1500 + 37 * step % 500)
    return found


def _step_file(folder: Path, step: int, words: Iterator[str]) -> float:
    """Put the file of one training step in place by a rename; return when, in ms since 1970."""
    beside = folder / f"{step}.part"
    beside.write_bytes(b"".join(_line(step, i, next(words)) for i in range(SAMPLES)))
    beside.rename(folder / f"{step}.jsonl")
    return time.time() * 1000


def _line(step: int, sample: int, answer: str) -> bytes:
    fields = {"input": f"Question {sample // 8} of step {step}: what is it?", "output": answer, "gts": "42",
              "score": sample % 3 / 2, "step": step, "acc": float(sample % 2), "format": 1.0}  # fmt: skip
    return msgspec.json.encode(fields) + b"\n"


class _Parts:
    """The whole of `watch` and each of its parts alone, on the same files."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder / "outputs"
        self.folder.mkdir()
        words = texts(BYTES)
        for step in range(FILES):
            _step_file(self.folder, step, words)
        self.count, self.runs = SOME * SAMPLES, 0
        self.files = [self.folder / f"{step}.jsonl" for step in range(SOME)]
        self.lines = [line for path in self.files for line in path.read_bytes().splitlines()]
        self.whole()
        self.values = self._made()
        self.records = {
            kind: [Decoder(kind)(value) for value in values] for kind, values in self.values.items()
        }
        ours = {"enable.idempotence": True, "acks": "all", "compression.type": "lz4", "linger.ms": 5}
        self.producer = Producer(client_config(settings, **ours))

    def _made(self) -> dict[Kind, list[bytes]]:
        """Return the values that the whole has put on Kafka."""
        consumer = Consumer(
            client_config(self.settings, **{"group.id": "bench", "enable.auto.commit": False})
        )
        found = {}
        for kind in RECORDS:
            consumer.assign([TopicPartition(kind.topic(self.settings.topic_prefix), 0, 0)])
            values: list[bytes] = []
            while len(values) < self.count:
                values += [message.value() or b"" for message in consumer.consume(5000, 1.0)]
            found[kind] = values[: self.count]
        consumer.close()
        return found

    def whole(self) -> int:
        """Do what `watch --once` does, in this process."""
        self.runs += 1
        home = self.settings.home / f"watch-{self.runs}"
        home.mkdir()
        os.environ["STEPSTREAM_HOME"] = str(home)  # the shipping thread reads its settings itself
        os.environ["STEPSTREAM_BOOTSTRAP_SERVERS"] = str(self.settings.bootstrap_servers)
        os.environ["STEPSTREAM_TOPIC_PREFIX"] = self.settings.topic_prefix
        os.environ["STEPSTREAM_PARTITIONS"] = "1"
        settings = settings_module.load()
        session = WatchSession(settings, self.folder, run_id="bench")
        assert session.go(once=True, timeout=300)
        assert session.stream.watcher.totals.rollouts == FILES * SAMPLES
        return FILES * SAMPLES

    def read(self) -> int:
        """Read the files and split them into lines."""
        return sum(len(path.read_bytes().split(b"\n")) - 1 for path in self.files)

    def decode(self) -> int:
        """Decode each line into an object with msgspec."""
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        for line in self.lines:
            decode(line)
        return self.count

    def encode(self) -> int:
        """Encode records of the three kinds with fastavro."""
        body = io.BytesIO()
        for kind, records in self.records.items():
            schema = fastavro.parse_schema(current_schema(kind))
            for record in records:
                body.seek(0)
                fastavro.schemaless_writer(body, schema, record)
                body.truncate()
                body.getvalue()
        return self.count

    def produce(self) -> int:
        """Produce acknowledged records with confluent-kafka, without a callback."""
        for kind, values in self.values.items():
            topic = kind.topic(self.settings.topic_prefix)
            for start in range(0, len(values), 1000):
                for value in values[start : start + 1000]:
                    self.producer.produce(topic, value, b"bench")
                self.producer.flush()
        return self.count
