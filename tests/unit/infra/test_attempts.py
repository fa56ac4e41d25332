"""Workers that run at the same time belong to one attempt of a run; a restart begins the next attempt."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from infra import settings
from infra.sql import engine as sql
from infra.sql.attempts import Span, attempts_of, in_attempts
from schemas.tables import Base, RunEvent, Step

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after the start."""
    return T0 + timedelta(seconds=seconds)


@given(lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=5))
def test_workers_side_by_side_are_one_attempt(lengths: list[list[int]]) -> None:
    """All workers of a start are one attempt, and the next start is the next attempt."""
    spans, expected, now = {}, [], 0
    for number, workers in enumerate(lengths):
        names = [f"{number}-{worker}" for worker in range(len(workers))]
        spans |= {
            name: Span(at(now), at(now + length), True) for name, length in zip(names, workers, strict=True)
        }
        expected.append(set(names))
        now += max(workers) + 1
    assert in_attempts(spans) == expected


@given(gap=st.floats(0.001, 1e6))
def test_a_stream_that_starts_nothing_is_no_attempt(gap: float) -> None:
    """A stream without a start of its own belongs to the attempt before it, however late it comes."""
    spans = {"a": Span(at(0), at(1), True), "b": Span(at(1 + gap), at(2 + gap))}
    assert in_attempts(spans) == [{"a", "b"}]
    spans["b"].starts = True
    assert in_attempts(spans) == [{"a"}, {"b"}]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, home: Path) -> Iterator[Engine]:
    """An empty database of each kind."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres")
    made = sql.engine(settings.load({"STEPSTREAM_HOME": str(home), "STEPSTREAM_DATABASE_URL": url}))
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def event(stream_id: str, seq: int, second: float, name: str, **payload: Any) -> dict[str, Any]:
    """Return a row of run_events."""
    return {"run_id": "r", "stream_id": stream_id, "seq": seq, "agent_id": "a", "event_time": at(second),
            "topic_partition": 0, "topic_offset": seq, "event": name, "payload": payload}  # fmt: skip


def test_a_run_that_was_killed_and_started_again(engine: Engine) -> None:
    """A killed attempt ends with its last event, and each attempt keeps its streams and status."""
    lost = {"event": "stream_ended", "status": "lost"}
    rows = [
        event("A.meta", 1, 0, "run_started"),
        event("A.meta", 2, 4, "heartbeat"),
        event("A.meta", 3, 60, "other", **lost),
        event("B.meta", 1, 10, "run_started"),
        event("B.sdk", 1, 11, "run_started"),
        event("B.sdk", 2, 20, "run_completed", status="failed"),
        event("B.meta", 2, 21, "heartbeat"),
        event("C", 1, 30, "run_started"),
        event("C", 2, 31, "run_completed"),
    ]
    step = {"run_id": "r", "agent_id": "a", "topic_partition": 0, "topic_offset": 1}
    steps = [step | {"stream_id": "A", "seq": seq, "event_time": at(seq)} for seq in (1, 2, 3)]
    with engine.begin() as connection:
        connection.execute(insert(RunEvent), rows)
        connection.execute(insert(Step), steps)
    found = attempts_of(engine, "r")
    assert [(one.number, one.status, one.stream_ids) for one in found] == [
        (1, "lost", ["A"]),
        (2, "failed", ["B.sdk"]),
        (3, "completed", ["C"]),
    ]
    assert [(one.started_at, one.ended_at) for one in found] == [
        (at(0), at(4)),
        (at(10), at(21)),
        (at(30), at(31)),
    ]
    assert attempts_of(engine, "nobody") == []
