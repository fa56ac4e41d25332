"""On stderr `run` says where to look, what is another attempt, and why lines are dead letters."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.waiting import print_summary
from producers.forward.background import Totals
from schemas.topics import Kind

RunCli = Callable[..., subprocess.CompletedProcess[str]]
WORKER = ("--", sys.executable, "-c", "print('hello')")


def said(home: Path) -> list[dict[str, object]]:
    """The `run_started` lines of all of stepstream's own streams."""
    texts = (file.read_text() for file in sorted(home.glob("spool/*.meta/*.jsonl")))
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return [line for line in lines if line["event"] == "run_started"]


def test_a_run_has_a_name_and_an_address(home: Path, run_cli: RunCli) -> None:
    """The address is printed only while `up` holds the home; the name goes into the run's record."""
    (home / "stack.json").write_text(json.dumps({"dashboard_url": "http://127.0.0.1:8050"}))
    (home / "stack.lock").touch()
    alone = run_cli("run", "--run-id", "a b", "--name", "baseline, lr 0.1", *WORKER)
    assert "8050" not in alone.stderr
    assert [line["name"] for line in said(home)] == ["baseline, lr 0.1"]
    with (home / "stack.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        named = run_cli("run", "--run-id", "a b", "--name", "baseline", *WORKER)
        generated = run_cli("run", *WORKER)
        as_json = run_cli("run", "--json", *WORKER)
    assert "stepstream: run baseline: http://127.0.0.1:8050/runs/a%20b\n" in named.stderr
    assert re.search(r"run (\w{26}): http://127.0.0.1:8050/runs/\1\n", generated.stderr)
    assert "8050" not in as_json.stderr


def test_another_attempt_is_said(home: Path, run_cli: RunCli) -> None:
    """`run` reports another attempt of an id, but not a first one, nor one while another still runs."""
    assert "another attempt" not in run_cli("run", "--run-id", "r", *WORKER).stderr
    assert "stepstream runs attempts r" in run_cli("run", "--run-id", "r", *WORKER).stderr
    with next(home.glob("spool/*/writer.lock")).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another attempt" not in run_cli("run", "--run-id", "r", *WORKER).stderr


def test_the_summary_names_the_way_to_dead_letters(capsys: pytest.CaptureFixture[str]) -> None:
    """The summary stays one line, and names `dlq list` only where there are dead letters."""
    totals = Totals()
    totals.runs["r"] = "open"
    print_summary(totals, 1.0, as_json=False, err=True)
    assert "dlq" not in capsys.readouterr().err
    totals.counts[Kind.DLQ.value] = 2
    print_summary(totals, 1.0, as_json=False, err=True)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "2 dead letters, why: stepstream dlq list r" in line
