"""`dlq` finds dead letters in SQL and sends them again under the key of their own line."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings

RunCli = Callable[..., subprocess.CompletedProcess[str]]
LINES = '{"type":"step","run_id":"r","step_index":1,"reward":"much"}\n{"type":"step","reward":2}\n{broken\n'


def sql(home: Path, query: str) -> list[Any]:
    """Rows of the home's SQLite."""
    with sqlite3.connect(home / "stepstream.db") as connection:
        return connection.execute(query).fetchall()


def until(holds: Callable[[], Any], seconds: float = 40) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def stored(settings: Settings, home: Path, run_cli: RunCli, spawn_cli: Callable[..., Any]) -> Path:
    """A home whose SQL holds a step and two dead letters; persist goes on running."""
    assert run_cli("db", "upgrade").returncode == 0
    assert run_cli("ingest", input=LINES).returncode == 0
    spawn_cli("persist")
    until(lambda: sql(home, "SELECT count(*) FROM dead_letters") == [(2,)])
    until(lambda: sql(home, "SELECT count(*) FROM steps") == [(1,)])
    return home


def test_letters_are_listed_shown_and_redriven(stored: Path, run_cli: RunCli) -> None:
    """A mended line is stored under its own number, and its letter stays, with the time of the redrive."""
    letters = json.loads(run_cli("dlq", "list", "r", "--json").stdout)
    assert [(letter["seq"], letter["reason"], letter["field"]) for letter in letters] == [
        (1, "bad_value", "reward"),
        (3, "broken_json", None),
    ]
    assert letters[0]["raw"] == LINES.splitlines()[0]
    stream = letters[0]["stream_id"]
    assert stream in run_cli("dlq", "list").stdout
    assert "much" in run_cli("dlq", "show", stream, "1").stdout

    refused = json.loads(run_cli("dlq", "redrive", "--json").stdout)
    assert (refused["redriven"], refused["refused"]) == (0, 2)

    mended = '{"type":"step","step_index":1,"reward":3}'
    done = run_cli("dlq", "redrive", "--stream", stream, "--seq", "1", "--raw", mended, "--json")
    assert json.loads(done.stdout)["redriven"] == 1
    until(lambda: sql(stored, "SELECT count(*) FROM steps") == [(2,)])
    row = sql(stored, "SELECT run_id, stream_id, seq, reward FROM steps ORDER BY seq")[0]
    assert row == ("r", stream, 1, 3.0)
    redriven = sql(stored, "SELECT seq, redriven_at IS NOT NULL FROM dead_letters ORDER BY seq")
    assert redriven == [(1, 1), (3, 0)]
    again = json.loads(run_cli("dlq", "redrive", "--json").stdout)
    assert (again["redriven"], again["refused"]) == (0, 1)


def test_wrong_use_is_one_sentence(stored: Path, run_cli: RunCli) -> None:
    """Wrong use of `dlq` gives one sentence, no traceback, and exit code 2."""
    for arguments in (("show", "nobody", "1"), ("redrive", "--raw", "x")):
        done = run_cli("dlq", *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


def test_a_line_of_the_sdk_is_read_as_the_sdks(
    settings: Settings, home: Path, run_cli: RunCli, spawn_cli: Callable[..., Any]
) -> None:
    """The metrics of a redriven line of the SDK keep their names: `return`, not `metrics/return`."""
    assert run_cli("db", "upgrade").returncode == 0
    code = "import stepstream; stepstream.init(run_id='r').log({'return': 0.5, 'text': 'x' * 3000})"
    for service in ("persist", "forward"):
        spawn_cli(service, env={"STEPSTREAM_MAX_LINE_BYTES": "3000"})
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    until(lambda: sql(home, "SELECT count(*) FROM dead_letters") == [(1,)])
    stream, seq = sql(home, "SELECT stream_id, seq FROM dead_letters")[0]
    mended = '{"type":"metrics","run_id":"r","step":1,"metrics":{"return":0.5}}'
    done = run_cli("dlq", "redrive", "--stream", stream, "--seq", str(seq), "--raw", mended, "--json")
    assert json.loads(done.stdout)["redriven"] == 1
    until(lambda: sql(home, "SELECT count(*) FROM metrics") == [(1,)])
    assert sql(home, "SELECT global_step, metrics FROM metrics") == [(1, '{"return":0.5}')]
