"""The dashboard's reads from SQL, on both kinds of database."""

from __future__ import annotations

import csv
import io
import json
import random
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from dashboard.sql import download, history, rows, seek_index
from dashboard.sql.queries import PageRequest, Queries
from dashboard.sql.seek_index import Order
from infra.history.series import Series
from infra.settings import Settings
from infra.sql.tables import STEPS
from schemas.errors import DatabaseError, UsageError
from schemas.tables import Agent, Base, DeadLetter, Episode, LogLine, Metrics, Run, RunEvent, Step
from tests.support.stored import T0, agent, event, run, steps, write

HOSTILE = "x'; DROP TABLE runs; --<script>\"%_"


@pytest.mark.parametrize("way", ["asc", "desc"])
@pytest.mark.parametrize("numbered", [True, False], ids=["by episode", "as printed"])
async def test_any_rows_in_order(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch, way: str, numbered: bool
) -> None:
    """Any page of steps equals that part of all steps sorted, in whichever range of keys it lies."""
    monkeypatch.setattr("dashboard.sql.steps.BY_STEP", Order(("episode_index", "step_index"), 3))
    monkeypatch.setattr("dashboard.sql.listing.BY_LINE", Order(("stream_id", "seq"), 10))
    rows = steps(200)
    if not numbered:  # one step without a number is enough
        rows[50]["step_index"] = None
    random.Random(1).shuffle(rows)
    write(engine, Step, rows)
    write(engine, Step, steps(50, agent_id="other", stream_id="t"))
    expected = list(range(1, 201)) if way == "asc" else list(range(200, 0, -1))
    for start, end in [(0, 10), (95, 130), (195, 300), (0, 200), (250, 260), (199, 200)]:
        request = PageRequest(start, end, [{"colId": "step_index", "sort": way}])
        page = await queries.steps("run", "a", request)
        assert [row["seq"] for row in page.rows] == expected[start:end]
        assert page.total == 200


async def test_numbers_below_zero_and_one_long_episode(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers from below zero, and an episode longer than a stretch, keep their order."""
    monkeypatch.setattr("dashboard.sql.steps.BY_STEP", Order(("episode_index", "step_index"), 4))
    rows = [event(n + 50, episode_index=n // 20, step_index=n, reward=0.0) for n in range(-30, 30)]
    write(engine, Step, rows)
    page = await queries.steps("run", "a", PageRequest(20, 30, [{"colId": "step_index", "sort": "asc"}]))
    assert [row["step_index"] for row in page.rows] == list(range(-10, 0))


async def test_all_agents_as_printed(engine: Engine, queries: Queries) -> None:
    """Without an agent, the table lists the steps of all agents, the newest line first."""
    write(engine, Step, steps(20))
    write(engine, Step, [event(seq, agent_id="b", stream_id="z", reward=0.0) for seq in (1, 2)])
    page = await queries.steps("run", None, PageRequest(0, 4))
    assert [(row["agent_id"], row["seq"]) for row in page.rows] == [("b", 2), ("b", 1), ("a", 20), ("a", 19)]


async def test_sort_and_filter(engine: Engine, queries: Queries) -> None:
    """Any column can be sorted and filtered by; nulls come last; hostile words are plain text."""
    rows = steps(30)
    rows[3] |= {"reward": None, "observation": {"text": HOSTILE}}
    write(engine, Step, rows)
    page = await queries.steps("run", "a", PageRequest(0, 3, [{"colId": "reward", "sort": "desc"}]))
    assert [row["reward"] for row in page.rows] == [30.0, 29.0, 28.0]
    lowest = await queries.steps("run", "a", PageRequest(28, 30, [{"colId": "reward", "sort": "asc"}]))
    assert [row["reward"] for row in lowest.rows] == [30.0, None]
    number = {"filterType": "number", "type": "inRange", "filter": 5, "filterTo": 7}
    found = await queries.steps("run", "a", PageRequest(filters={"reward": number}))
    assert (sorted(row["seq"] for row in found.rows), found.total) == ([5, 6, 7], 3)
    for words in ("DROP TABLE", "%_", "--<script>"):
        text = {"filterType": "text", "type": "contains", "filter": words}
        found = await queries.steps("run", "a", PageRequest(filters={"observation": text}))
        assert [row["seq"] for row in found.rows] == [4]
    found = await queries.steps("run", HOSTILE, PageRequest(filters={"nonsense": {"type": HOSTILE}}))
    assert found.rows == []


async def test_sorted_rows_are_capped(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table sorted by a column without an index reaches a limited number of rows, and says so."""
    monkeypatch.setattr("dashboard.sql.listing.MAX_SORTED", 10)
    write(engine, Step, steps(30))
    page = await queries.steps("run", "a", PageRequest(5, 15, [{"colId": "reward", "sort": "asc"}]))
    assert ([row["seq"] for row in page.rows], page.total, page.capped) == ([6, 7, 8, 9, 10], 10, True)


@pytest.mark.parametrize("numbered", [True, False], ids=["by step", "as printed"])
async def test_every_row_of_an_episode_is_downloaded(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch, numbered: bool
) -> None:
    """The CSV of a long episode has each row once, in order, with its texts in full."""
    monkeypatch.setattr("dashboard.sql.listing.MAX_SORTED", 50)
    monkeypatch.setattr("dashboard.sql.download.BLOCK", 20)
    rows = steps(300, length=250, observation="x" * 5_000)
    if not numbered:
        rows[7]["step_index"] = None
    random.Random(2).shuffle(rows)
    write(engine, Step, rows)
    _, lines = download.csv(queries, {"run": "run", "agent": "a", "episode": "0"})
    found = list(csv.DictReader(io.StringIO("".join([text async for text in lines]), newline="")))
    assert [float(row["reward"]) for row in found] == [float(seq) for seq in range(1, 251)]
    assert {len(json.loads(row["observation"])) for row in found} == {5_000}
    assert {row["worker_id"] for row in found} == {"w"}


async def test_a_series_is_downloaded_under_the_names_of_sql(engine: Engine, queries: Queries) -> None:
    """The CSV of a series has each point with its global step, its episode, its moment and its value."""
    write(engine, Metrics, [event(seq, global_step=seq * 10, metrics={"loss": seq / 4}) for seq in (1, 2)])
    _, lines = download.csv(queries, {"kind": "series", "run": "run", "source": "metrics", "name": "loss"})
    found = list(csv.DictReader(io.StringIO("".join([text async for text in lines]), newline="")))
    moment = T0.isoformat(timespec="seconds")[:16]
    assert [row.pop("event_time")[:16] for row in found] == [moment, moment]
    assert found == [
        {"global_step": "10", "episode_index": "", "loss": "0.25"},
        {"global_step": "20", "episode_index": "", "loss": "0.5"},
    ]


async def test_a_long_episode_is_whole_in_the_table(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of one episode reaches its last step; a sorted one says after how many rows it ends."""
    monkeypatch.setattr("dashboard.sql.listing.MAX_SORTED", 50)
    write(engine, Step, steps(300, length=250))
    view = {"kind": "steps", "run": "run", "agent": "a", "episode": "0"}
    answer, problem = await history.answer(queries, view, {"startRow": 240, "endRow": 260})
    assert ([row["seq"] for row in answer["rowData"]], answer["rowCount"]) == ([*range(241, 251)], 250)
    assert problem == ""
    by_reward = {"startRow": 0, "endRow": 10, "sortModel": [{"colId": "reward", "sort": "desc"}]}
    answer, problem = await history.answer(queries, view, by_reward)
    assert (answer["rowData"][0]["reward"], answer["rowCount"]) == (250.0, 50)
    assert "only the first 50 rows" in problem


async def test_an_outage_is_no_empty_table(database: Settings) -> None:
    """While the database is away the table says so, and a download is aborted."""
    queries = Queries(database)
    answer, problem = await history.answer(queries, {"kind": "steps", "run": "r", "agent": "a"}, {})
    assert (answer["rowData"], "cannot be shown" in problem) == ([], True)
    _, lines = download.csv(queries, {"run": "r", "agent": "a"})
    with pytest.raises(DatabaseError):
        _ = [text async for text in lines]
    queries.close()


def test_a_request_that_is_none() -> None:
    """A request that AG Grid would not send is refused in a sentence; one too large is cut."""
    with pytest.raises(UsageError, match="no page"):
        PageRequest.of({"startRow": "zero"})
    assert PageRequest.of({"startRow": -5, "endRow": 10**9}) == PageRequest(0, 500)
    assert PageRequest.of(None) == PageRequest(0, 100)


async def test_a_filter_without_a_number(engine: Engine, queries: Queries) -> None:
    """A number filter whose value is no number is refused in a sentence."""
    bad = {"filterType": "number", "type": "equals", "filter": "many"}
    with pytest.raises(UsageError, match="reward"):
        await queries.steps("run", "a", PageRequest(filters={"reward": bad}))


async def test_sorted_by_any_column(engine: Engine, queries: Queries) -> None:
    """The table can be sorted by any column, also by JSON, which is sorted by its text."""
    write(engine, Step, [event(n, observation=text) for n, text in enumerate("bca", 1)])
    for name in rows.columns(STEPS):
        page = await queries.steps("run", "a", PageRequest(sort=[{"colId": name, "sort": "asc"}]))
        assert page.total == 3
    page = await queries.steps("run", "a", PageRequest(sort=[{"colId": "observation", "sort": "asc"}]))
    assert [row["seq"] for row in page.rows] == [3, 1, 2]


async def test_long_texts_are_cut_and_whole(engine: Engine, queries: Queries) -> None:
    """A page holds the head of a long text and says so; one step has it in full, as the worker wrote it."""
    write(engine, Step, [event(1, observation="x" * 50_000, action=1, info={"a": [1, 2]}, reward=1.0)])
    (row,) = (await queries.steps("run", "a", PageRequest())).rows
    assert row["cut"]
    assert len(row["observation"]) < 3_000
    whole = await queries.step("run", "s", 1)
    assert whole is not None
    assert (json.loads(whole["observation"]), whole["action"], whole["cut"]) == ("x" * 50_000, "1", False)
    assert await queries.step("run", "s", 2) is None


async def test_the_episodes_table(engine: Engine, queries: Queries) -> None:
    """Seed, mode, game and outcome come from extras and the run's config, as no column holds them."""
    write(engine, Run, [run(config={"seed": 42}, env_id="Lake")])
    told = {"extras": {"mode": "human", "game_id": "Chess", "outcome": "draw"}, "seed": 7}
    write(
        engine,
        Episode,
        [
            event(1, episode_index=0, episode_return=0.5, episode_length=9, terminated=True) | told,
            event(2, episode_index=1, episode_return=1.0, extras={"success": True}),
        ],
    )
    second, first = (await queries.episodes("run", "a", PageRequest())).rows
    names = [
        "episode_length",
        "episode_return",
        "terminated",
        "truncated",
        "run_seed",
        "seed",
        "mode",
        "game",
        "outcome",
    ]
    assert [first[name] for name in names] == [9, 0.5, True, None, 42, 7, "human", "Chess", "draw"]
    assert [second[name] for name in ("episode_length", "run_seed", "game", "outcome")] == [
        None,
        42,
        "Lake",
        "success",
    ]
    assert first["event_time"] == int((T0 + timedelta(seconds=1)).timestamp() * 1000)


async def test_the_steps_of_an_episode(engine: Engine, queries: Queries) -> None:
    """The steps of an episode are read completely and in order."""
    write(engine, Step, steps(30))
    found = await queries.episode_steps("run", "a", 2)
    assert [(row["step_index"], row["seq"]) for row in found] == [(n, 15 + n) for n in range(7)]


async def test_the_head_of_arun(engine: Engine, queries: Queries) -> None:
    """The head has status, reason, counts, each stream's newest heartbeat, and the last words on stderr."""
    write(engine, Run, [run(status="failed", reason="exit code 1", steps=5, logs=2, git_commit="abc")])
    write(engine, Agent, [agent("a"), agent("b")])
    heartbeats = [
        event(seq, stream_id=stream, event="heartbeat", payload={"read": seq})
        for stream in ("s.meta", "t.meta")
        for seq in (1, 2)
    ]
    others = [event(3, stream_id="s.meta", event="other"), event(9, stream_id="s", event="heartbeat")]
    write(engine, RunEvent, [*heartbeats, *others])
    write(
        engine,
        LogLine,
        [event(n, source="stderr", line=f"line {n}", stream_id="s.meta") for n in range(9, 40)],
    )
    header = await queries.run("run")
    assert header is not None
    assert (header.run["status"], header.run["reason"]) == ("failed", "exit code 1")
    assert (header.agents, header.in_sql) == (2, 7)
    assert header.heartbeats == [{"read": 2}, {"read": 2}]
    assert header.last_stderr == [f"line {n}" for n in range(20, 40)]
    assert await queries.run("nobody") is None


async def test_the_list_of_runs(engine: Engine, queries: Queries) -> None:
    """The list has the newest run first, with agents and mean return; any column sorts and filters it."""
    runs = [run(f"run-{n}", started_at=T0 + timedelta(hours=n), steps=10 - n) for n in range(5)]
    write(engine, Run, runs)
    write(engine, Agent, [agent("a", "run-1", return_sum=6.0, returns=3), agent("b", "run-1")])
    page = await queries.runs(PageRequest(0, 3))
    assert ([row["run_id"] for row in page.rows], page.total) == (["run-4", "run-3", "run-2"], 5)
    page = await queries.runs(PageRequest(sort=[{"colId": "steps", "sort": "desc"}]))
    assert [row["steps"] for row in page.rows] == [10, 9, 8, 7, 6]
    assert [(row["agents"], row["mean_return"]) for row in page.rows][:2] == [(0, None), (2, 2.0)]
    named = {"filterType": "text", "type": "endsWith", "filter": "-3"}
    page = await queries.runs(PageRequest(filters={"run_id": named}))
    assert [row["run_id"] for row in page.rows] == ["run-3"]


async def test_logs_and_dead_letters(engine: Engine, queries: Queries) -> None:
    """Logs come with the newest first; raw bytes of dead letters become readable text."""
    write(engine, LogLine, [event(n, source="stdout", line=f"line {n}") for n in range(1, 6)])
    page = await queries.logs("run", PageRequest(0, 2))
    assert ([row["line"] for row in page.rows], page.total) == (["line 5", "line 4"], 5)
    letter = {"reason": "not_utf8", "message": "…", "raw": b'{"a": \xff', "producer_version": "1"}
    write(engine, DeadLetter, [event(1, **letter)])
    (row,) = (await queries.dead_letters("run", PageRequest())).rows
    assert (row["reason"], row["raw"], row["redriven_at"]) == ("not_utf8", '{"a": \ufffd', None)


async def test_no_tables_yet(database: Settings) -> None:
    """A database without tables raises an error that says what to start."""
    queries = Queries(database)
    with pytest.raises(DatabaseError, match="persist"):
        await queries.runs(PageRequest())
    queries.close()


async def test_a_question_that_takes_too_long(
    engine: Engine, database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement over its time limit is given up with an error that says so."""
    write(engine, Step, steps(20_000))
    queries = Queries(database, seconds=0.001)
    with pytest.raises(DatabaseError, match="took longer"):
        await queries.steps("run", "a", PageRequest(sort=[{"colId": "observation", "sort": "asc"}]))
    queries.close()


def test_an_index_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unused seek indexes are dropped: their number has a limit."""
    monkeypatch.setattr(seek_index, "MAX_INDEXES", 3)
    monkeypatch.setattr(seek_index.SeekIndex, "build", lambda *_: object())
    indexes = seek_index.SeekIndexes()
    for name in range(10):
        indexes.get(name, None, Base.metadata.tables["steps"], seek_index.BY_LINE, None)  # type: ignore[arg-type]
    assert len(indexes._held) == 3


async def test_an_episode_is_walked_step_by_step(engine: Engine, queries: Queries) -> None:
    """An episode is walked from its first step to its last and back, whichever agents act between."""
    write(engine, Step, steps(21) + [event(100 + seq, agent_id="b", reward=1.0) for seq in range(3)])
    write(
        engine, Step, [event(seq, stream_id="t", agent_id="ab"[seq % 2], reward=1.0) for seq in range(1, 9)]
    )
    step = await queries.step_of_episode("run", "a", 1)
    walked = []
    while step is not None:
        walked.append(step["seq"])
        step = await queries.step_beside("run", "s", step["seq"], after=True)
    assert walked == list(range(8, 15))
    assert await queries.step_beside("run", "s", 8, after=False) is None
    before = await queries.step_beside("run", "s", 12, after=False)
    assert before is not None
    assert (before["seq"], before["step_index"]) == (11, 3)
    unnumbered = await queries.step_beside("run", "t", 3, after=True)
    assert unnumbered is not None
    assert (unnumbered["seq"], unnumbered["agent_id"]) == (5, "b")
    assert await queries.step_of_episode("run", "a", 3) is None
    numbered = await queries.step_of_episode("run", "a", 1, 5)
    assert numbered is not None
    assert (numbered["episode_index"], numbered["step_index"], numbered["seq"]) == (1, 5, 13)
    assert await queries.step_of_episode("run", "a", 1, 99) is None
    assert await queries.step_beside("run", HOSTILE, 8, after=True) is None
    assert await queries.step_place("run", HOSTILE, 8) is None


BEYOND = [2**53 - 1, 2**53, 2**53 + 1, 1764403200123456789, 2**63 - 1]


async def test_numbers_beyond_what_doubles_count_to(engine: Engine, queries: Queries) -> None:
    """Extreme numbers break no read: rows keep every digit, curves stay short and in order."""
    write(engine, Run, [run("run")])
    write(engine, Agent, [{"run_id": "run", "agent_id": "a"}])
    returns = [1e17 - 16, 1e17, 1e17 + 16, -1e308, 1e308]
    episodes = [
        event(seq, episode_index=index, episode_return=value, episode_length=2**63 - 1)
        for seq, (index, value) in enumerate(zip(BEYOND, returns, strict=True), 1)
    ]
    write(engine, Episode, episodes)
    write(
        engine,
        Step,
        [event(seq, episode_index=n, step_index=n, reward=1e308) for seq, n in enumerate(BEYOND, 1)],
    )
    write(
        engine, Metrics, [event(seq, global_step=n, metrics={"loss": n}) for seq, n in enumerate(BEYOND, 1)]
    )
    curve = await queries.return_curve("run", "a")
    assert 0 < len(curve.x) <= 20
    assert list(curve.x) == sorted(curve.x)
    assert set(curve.y) <= set(returns)
    series = await queries.minmax(Series("run", "metrics", "loss"), pixels=10)
    assert 0 < len(series.x) <= 20
    page = await queries.episodes("run", "a", PageRequest())
    assert {row["episode_index"] for row in page.rows} >= {1764403200123456789, 2**63 - 1}
    found = await queries.episode_steps("run", "a", 2**63 - 1)
    assert [row["step_index"] for row in found] == [2**63 - 1]
    assert await queries.newest_returns("run")


async def test_what_episodes_begin_with(engine: Engine, queries: Queries) -> None:
    """Each first observation comes with the first episode that began with it, as the worker wrote it."""
    rows = [
        row | {"observation": {"task": row["episode_index"] % 2, "at": row["step_index"]}}
        for row in steps(28)
    ]
    write(engine, Step, rows)
    found = await queries.first_observations("run", "a")
    assert sorted(found.values()) == [0, 1]
    assert [json.loads(text)["at"] for text in found] == [0, 0]
    assert await queries.first_observations("run", "nobody") == {}
