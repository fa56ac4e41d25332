"""Pages of a finished run with a million steps, read from each of the two databases."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from benchmarks.harness import Row
from dashboard.sql.queries import PageRequest, Queries
from infra import settings as settings_module
from infra.settings import Settings
from infra.sql import engine as sql
from schemas.tables import Agent, Base, Run

STEPS = 1_000_000
LENGTH = 50
JUMPS = 60


def page_sqlite() -> Row:
    """Measure the first queries of an agent's page over a million steps: header, curve and tables."""
    with _sqlite() as settings:
        return _page(settings, "SQLite")


def page_postgresql() -> Row:
    """Measure the first queries of an agent's page over a million steps in PostgreSQL."""
    with _postgresql() as settings:
        return _page(settings, "PostgreSQL")


def any_row_sqlite() -> Row:
    """Measure the slowest of sixty random jumps to a hundred of a million rows."""
    with _sqlite() as settings:
        return _any_row(settings, "SQLite")


def any_row_postgresql() -> Row:
    """Measure the slowest of sixty random jumps to a hundred of a million rows in PostgreSQL."""
    with _postgresql() as settings:
        return _any_row(settings, "PostgreSQL")


def _page(settings: Settings, name: str) -> Row:
    async def ask() -> float:
        queries = Queries(settings)
        begun = time.perf_counter()
        await asyncio.gather(
            queries.run("run"),
            queries.agents("run"),
            queries.return_curve("run", "a"),
            queries.episodes("run", "a", PageRequest()),
            queries.steps("run", "a", PageRequest()),
            queries.step_metric_names("run", "a"),
        )
        seconds = time.perf_counter() - begun
        queries.close()
        return seconds * 1000

    seen = [asyncio.run(ask()) for _ in range(5)]
    return Row(
        f"data of a page, a million steps in {name}", min(seen), "ms",
        goal="≤ 1,000", spread=(max(seen) - min(seen)) / sorted(seen)[2], lower_is_better=True,
    )  # fmt: skip


def _any_row(settings: Settings, name: str) -> Row:
    starts = [random.Random(7).randrange(STEPS - 100) for _ in range(JUMPS)]

    async def ask() -> list[float]:
        queries, seen = Queries(settings), []
        await queries.steps("run", "a", PageRequest())  # the table's first page comes before any jump
        for start in starts:
            begun = time.perf_counter()
            page = await queries.steps("run", "a", PageRequest(start, start + 100))
            seen.append((time.perf_counter() - begun) * 1000)
            assert page.rows[0]["seq"] == STEPS - start
        queries.close()
        return seen

    seen = asyncio.run(ask())
    return Row(
        f"any 100 of a million rows in {name}, the slowest", max(seen), "ms",
        peer=max(_offset(settings, start) for start in starts[:10]), peer_name="LIMIT … OFFSET",
        goal="≤ 200", lower_is_better=True, note=f"median {sorted(seen)[JUMPS // 2]:.1f} ms",
    )  # fmt: skip


def _offset(settings: Settings, start: int) -> float:
    statement = text(
        "SELECT * FROM steps WHERE run_id = 'run' AND agent_id = 'a' "
        f"ORDER BY episode_index DESC, step_index DESC LIMIT 100 OFFSET {start}"
    )
    engine = sql.engine(settings)
    with engine.connect() as connection:
        begun = time.perf_counter()
        connection.execute(statement).all()
        seconds = time.perf_counter() - begun
    engine.dispose()
    return seconds * 1000


@contextmanager
def sqlite_settings() -> Iterator[Settings]:
    """Yield settings with an empty SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        yield settings_module.load({"STEPSTREAM_HOME": folder})


@contextmanager
def _sqlite() -> Iterator[Settings]:
    with sqlite_settings() as settings:
        _fill(settings)
        yield settings


@contextmanager
def postgresql_settings() -> Iterator[tuple[Settings, Any]]:
    """Start a PostgreSQL with an empty database `bench`; yield its settings and the server."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support.postgres import PostgresServer

    server = PostgresServer()
    try:
        server.start()
        server.sql("CREATE DATABASE bench")
        url = server.url("bench")
        settings = settings_module.load(
            {"STEPSTREAM_HOME": tempfile.gettempdir(), "STEPSTREAM_DATABASE_URL": url}
        )
        yield settings, server
    finally:
        server.stop()


@contextmanager
def _postgresql() -> Iterator[Settings]:
    with postgresql_settings() as (settings, server):
        _fill(settings)
        server.sql("ANALYZE", "bench")
        yield settings


def _fill(settings: Settings) -> None:
    """Let the database itself create one run of a million steps."""
    engine = sql.engine(settings)
    Base.metadata.create_all(engine)
    counts = {"steps": STEPS, "episodes": STEPS // LENGTH, "run_id": "run"}
    with engine.begin() as connection:
        for statement in _STATEMENTS[engine.dialect.name]:
            connection.execute(text(statement))
        begun = datetime(2026, 1, 1, tzinfo=UTC)
        connection.execute(insert(Run), counts | {"status": "completed", "started_at": begun})
        connection.execute(insert(Agent), counts | {"agent_id": "a"})
    engine.dispose()


_COLUMNS = "run_id, stream_id, seq, agent_id, worker_id, event_time, topic_partition, topic_offset, "
_STEP = "episode_index, step_index, reward, terminated, truncated, observation, action, info, metrics"
_EPISODE = "episode_index, episode_return, episode_length"
_STEP_VALUES = (
    f"n / {LENGTH}, n % {LENGTH}, CAST(n % 7 AS DOUBLE PRECISION), n % {LENGTH} = {LENGTH - 1}, FALSE, "
    "'[0.1, 0.2, 0.3, 0.4]', '1', '{\"lives\": 3}', '{\"epsilon\": 0.1}'"
)
_EPISODE_VALUES = f"n, CAST(n % 100 AS DOUBLE PRECISION), {LENGTH}"


def _insert(numbers: str, event_time: str) -> list[str]:
    steps, episodes = (_STEP, _STEP_VALUES), (_EPISODE, _EPISODE_VALUES)
    who = "SELECT 'run', 's', {seq}, 'a', 'w', " + event_time + ", 0, n, "
    return [
        f"INSERT INTO steps ({_COLUMNS}{steps[0]}) {who.format(seq='n + 1')}{steps[1]} "
        f"FROM {numbers.format(count=STEPS)}",
        f"INSERT INTO episodes ({_COLUMNS}{episodes[0]}) {who.format(seq=f'n + {STEPS + 1}')}{episodes[1]} "
        f"FROM {numbers.format(count=STEPS // LENGTH)}",
    ]


_STATEMENTS = {
    "sqlite": _insert(
        "(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {count} - 1) "
        "SELECT n FROM c)",
        "datetime(1767225600 + n, 'unixepoch') || '.000000+00:00'",
    ),
    "postgresql": _insert("generate_series(0, {count} - 1) n", "to_timestamp(1767225600 + n)"),
}
