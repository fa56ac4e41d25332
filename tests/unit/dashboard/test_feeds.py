"""What a page shows of a run that is partly in Redis and partly in SQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dashboard.live import feeds, merge, wire
from dashboard.live.types import AgentRow, Delta, RunRow
from dashboard.sql.queries import Page, PageRequest, RunHeader
from infra import settings as settings_module
from schemas.live import LiveStep
from schemas.tables import Base

NOW = 1_800_000_000_000
STORED = {
    "run_id": "r",
    "status": "completed",
    "reason": None,
    "env_id": "Taxi-v3",
    "config": {"seed": 1},
    "steps": 90,
    "episodes": 9,
    "last_seen_at": NOW,
    "dead_letters": 1,
}


def test_of_totals_the_larger_counts() -> None:
    """The larger total counts: Redis is ahead while a run goes on, SQL after Redis was flushed."""
    row = merge.run_row(RunRow("r", steps=100, episodes=3, last_seen_at=NOW + 1), STORED, 30, NOW / 1000)
    assert (row["steps"], row["episodes"], row["env_id"]) == (100, 9, "Taxi-v3")


def test_the_newer_word_on_the_status_counts() -> None:
    """The newer status counts: a run that began again is running, whatever SQL says."""
    assert merge.run_row(RunRow("r", last_seen_at=NOW + 5), STORED, 30, NOW / 1000)["status"] == "running"
    assert merge.run_row(RunRow("r", last_seen_at=NOW - 5), STORED, 30, NOW / 1000)["status"] == "completed"
    assert merge.run_row(None, STORED, 30, NOW / 1000)["status"] == "completed"


def test_a_silent_run_is_lost() -> None:
    """A running run without a record for longer than the setting is lost."""
    silent = STORED | {"status": "running", "last_seen_at": NOW - 31_000}
    assert merge.run_row(None, silent, 30, NOW / 1000)["status"] == "lost"
    assert merge.run_row(None, silent, 60, NOW / 1000)["status"] == "running"


def test_where_the_records_are() -> None:
    """The page counts records printed, on Kafka and in SQL; heartbeats carry what Redis and SQL lack."""
    beats = [{"lines_read": 70, "lines_acked": 60}, {"lines_read": 50, "lines_acked": 50, "lines_dropped": 2}]
    header = RunHeader(run=STORED, in_sql=99, heartbeats=beats)
    found = merge.counts(RunRow("r", steps=105, dead_letters=3, lag=7), header)
    assert (found["emitted"], found["on_kafka"], found["in_sql"]) == (120, 110, 99)
    assert (found["dead_letters"], found["dropped"], found["lag"]) == (3, 2, 7)


def test_of_an_agents_totals_the_larger_counts() -> None:
    """The larger count wins, as Redis may be refilled and SQL behind; shared rows are not changed."""
    columns = dict.fromkeys(Base.metadata.tables["agents"].columns.keys())
    columns |= {"agent_id": "a", "steps": 1, "episodes": 3, "returns": 3}  # a list in `AgentRow`
    from_sql, shared = merge.stored_agent(columns), AgentRow("a", steps=2)
    assert merge.live_agent(shared, from_sql) == AgentRow("a", steps=2, episodes=3)
    assert shared == AgentRow("a", steps=2)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["a10", "a9", "a1"], ["a1", "a9", "a10"]),
        (["b", "A", "10", "9"], ["9", "10", "A", "b"]),
        (["", "x", "x1y2", "x1y10"], ["", "x", "x1y2", "x1y10"]),
    ],
)
def test_agents_are_ordered_as_people_count(names: list[str], ordered: list[str]) -> None:
    """Agents are sorted as people count: a9 comes before a10."""
    assert sorted(names, key=merge.natural) == ordered


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("12", 12),
        ("-1", -1),
        ("0", 0),
        ("", None),
        (None, None),
        ("1e3", None),
        ("9" * 40, None),
        ("--1", None),
    ],
)
def test_an_episode_in_an_address(text: str | None, index: int | None) -> None:
    """The text of an episode in an address is read as an index or as none."""
    assert merge.natural_index(text) == index


def test_a_live_step_is_the_row_that_sql_gives() -> None:
    """A live step has the same keys and values as the row that SQL gives."""
    live = LiveStep("S", 7, 1_000_000, 2, 3, '"x"', 0.5, True, None, "o" * 900, None, None, '{"seed": 5}')
    row = {name: getattr(live, name) for name in LiveStep.__struct_fields__}
    from_sql = wire.rows.step_row(row | {"event_time": None, "worker_id": None, "agent_id": "a"})
    assert wire.step(live, "a") == wire.short(from_sql) | {"event_time": 1000.0}
    assert wire.step(live, "a")["cut"]


async def test_one_reading_serves_all_and_an_old_one_does_not_wait() -> None:
    """A cached reading is returned at once and refreshed in the background; `fresh` waits for it."""
    read = []

    async def count(name: str) -> int:
        read.append(name)
        return len(read)

    shared = feeds.Shared(count, seconds=0.0)
    assert await shared("a") == 1
    assert await shared("a") == 1
    assert await shared("a", fresh=True) == 2
    assert read == ["a", "a"]


class CountedRuns:
    """SQL with some runs; counts how often the list of runs is read."""

    def __init__(self, run_ids: list[str]) -> None:
        self.reads, self.run_ids = 0, run_ids
        self.run = self.agents = self.stored_steps = self.newest_returns = self.attempts = self.nothing

    async def nothing(self, *_: object) -> list[Any]:
        """Return nothing: the runs have no agents or returns."""
        return []

    async def runs(self, _: PageRequest) -> Page:
        """List all runs and count the read."""
        self.reads += 1
        blank = dict.fromkeys(("steps", "episodes", "metrics", "agents"), 0)
        listed = [blank | {"run_id": name, "status": "running", "reason": None} for name in self.run_ids]
        return Page(listed, len(listed))


class ManyDeltas:
    """Redis with a change of every run at each look."""

    def __init__(self, rows: list[RunRow]) -> None:
        self.rows = rows

    async def wait(self, *_: object) -> Delta:
        """Return a change of every run."""
        return Delta("1", runs=self.rows)

    async def agents(self, _: str) -> list[Any]:
        """Return no agents."""
        return []


@given(
    kinds=st.lists(st.sampled_from(["metrics", "steps", "unknown to SQL"]), min_size=1, max_size=5),
    viewers=st.integers(1, 4),
    deltas=st.integers(2, 20),
)
@hypothesis_settings(deadline=None)
def test_runs_of_any_kind_cost_sql_one_reading(kinds: list[str], viewers: int, deltas: int) -> None:
    """While the list of runs is fresh, all deltas of all viewers share one reading of SQL."""

    async def look() -> int:
        live = [
            RunRow(f"r{n}", agents=1, metrics=9, steps=9 * (kind == "steps")) for n, kind in enumerate(kinds)
        ]
        sql = CountedRuns([f"r{n}" for n, kind in enumerate(kinds) if kind != "unknown to SQL"])
        shared = feeds.Feeds(settings_module.load({}), ManyDeltas(live), sql)  # type: ignore[arg-type]
        shared.runs = feeds.Shared(lambda: sql.runs(PageRequest()), seconds=3600)
        for _ in range(viewers):
            feed = feeds.RunsFeed(shared)
            await feed.first()
            for _ in range(deltas):
                await feed.next()
        return sql.reads

    assert asyncio.run(look()) == 1


async def test_a_run_is_asked_for_once_by_each_viewer() -> None:
    """Deltas of a known run cause no further read of SQL, also where the shared read expires at once."""
    sql = CountedRuns(["r"])
    shared = feeds.Feeds(settings_module.load({}), ManyDeltas([RunRow("r", metrics=9)]), sql)  # type: ignore[arg-type]
    shared.runs = feeds.Shared(lambda: sql.runs(PageRequest()), seconds=0)
    feed = feeds.RunsFeed(shared)
    await feed.first()
    for _ in range(10):
        await feed.next()
    assert sql.reads == 1


async def test_a_run_with_metrics_alone_has_an_agent() -> None:
    """The first agent is the first by name; agents that act go before those of metrics alone."""
    shared = feeds.Feeds(settings_module.load({}), ManyDeltas([]), CountedRuns([]))  # type: ignore[arg-type]
    listed = [AgentRow("b10"), AgentRow("b9")]

    async def agents(_: str) -> list[AgentRow]:
        return listed

    shared.buffer.agents = agents  # type: ignore[method-assign]
    assert await shared.first_agent("r") == "b9"
    listed[0] = AgentRow("b10", steps=1)
    shared = feeds.Feeds(settings_module.load({}), shared.buffer, shared.queries)
    assert await shared.first_agent("r") == "b10"
