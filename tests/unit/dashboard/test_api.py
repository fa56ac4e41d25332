"""History over HTTP, from either database: the whole dashboard on a real port."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from dashboard.api import ADDRESSES
from dashboard.app import create
from infra.settings import Settings, load
from schemas.topics import Kind
from tests.support.records import record
from tests.support.replays import lines_of, store_lines
from tests.support.web import served

Ask = Callable[..., tuple[int, Any]]
NO_REDIS = "redis://127.0.0.1:9/0"
"""Nothing answers there: the API needs SQL alone."""
RUN = "a/b?c=%2F é"


@pytest.fixture
def ask(database: Settings) -> Iterator[Ask]:
    """Ask an address of the API; returns the status and what the JSON says."""
    fill(database, RUN)
    with served(create(replace(database, redis_url=NO_REDIS))) as server:

        def get(path: str, method: str = "GET", **asked: Any) -> tuple[int, Any]:
            status, headers, text = server.ask(f"/api/v1/{path}?{urlencode(asked)}", method)
            assert headers["content-type"] == "application/json", text
            return status, json.loads(text)

        yield get


def fill(settings: Settings, run_id: str) -> None:
    """Store a run of 60 episodes and 240 steps with an infinite reward and a long configuration."""
    lines = lines_of(run_id, "s1", 60)
    started = {"stream_id": "s1.meta", "event_time": lines[0][1]["event_time"], "event": "run_started"}
    config = json.dumps({"config": {"lr": 0.1, "notes": "n" * 5000}})
    lines.append((Kind.RUNS, record(Kind.RUNS, run_id, seq=1, payload=config, **started)))
    picture = record(Kind.FRAMES, run_id, stream_id="s1", seq=7, event_time=lines[6][1]["event_time"])
    lines.insert(7, (Kind.FRAMES, picture | {"agent_id": lines[6][1]["agent_id"]}))
    lines[0][1]["reward"] = float("inf")
    lines[0][1]["observation"] = '{"at": [1, 2.50, "NaN"]}'
    store_lines(settings, run_id, lines)


def test_runs(ask: Ask) -> None:
    """The API lists runs by status, and gives one run with its whole configuration and its agents."""
    status, found = ask("runs", status="running")
    assert (status, found["total"]) == (200, 1)
    assert found["runs"][0]["run_id"] == RUN
    assert found["runs"][0]["started_at"].startswith("2026-09-21T")
    assert ask("runs", status="failed") == (200, {"runs": [], "total": 0})
    _, run = ask("run", run=RUN)
    assert (run["steps"], run["config"]["notes"]) == (240, "n" * 5000)
    assert [agent["episodes"] for agent in run["agents"]] == [60]


def test_series(ask: Ask) -> None:
    """The API gives names, newest points, and the extremes of every pixel, smoothed on request."""
    assert ask("names", run=RUN) == (200, {"names": ["loss"]})
    returns = {"run": RUN, "source": "episodes", "name": "episode_return", "axis": "episode"}
    _, newest = ask("latest", count=3, **returns)
    assert (newest["x"], newest["y"], newest["total"]) == ([57, 58, 59], [57, 58, 59], 59)
    _, part = ask("minmax", **returns | {"from": 10, "to": 20})
    assert part["y"] == [float(n) for n in range(10, 21)]
    _, narrow = ask("minmax", pixels=5, smooth="mean:10", **returns)
    assert len(narrow["x"]) <= 10
    assert (narrow["y"][0], narrow["y"][-1]) == (0, 59)
    assert narrow["mean"][-1] == pytest.approx(54.5)
    assert ask("minmax", run=RUN, name="nothing")[1]["y"] == []


def test_a_moment(ask: Ask) -> None:
    """The API gives the state at a position named as in replay; NaN and the infinities are strings."""
    _, state = ask("state", run=RUN, at="episode:7-20", count=5)
    assert (state["step"], state["seq"]) == (9, 11)
    assert state["run"]["episodes"] == 2
    assert state["agent"]["newest_episode_index"] == 1
    assert [step["seq"] for step in state["steps"]] == [6, 7, 8, 9, 11]
    assert state["frame"] == {
        "topic": "telemetry.frames", "partition": 0, "offset": 0, "stream_id": "s1", "seq": 7
    }  # fmt: skip
    _, first = ask("state", run=RUN, at="step:0")
    assert first["frame"] is None
    assert first["steps"][0]["reward"] == "Infinity"
    assert first["steps"][0]["observation"] == {"at": [1, 2.5, "NaN"]}
    assert ask("state", run=RUN)[1]["run"]["steps"] == 240
    assert ask("state", run=RUN, at="best")[1]["agent"]["best_return"] == 59


@pytest.mark.parametrize(
    ("path", "asked", "status", "words"),
    [
        ("run", {"run": "nobody"}, 404, "nobody"),
        ("latest", {"run": "nobody", "name": "loss"}, 404, "nobody"),
        ("state", {"run": RUN, "at": "episode:999"}, 404, "episodes 0 to 59"),
        ("state", {"run": RUN, "at": "noon"}, 400, "noon"),
        ("state", {"run": RUN, "of": "x"}, 400, "unknown parameter `of`"),
        ("latest", {"run": RUN}, 400, "missing required parameter `name`"),
        ("latest", {"run": RUN, "name": "loss", "count": 0}, 400, "`count`"),
        ("minmax", {"run": RUN, "name": "loss", "pixels": "wide"}, 400, "`pixels`"),
        ("minmax", {"run": RUN, "name": "loss", "smooth": "much"}, 400, "much"),
        ("minmax", {"run": RUN, "name": "loss", "source": "logs"}, 400, "logs"),
        ("elsewhere", {}, 404, "/api/v1/state"),
    ],
)
def test_wrong_use(ask: Ask, path: str, asked: dict[str, Any], status: int, words: str) -> None:
    """A wrong request gets one sentence under `error` that names what is wrong."""
    found, answer = ask(path, **asked)
    assert found == status
    assert words in answer["error"]


def test_nothing_is_changed_by_it(ask: Ask) -> None:
    """Every address of the API refuses POST: the API is read by GET alone."""
    for path in ADDRESSES:
        assert ask(path.strip("/"), "POST") == (405, {"error": "This is only read, by GET."})


def test_a_database_that_is_away(home: Path) -> None:
    """While the database is away, the API answers 503 with the sentence that the page shows."""
    database = f"sqlite:///{home}/no.db"
    made = replace(load({}), home=home, database_url=database, redis_url=NO_REDIS)
    with served(create(made)) as server:
        status, _, text = server.ask("/api/v1/runs")
    assert status == 503
    assert "db upgrade" in json.loads(text)["error"]
