"""Lines, closed streams and environments of public bug reports give the right rows on one real stack.

`tests/data/reports/README.md` says where they are from and what is right.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from infra.embedded import process
from schemas.topics import META_SUFFIX
from tests.support.processes import wait_for

PROGRAM = str(Path(sys.executable).with_name("stepstream"))
REPORTS = Path(__file__).parents[1] / "data" / "reports"
Sql = Callable[[str], list[Any]]


class Stack:
    """A home with a stack; its SQLite is asked for what persist stored."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        self.home, self.env = home, os.environ | env

    def cli(self, *arguments: str) -> str:
        """Run the program, which must succeed, and return its standard output."""
        command = [PROGRAM, *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ingest(self, *files: Path) -> str:
        """Send files as one new run, wait until all of it is stored, and return its id."""
        run_id = uuid.uuid4().hex
        said = json.loads(self.cli("ingest", "--json", "--run-id", run_id, *map(str, files)))
        wait_for(lambda: self.counted(run_id) == said["read"], 90)
        return run_id

    def counted(self, run_id: str) -> int:
        """Records of the lines of a run."""
        tables = ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters")
        own = f"WHERE run_id = '{run_id}' AND stream_id NOT LIKE '%{META_SUFFIX}'"
        return sum(self.sql(f"SELECT count(*) FROM {table} {own}")[0][0] for table in tables)

    def sql(self, query: str) -> list[Any]:
        """The rows that a query gives."""
        with closing(sqlite3.connect(self.home / "stepstream.db")) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def stack(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is started once for this file."""
    home, prefix = tmp_path_factory.mktemp("reports"), f"reports-{uuid.uuid4().hex[:6]}."
    env = {
        "STEPSTREAM_HOME": str(home),
        "STEPSTREAM_BOOTSTRAP_SERVERS": kafka,
        "STEPSTREAM_TOPIC_PREFIX": prefix,
        "STEPSTREAM_GROUP_PREFIX": prefix,
    }
    made = Stack(home, env)
    made.cli("topics", "create")
    made.cli("db", "upgrade")
    services = []
    for name in ("persist", "forward"):
        with (home / f"{name}.log").open("ab") as log:
            services.append(process.spawn([PROGRAM, name], output=log, variables=env))
    yield made
    for service in services:
        process.end(service)


@pytest.mark.parametrize("name", ["d_done", "d_obs", "d_state", "d_obsact"])
def test_steps_without_a_kind(stack: Stack, name: str) -> None:
    """Lines without a kind are steps, not episodes, and `obs` or `state` is the observation."""
    path = REPORTS / "19-steps-without-kind" / f"{name}.jsonl"
    run_id = stack.ingest(path)
    given = [json.loads(line) for line in path.read_text().splitlines()]
    rows = stack.sql(
        "SELECT episode_index, step_index, reward, terminated, observation FROM steps "
        f"WHERE run_id = '{run_id}' ORDER BY seq"
    )
    assert [row[:4] for row in rows] == [
        (line["episode"], line["step"], line["reward"], line["done"]) for line in given
    ]
    seen = [line.get("obs", line.get("state")) for line in given]
    assert [None if row[4] is None else json.loads(row[4]) for row in rows] == seen


def test_times(stack: Stack) -> None:
    """A step with an unreadable or implausible time has the time of arrival, and the value in extras."""
    path = REPORTS / "20-times" / "d_time.jsonl"
    run_id = stack.ingest(path)
    rows = stack.sql(
        f"SELECT step_index, event_time, extras FROM steps WHERE run_id = '{run_id}' ORDER BY step_index"
    )
    assert [row[0] for row in rows] == list(range(33))
    kept = {row[0]: json.loads(row[2])["timestamp"] for row in rows if row[2] is not None}
    given = [json.loads(line)["timestamp"] for line in path.read_text().splitlines()]
    assert kept.keys() == {13, 15, 16, 17, 18, 19, 20, 28, 29, 30, 31, 32}
    assert all(kept[step] == given[step] for step in kept)
    read = [row for row in rows if row[0] not in {*kept, 26, 27}]
    assert {row[1][:10] for row in read} <= {"2025-11-28", "2025-11-29", "2025-11-30"}


def test_numbers_beyond_what_a_page_counts_to(stack: Stack) -> None:
    """Numbers beyond a page's range are stored, and SQL gives them with every digit."""
    folder = REPORTS / "21-chart-hang"
    run_id = stack.ingest(*sorted(folder.glob("*.jsonl")))
    assert stack.sql(f"SELECT episode_index, episode_return FROM episodes WHERE run_id = '{run_id}'") == [
        (1764403200123456789, 1.0)
    ]
    losses = [
        json.loads(row[0])["loss"]
        for row in stack.sql(f"SELECT metrics FROM metrics WHERE run_id = '{run_id}'")
    ]
    assert sorted(map(str, losses)) == sorted(map(str, [1e308, -1e308, "Infinity", "NaN", 1.0, 1.0, 1.0]))
    assert json.loads(stack.cli("runs", "show", run_id, "--json"))["episodes"] == 1


def test_a_reward_that_is_a_bool(stack: Stack) -> None:
    """A reward that is a bool is stored as 0 or 1, and counts in the episode's return."""
    subprocess.run(
        [sys.executable, "boolr.py"], cwd=REPORTS / "22-bool-reward", env=stack.env, check=True, timeout=90
    )
    wait_for(lambda: stack.sql("SELECT count(*) FROM episodes WHERE run_id = 'g_bool'") == [(3,)], 60)
    assert stack.sql("SELECT reward, count(*) FROM steps WHERE run_id = 'g_bool' GROUP BY 1 ORDER BY 1") == [
        (0.0, 12),
        (1.0, 3),
    ]
    assert stack.sql("SELECT DISTINCT episode_return FROM episodes WHERE run_id = 'g_bool'") == [(1.0,)]
    assert stack.sql("SELECT count(*) FROM dead_letters WHERE run_id = 'g_bool'") == [(0,)]


def test_vector_environments_and_odd_rewards(stack: Stack) -> None:
    """Episodes have lengths 3 and 5 in each autoreset mode, and ten odd rewards are ten steps."""
    subprocess.run([sys.executable, "gv.py"], cwd=REPORTS / "29-right", env=stack.env, check=True, timeout=90)
    wait_for(lambda: stack.sql("SELECT count(*) FROM steps WHERE run_id = 'g_odd'") == [(10,)], 60)
    found = stack.sql(
        "SELECT run_id, agent_id, group_concat(DISTINCT episode_length) FROM episodes WHERE run_id IN "
        "('g_NEXT_STEP', 'g_SAME_STEP', 'g_DISABLED') GROUP BY 1, 2"
    )
    lengths = {"env-0": "3", "env-1": "5"}
    assert {(run, agent) for run, agent, _ in found} == {
        (run, agent) for run in ("g_NEXT_STEP", "g_SAME_STEP", "g_DISABLED") for agent in lengths
    }
    assert all(length == lengths[agent] for _, agent, length in found)
    assert stack.sql("SELECT DISTINCT episode_length FROM episodes WHERE run_id = 'g_stats'") == [(4,)]
    assert stack.sql("SELECT reward FROM steps WHERE run_id = 'g_odd' ORDER BY seq") == [
        (None,), (float("inf"),), (0.5,), (2.0,), (3.0,), (1.0,), (1e20,), (None,), (None,), (1.0,),
    ]  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(stack: Stack, closed: str) -> None:
    """With closed standard streams 20,000 steps reach SQL, and the stream's locks stay empty."""
    run_id = f"closed-{uuid.uuid4().hex}"
    command = f"{PROGRAM} run --run-id {run_id} -- {sys.executable} many.py {closed}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=REPORTS / "17-closed-stdio",
        env=stack.env,
        stdout=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0
    wait_for(lambda: stack.counted(run_id) == 20_000, 120)
    assert stack.sql(f"SELECT count(*), min(reward) FROM steps WHERE run_id = '{run_id}'") == [(20_000, 1.0)]
    assert {path.read_bytes() for path in stack.home.glob("spool/*/writer.lock")} == {b""}


@pytest.mark.parametrize(("name", "kind", "count"), [("bom_crlf", "steps", 5), ("bom_mid", "steps", 10)])
def test_a_bom_wherever_it_stands(stack: Stack, name: str, kind: str, count: int) -> None:
    """A byte order mark belongs to no line, wherever it stands."""
    stack.cli("ingest", str(REPORTS / "29-right" / f"{name}.jsonl"))
    run_id = {"bom_crlf": "i_bom", "bom_mid": "i_bommid"}[name]
    wait_for(lambda: stack.counted(run_id) == count, 60)
    assert stack.sql(f"SELECT count(*) FROM {kind} WHERE run_id = '{run_id}'") == [(count,)]


@pytest.mark.parametrize(("name", "step"), [("d_verl", 5), ("d_nemo", None)])
def test_a_rollout_of_a_language_model_is_a_metric(stack: Stack, name: str, step: int | None) -> None:
    """A rollout that verl or NeMo prints is a metric, not a step of an environment."""
    run_id = stack.ingest(REPORTS / "29-right" / f"{name}.jsonl")
    assert stack.sql(f"SELECT global_step FROM metrics WHERE run_id = '{run_id}'") == [(step,)]
