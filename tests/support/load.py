"""A load of events that goes on through every fault, and the proof that SQL holds each exactly once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Engine, func, select

from infra.settings import Settings
from schemas.tables import EVENT_TABLES, Agent, DeadLetter, Episode, Run
from schemas.topics import Kind
from tests.support.events import Stream, mixed, until

STREAMS = 6
BURST = 100
POISON = b"\0\0\0\0\1poison"


class Load:
    """A thread sends several workers' streams, at a fixed number of events a second, until it is stopped.

    One record in `poison` is unreadable, as from a broken producer.
    """

    def __init__(self, settings: Settings, rate: float = 4000, poison: int = 0, **properties: Any) -> None:
        self.rate = rate
        self.sent: Counter[str] = Counter()
        self.poisoned = 0
        self.kinds: Counter[Kind] = Counter()
        self._poison = poison
        self._stream = Stream(settings.bootstrap_servers, settings.topic_prefix, **properties)
        self._lines = {
            f"s{i}": mixed(10**9, run_id=f"run-{i % 3}", stream_id=f"s{i}") for i in range(STREAMS)
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._stream.flush()

    def _send(self) -> None:
        began = time.monotonic()
        while not self._stop.is_set():
            name = random.choice(sorted(self._lines))
            self._burst(name, self._lines[name])
            ahead = sum(self.sent.values()) / self.rate - (time.monotonic() - began)
            self._stop.wait(max(ahead, 0))

    def _burst(self, name: str, lines: Iterator[Any]) -> None:
        for _ in range(BURST):
            kind, fields = next(lines)
            self._stream.send(kind, fields)
            self.sent[name] += 1
            self.kinds[kind] += 1
        if self._poison and random.randrange(self._poison) < BURST:
            self._stream.raw(Kind.STEPS, POISON, b"run-0")
            self.poisoned += 1


def rows(engine: Engine) -> int:
    """How many event rows SQL holds."""
    with engine.connect() as connection:
        return sum(connection.scalar(select(func.count()).select_from(t)) or 0 for t in EVENT_TABLES.values())


def prove(engine: Engine, load: Load, seconds: float = 90) -> None:
    """Wait until SQL holds as many rows as were sent, then assert that they are the same ones."""
    expected = sum(load.sent.values()) + load.poisoned
    until(lambda: rows(engine) >= expected, seconds, 0.2)
    assert _stored(engine) == {name: list(range(1, count + 1)) for name, count in load.sent.items()}
    with engine.connect() as connection:
        letters = connection.scalar(select(func.count()).where(DeadLetter.topic.is_not(None)))
        counted = connection.execute(select(Run.__table__)).mappings().all()
        returns = connection.scalar(select(func.sum(Episode.episode_return)))
        folded = connection.scalar(select(func.sum(Agent.return_sum)))
    assert letters == load.poisoned
    for kind, column in _COUNTERS.items():
        extra = load.poisoned if kind is Kind.DLQ else 0
        assert sum(run[column] for run in counted) == load.kinds[kind] + extra, column
    assert returns == folded
    assert rows(engine) == expected


_COUNTERS: Mapping[Kind, str] = {
    Kind.STEPS: "steps",
    Kind.EPISODES: "episodes",
    Kind.METRICS: "metrics",
    Kind.LOGS: "logs",
    Kind.DLQ: "dead_letters",
}


def _stored(engine: Engine) -> dict[str, list[int]]:
    """The sorted numbers of each stream over all tables; a duplicate is listed twice."""
    found: dict[str, list[int]] = {}
    with engine.connect() as connection:
        for table in EVENT_TABLES.values():
            for stream_id, seq in connection.execute(select(table.c.stream_id, table.c.seq)):
                found.setdefault(stream_id, []).append(seq)
    return {name: sorted(seqs) for name, seqs in found.items() if name.startswith("s")}


Spawn = Callable[..., Any]
