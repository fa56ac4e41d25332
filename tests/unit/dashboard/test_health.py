"""The page of health says how much waits beside workers and before SQL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboard.live.types import RunRow, ServiceRow
from dashboard.panels.health import Line, _live, _spools, _stored
from dashboard.sql.queries import Queries
from infra.settings import load
from infra.sql import migrations
from infra.sql.writers import open_writer
from infra.sql.writers.base import Position
from schemas.topics import Partition


def run(name: str, seconds: float | None, status: str = "running") -> RunRow:
    """A run whose newest heartbeat says how long its oldest line waits."""
    return RunRow(name, status=status, heartbeat=json.dumps({"pid": 1, "spool_seconds": seconds}))


@pytest.mark.parametrize(
    ("runs", "status", "words"),
    [
        (None, "idle", "Redis does not answer"),
        ([run("a", 99, "completed")], "idle", "no run is running"),
        ([run("a", None), RunRow("b")], "completed", "every line"),
        ([run("a", 2), run("b", 7)], "completed", "(run b)"),
        ([run("a", 99), run("b", 7)], "silent", "(run a)"),
    ],
)
def test_the_oldest_line_beside_a_worker(runs: list[RunRow] | None, status: str, words: str) -> None:
    """The line names the running run whose oldest line waits longest, and marks a long wait."""
    line = _spools(runs)
    assert line.status == status
    assert words in line.words


@pytest.mark.parametrize(
    ("silent", "status", "line"),
    [
        (90, "completed", ("idle", "no run is running; the newest record was shown 1 m 30 s ago")),
        (90, "running", ("failed", "silent for 1 m 30 s: is `stepstream live` running?")),
        (1, "running", ("completed", "0 records wait on Kafka, 20 records/s")),
    ],
)
def test_a_live_service_is_missed_while_a_run_is_running(
    silent: float, status: str, line: tuple[str, str]
) -> None:
    """The silence of the live service is a failure only while a run is running."""
    assert _live(ServiceRow(at=1, silent_seconds=silent, rate=20.0), [run("a", 0, status)]) == Line(
        "Live path", *line
    )


@pytest.mark.parametrize(
    ("behind", "line"),
    [
        ((0.5, 1234), ("completed", "SQL is 500 ms and 1,234 records behind Redis")),
        (
            (90, 0),
            ("silent", "SQL is 1 m 30 s and 0 records behind Redis: is `stepstream persist` running?"),
        ),
    ],
)
def test_how_far_sql_is_behind(behind: tuple[float, int], line: tuple[str, str]) -> None:
    """The page says in seconds and records how far SQL is behind Redis."""
    assert _stored(behind) == Line("Storing", *line)


async def test_records_that_sql_lacks(home: Path) -> None:
    """SQL lacks the records from its offsets to the live path's, and all of a partition unknown to it."""
    writer = open_writer(load())
    migrations.upgrade(writer.engine)
    steps, runs, new = Partition("t.steps", 0), Partition("t.runs", 0), Partition("t.steps", 1)
    with writer.transaction() as tx:
        tx.set_place(steps, Position(60, "id"))
        tx.set_place(runs, Position(9, "id"))
    queries = Queries(load())
    assert await queries.unstored({steps: 100, runs: 7, new: 1000}) == 1040
    queries.close()
    writer.close()
