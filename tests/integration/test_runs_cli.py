"""`runs list`, `show` and `export`, the real program, on both databases."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.persist.batch import Outcome, store_rollups
from infra.settings import load
from infra.sql import migrations
from infra.sql.writers import open_writer
from schemas.topics import LINES, Kind
from tests.support.events import mixed, record, run_event

Cli = Callable[..., subprocess.CompletedProcess[str]]
STEPS = 800


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[Kind, list[Any]]:
    """A run of a thousand lines in a database of each kind; its records by kind."""
    if request.param == "postgresql":
        monkeypatch.setenv("STEPSTREAM_DATABASE_URL", request.getfixturevalue("postgres"))
    writer = open_writer(replace(load()))
    migrations.upgrade(writer.engine)
    records: dict[Kind, list[Any]] = {kind: [] for kind in LINES}
    for kind, fields in [(Kind.RUNS, run_event(0, "run_started", env_id="Taxi-v3")), *mixed(1000)]:
        records[kind].append(fields)
    records[Kind.STEPS][0] |= {"reward": math.inf, "info": '{"a": "ä\\u0000"}', "action": '"1,\\n2"'}
    done = Outcome()
    with writer.transaction() as tx:
        for kind, found in records.items():
            for fields in found:
                done.fold.add(kind, fields, fields["event_time"])
            names = list(record(kind, 1))
            rows = [[*(fields[name] for name in names), 0, place] for place, fields in enumerate(found)]
            if kind is Kind.DLQ:
                rows = [[*(f[n] for n in LETTER), 0, place] for place, f in enumerate(found)]
            tx.insert(kind.table, rows)
        store_rollups(tx, done)
    writer.close()
    return records


LETTER = ("run_id", "stream_id", "seq", "agent_id", "worker_id", "event_time",
          "reason", "field", "message", "raw", "producer_version", "topic")  # fmt: skip


def test_list_and_show(stored: dict[Kind, list[Any]], run_cli: Cli):
    """`runs list` and `runs show` print the columns of `runs` and the counts, as JSON and for people."""
    (run,) = json.loads(run_cli("runs", "list", "--json").stdout)
    assert (run["run_id"], run["status"], run["env_id"]) == ("run", "running", "Taxi-v3")
    assert (run["agents"], run["steps"], run["episodes"], run["metrics"]) == (1, STEPS, 50, 50)
    assert (run["logs"], run["dead_letters"], run["run_events"]) == (50, 50, 1)
    assert json.loads(run_cli("runs", "show", "run", "--json").stdout) == run
    assert "Taxi-v3" in run_cli("runs", "list").stdout
    assert "800" in run_cli("runs", "show", "run").stdout
    nobody = run_cli("runs", "show", "nobody")
    assert (nobody.returncode, "Traceback" in nobody.stderr) == (2, False)


def test_a_run_is_found_by_its_name(stored: dict[Kind, list[Any]], run_cli: Cli):
    """The list has name, return and duration; a name that several runs have is refused with their ids."""
    writer = open_writer(load())

    def name(run_id: str, called: str) -> None:
        done = Outcome()
        fields = run_event(1, "run_started", run_id=run_id, name=called)
        done.fold.add(Kind.RUNS, fields, fields["event_time"])
        done.fold.add(
            Kind.RUNS, run_event(61, "run_completed", run_id=run_id), fields["event_time"] + 60_000_000
        )
        with writer.transaction() as tx:
            tx.insert("run_events", [[*fields.values(), 0, 1]])
            store_rollups(tx, done)

    name("run-2", "baseline")
    listed = run_cli("runs", "list").stdout
    header, *lines = listed.splitlines()
    assert {"name", "return", "duration"} <= set(header.split())
    assert any("baseline" in line and "run-2" in line for line in lines)
    assert json.loads(run_cli("runs", "show", "baseline", "--json").stdout)["run_id"] == "run-2"
    shown = run_cli("runs", "show", "baseline").stdout
    assert "attempt 1" in shown
    (attempt,) = json.loads(run_cli("runs", "attempts", "baseline", "--json").stdout)
    assert (attempt["number"], attempt["stream_ids"]) == (1, [run_event(1, "run_started")["stream_id"]])
    name("run-3", "baseline")
    twice = run_cli("runs", "show", "baseline")
    assert twice.returncode == 2
    assert "run-2" in twice.stderr
    assert "run-3" in twice.stderr
    deleted = run_cli("runs", "delete", "run-2", "--yes", "--json")
    assert json.loads(deleted.stdout) == {"run_id": "run-2", "deleted": 1}
    writer.close()


def test_jsonl(stored: dict[Kind, list[Any]], run_cli: Cli, tmp_path: Path):
    """Every table is a file of objects; JSON columns are values, and an infinity is a word."""
    done = run_cli("runs", "export", "run", "--format", "jsonl", "--output", str(tmp_path / "out"), "--json")
    told = json.loads(done.stdout)
    assert told["rows"] == {k.table: len(v) for k, v in stored.items()} | {"runs": 1, "agents": 1}
    steps = [json.loads(line) for line in (tmp_path / "out" / "steps.jsonl").open()]
    assert [step["seq"] for step in steps] == [fields["seq"] for fields in stored[Kind.STEPS]]
    assert (steps[0]["reward"], steps[0]["info"], steps[0]["action"]) == ("Infinity", {"a": "ä\0"}, "1,\n2")
    assert steps[0]["event_time"].startswith("2025-11-24T16:00:00.001")
    letter = json.loads((tmp_path / "out" / "dead_letters.jsonl").open().readline())
    assert base64.b64decode(letter["raw"]) == b"{"
    assert not list((tmp_path / "out").glob("*.part"))


def test_csv_to_stdout(stored: dict[Kind, list[Any]], run_cli: Cli):
    """One table goes to stdout as CSV; JSON columns are the stored text."""
    done = run_cli("runs", "export", "run", "--format", "csv", "--table", "steps", "--output", "-")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == STEPS
    assert (rows[0]["reward"], rows[0]["action"], rows[0]["worker_id"]) == ("Infinity", '"1,\\n2"', "")


def test_parquet(stored: dict[Kind, list[Any]], run_cli: Cli, tmp_path: Path):
    """A stock reader finds typed columns in the exported Parquet files."""
    parquet = pytest.importorskip("pyarrow.parquet")
    done = run_cli("runs", "export", "run", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(tmp_path / "out" / "steps.parquet")
    assert table.num_rows == STEPS
    assert str(table.schema.field("event_time").type) == "timestamp[us, tz=UTC]"
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["reward"], first["info"], first["terminated"]) == (math.inf, '{"a": "ä\\u0000"}', None)


def test_wrong_use(stored: dict[Kind, list[Any]], run_cli: Cli, tmp_path: Path):
    """Wrong use of `runs export` exits with 1 or 2 and shows no traceback."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    for arguments, code in (
        (["run", "--output", "-"], 2),
        (["run", "--table", "steps", "--output", "-"], 2),
        (["run", "--format", "xml"], 2),
        (["run", "--output", str(blocked)], 1),
    ):
        done = run_cli("runs", "export", *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)
