"""On a real Kafka and a real database `watch` stores every rollout of every data set once."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.folders import tells_changes
from infra.settings import Settings
from tests.support.processes import wait_for
from tests.support.rollouts import COPIES, DATA, EXPECTED, matches, read

RunCli = Callable[..., subprocess.CompletedProcess[str]]
SpawnCli = Callable[..., Any]
PLACE = {"run_id", "stream_id", "seq", "topic_partition", "topic_offset", "kafka_partition", "kafka_offset"}
"""Columns of a row that say where it came from."""
WHOLE = [name for name in EXPECTED if not (DATA / name / "first").exists()]


def database(settings: Settings) -> Path:
    """The file that persist writes."""
    return settings.home / "stepstream.db"


def rows_of(settings: Settings, table: str, count: int, where: str = "true") -> list[dict[str, Any]]:
    """Rows of a table, once there are so many."""
    wanted = f"{table} WHERE {where}"
    wait_for(lambda: len(read(database(settings), wanted)) >= count, 120, f"not {count} rows in {table}")
    return read(database(settings), wanted)


def grow() -> Any:
    """The program that writes data sets as a run would."""
    spec = importlib.util.spec_from_file_location("grow", DATA / "grow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def persist(settings: Settings, run_cli: RunCli, spawn_cli: SpawnCli) -> Settings:
    """Settings of a stack whose persist runs."""
    assert run_cli("db", "upgrade").returncode == 0
    spawn_cli("persist")
    return settings


def test_each_data_set_as_it_lies_there(persist: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """`watch --once` stores each data set with the expected totals, and its summary counts the same."""
    folder = tmp_path / "all"
    for name in WHOLE:
        shutil.copytree(DATA / name, folder / name)
    done = run_cli("watch", str(folder), "--once", "--json", timeout=200)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    of_json = said["formats"]["rllm"]
    expected = [EXPECTED[name] for name in WHOLE]
    assert said["rollouts"] == sum(map(_all, WHOLE))
    assert said["superseded"] == sum(item["superseded"] for item in expected) + sum(COPIES.values())
    assert said["dead_letters"] == sum(item["torn_lines"] for item in expected)
    assert said["read"] == sum(item["lines"] + item["rows"] for item in expected) + of_json
    rows = rows_of(persist, "rollouts", said["rollouts"])
    assert {row["run_id"] for row in rows} == set(said["run_ids"])
    for name in WHOLE:
        matches(name, [row for row in rows if row["source"].startswith(f"all/{name}/")])
    _every_rollout_is_an_episode(persist)
    _every_query_of_the_docs_answers(persist)


def _every_query_of_the_docs_answers(settings: Settings) -> None:
    """Every query of the docs page, as it stands there, answers with rows."""
    page = (Path(__file__).parents[2] / "docs" / "language-models.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", page, re.S)
    assert len(queries) == 4
    with sqlite3.connect(database(settings)) as connection:
        for query in queries:
            assert connection.execute(query).fetchall(), query


def _every_rollout_is_an_episode(settings: Settings) -> None:
    """Every rollout is an episode under the same key, and its turns are steps."""
    rollouts = read(database(settings), "rollouts")
    key = lambda row: (row["run_id"], row["stream_id"], row["seq"])  # noqa: E731 - used in three places
    rows_of(settings, "steps", sum(row["turns"] for row in rollouts))
    episodes = {key(row): row for row in rows_of(settings, "episodes", len(rollouts))}
    assert len(episodes) == len(rollouts)
    steps = Counter((row["run_id"], row["episode_index"]) for row in read(database(settings), "steps"))
    for rollout in rollouts:
        episode = episodes[key(rollout)]
        assert (episode["episode_index"], episode["episode_return"]) == (
            rollout["episode_index"],
            rollout["reward"],
        )
        assert steps[rollout["run_id"], rollout["episode_index"]] == rollout["turns"]


def test_each_data_set_while_it_is_written(persist: Settings, spawn_cli: SpawnCli, tmp_path: Path) -> None:
    """Data sets that are written while `watch` runs give the same totals as finished ones."""
    folder = tmp_path / "training"
    folder.mkdir()
    for name in EXPECTED:
        (folder / name.replace("/", "-")).mkdir()
    watching = spawn_cli("watch", str(folder), "--json")
    play = grow().play
    for name in EXPECTED:
        target = folder / name.replace("/", "-")
        if (DATA / name / "first").exists():  # a run ends minutes before its restart
            play(DATA / name / "first", target, 4000)
            rows_of(persist, "rollouts", 24, f"source LIKE '%/{target.name}/%'")
            play(DATA / name / "second", target, 4000)
        else:
            play(DATA / name, target, 4000)
    expected = {name: _all(name) for name in EXPECTED}
    rows_of(persist, "rollouts", sum(expected.values()))
    time.sleep(1.0)  # doubled rows would be stored by now
    watching.send_signal(signal.SIGTERM)
    assert watching.wait(60) == 0, watching.log.read_text()
    rows = read(database(persist), "rollouts")
    for name in EXPECTED:
        folder_name = name.replace("/", "-")
        mine = [row for row in rows if row["source"].startswith(f"training/{folder_name}/")]
        assert len(mine) == expected[name], name
        matches(name, mine)
    _every_rollout_is_an_episode(persist)
    said = json.loads(watching.log.read_text().splitlines()[-1])
    assert said["rollouts"] == len(rows)


def _all(name: str) -> int:
    return EXPECTED[name]["rollouts"] + EXPECTED[name]["superseded"] + COPIES.get(name, 0)


def writes(name: str, target: Path) -> Iterator[Callable[[], object]]:
    """A data set as single writes: files in place, in pieces that end inside a line."""
    parts = ["first", "second"] if (DATA / name / "first").exists() else ["."]
    for part in parts:
        source = DATA / name / part
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            to, data = target / path.relative_to(source), path.read_bytes()
            to.parent.mkdir(parents=True, exist_ok=True)
            yield partial(to.write_bytes, b"")
            for start in range(0, len(data), 3001):
                yield partial(append, to, data[start : start + 3001])


def append(path: Path, data: bytes) -> None:
    """Write at the end of a file."""
    with path.open("ab") as file:
        file.write(data)


def test_killed_in_between_nothing_is_lost_and_nothing_doubled(
    persist: Settings, spawn_cli: SpawnCli, run_cli: RunCli, tmp_path: Path
) -> None:
    """After a SIGKILL in each third of the writes the next `watch` loses and doubles no rollout."""
    names = ("verl/v1-uid", "ms-swift/restart-append", "prime-rl/run", "trl/1.9-text")
    folder = tmp_path / "training"
    sets = [list(writes(name, folder / name.replace("/", "-"))) for name in names]
    for third in range(3):
        watching = spawn_cli("watch", str(folder))
        for acts in sets:
            for act in acts[len(acts) * third // 3 : len(acts) * (third + 1) // 3]:
                act()
        wait_for(lambda log=watching.log: b"recognised" in log.read_bytes(), 60, "nothing is read")
        time.sleep(0.2 * third)
        watching.kill()
        watching.wait()
    done = run_cli("watch", str(folder), "--once", "--json", timeout=200)
    assert done.returncode == 0, done.stderr
    rows_of(persist, "rollouts", sum(map(_all, names)))
    rows = read(database(persist), "rollouts")
    for name in names:
        mine = [row for row in rows if row["source"].startswith(f"training/{name.replace('/', '-')}/")]
        matches(name, mine)
        assert len(mine) == _all(name), name
    _every_rollout_is_an_episode(persist)


class Disk:
    """A folder that is seen through FUSE, which notifies of nothing, as a network disk."""

    def __init__(self, behind: Path, folder: Path) -> None:
        self.behind, self.folder = behind, folder
        for each in (behind, folder):
            each.mkdir()

    def mount(self) -> None:
        """Mount it, and wait until it is there."""
        self._server = subprocess.Popen(["bindfs", "-f", str(self.behind), str(self.folder)])
        wait_for(lambda: os.path.ismount(self.folder), 20, "bindfs does not mount")

    def unmount(self) -> None:
        """Unmount it; the folder is empty then."""
        subprocess.run(["fusermount3", "-uz", str(self.folder)], check=False, capture_output=True)
        self._server.wait()

    def fail(self) -> None:
        """Kill its server: whoever looks into the folder gets an error."""
        self._server.kill()
        self._server.wait()


@pytest.mark.fuse
@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="the kernel has no /dev/fuse")
def test_a_network_disk_that_goes_away(persist: Settings, spawn_cli: SpawnCli, tmp_path: Path) -> None:
    """A disk without notifications is polled; `watch` waits while it fails or is unmounted, then goes on."""
    disk = Disk(tmp_path / "behind", tmp_path / "disk")

    def written(step: int) -> None:
        shutil.copy(DATA / "verl" / "hack" / "rollout" / f"{step}.jsonl", disk.behind / "rollout")

    (disk.behind / "rollout").mkdir()
    disk.mount()
    try:
        assert not tells_changes(disk.folder)
        watch = spawn_cli("watch", str(disk.folder))
        for first, goes, word in ((1, disk.fail, "cannot be read"), (4, disk.unmount, "is empty now")):
            written(first)
            written(first + 1)
            rows_of(persist, "rollouts", 8 * (first + 1))
            goes()
            wait_for(lambda word=word: word in watch.log.read_text(), 30, f"{word} is not said")
            written(first + 2)
            disk.unmount()
            disk.mount()
            rows_of(persist, "rollouts", 8 * (first + 2))
        assert watch.log.read_text().count("disk is there again.") == 2
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 0
        matches("verl/hack", read(database(persist), "rollouts"))
    finally:
        disk.unmount()


def test_what_was_read_before_is_left_out(persist: Settings, run_cli: RunCli) -> None:
    """Files that were read before add no row, and `watch` says so; `--again` reads them once more."""
    command = ("watch", str(DATA / "verl" / "hack"), "--once", "--json")
    assert json.loads(run_cli(*command).stdout)["rollouts"] == 48
    again = run_cli(*command)
    assert json.loads(again.stdout)["rollouts"] == 0
    assert "read before" in again.stderr
    assert json.loads(run_cli(*command, "--again").stdout)["rollouts"] == 48
    rows = rows_of(persist, "rollouts", 96)
    assert sum(not row["superseded"] for row in rows) == 48


def test_run_watches_what_its_worker_writes(persist: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """`run --watch` puts the worker's own lines and the rollouts in its files into one run."""
    folder = tmp_path / "out"
    worker = f"""
import json, shutil
print(json.dumps({{"type": "metrics", "loss": 0.5}}), flush=True)
shutil.copytree({str(DATA / "verl/hack")!r}, {str(folder)!r}, dirs_exist_ok=True)
"""
    command = ("run", "--run-id", "R", "--watch", str(folder), "--", sys.executable, "-c", worker)
    done = run_cli(*command)
    assert done.returncode == 0, done.stderr
    rows = rows_of(persist, "rollouts", 48)
    assert {row["run_id"] for row in rows} == {"R"}
    matches("verl/hack", rows)
    (run,) = [row for row in read(database(persist), "runs") if row["run_id"] == "R"]
    assert (run["status"], run["episodes"]) == ("completed", 48)


def test_ingest_takes_a_file_of_rollouts(persist: Settings, run_cli: RunCli) -> None:
    """`ingest` reads a file of rollouts as `watch` does."""
    file = DATA / "atropos" / "groups" / "sums_rollouts.jsonl"
    done = run_cli("ingest", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["formats"] == {"atropos": 1}
    matches("atropos/groups", rows_of(persist, "rollouts", 24))


def test_a_replayed_run_is_ingested_again(persist: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """`replay` prints lines of which `ingest` makes the same rollouts, tokens, turns and training steps."""
    folder = tmp_path / "all"
    for name in WHOLE:
        shutil.copytree(DATA / name, folder / name)
    said = json.loads(run_cli("watch", str(folder), "--once", "--json").stdout)
    before = _of_runs(persist, said["run_ids"], said["rollouts"])
    lines = []
    for run_id in said["run_ids"]:
        done = run_cli("replay", run_id, errors="replace")  # a torn line is no UTF-8
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout.replace(f'"run_id":"{run_id}"', f'"run_id":"{run_id}-again"'))
    again = tmp_path / "again.jsonl"
    again.write_text("".join(lines))
    done = run_cli("ingest", str(again), "--json")
    assert done.returncode == 0, done.stderr
    after = _of_runs(persist, [f"{run_id}-again" for run_id in said["run_ids"]], said["rollouts"])
    assert before.keys() == after.keys()
    for table in before:
        assert before[table] == after[table], table
    assert len(before["tokens"]) > 20


def _of_runs(settings: Settings, run_ids: list[str], rollouts: int) -> dict[str, list[str]]:
    """What tables hold of some runs, without what names the stream and the line."""
    of = "run_id IN ({})".format(", ".join(f"'{run_id}'" for run_id in run_ids))
    turns = sum(row["turns"] for row in rows_of(settings, "rollouts", rollouts, of))
    rows_of(settings, "steps", turns, of)
    rows_of(settings, "episodes", rollouts, of)
    found = {}
    for table in ("rollouts", "tokens", "training_steps", "episodes", "steps"):
        rows = read(database(settings), f"{table} WHERE {of}")
        kept = [{name: row[name] for name in row.keys() - PLACE} for row in rows]
        runs = [row["run_id"].removesuffix("-again") for row in rows]
        found[table] = sorted(repr((run, sorted(row.items()))) for run, row in zip(runs, kept, strict=True))
    return found


WRONG: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int, str]] = {
    "empty": (lambda folder: None, (), 1, "holds no rollouts"),
    "pickle": (lambda folder: (folder / "1.pt").write_bytes(b"\x80\x02}q\x00."), (), 1, "never loaded"),
    "unknown": (
        lambda folder: (folder / "a.jsonl").write_text('{"x": 1}\n'),
        (),
        1,
        "no format that is known",
    ),
    "other": (
        lambda folder: shutil.copytree(DATA / "verl/hack", folder / "a"),
        ("--format", "trl"),
        1,
        "no rollouts",
    ),
    "nonsense": (lambda folder: None, ("--format", "nonsense"), 2, "There is no format nonsense"),
    "gone": (lambda folder: folder.rmdir(), (), 2, "is not there"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_sentence(case: str, settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """Wrong use of `watch` gives an exit code and a message that says what is wrong."""
    make, options, code, words = WRONG[case]
    folder = tmp_path / "files"
    folder.mkdir()
    make(folder)
    done = run_cli("watch", str(folder), "--once", *options)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_parquet_without_pyarrow_is_one_sentence(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """Without pyarrow `watch` names what to install, and reads the other files."""
    hidden = tmp_path / "hidden" / "pyarrow"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError\n")
    folder = tmp_path / "files"
    shutil.copytree(DATA / "trl/1.9-text", folder / "trl")
    shutil.copytree(DATA / "verl/hack", folder / "verl")
    path = os.pathsep.join([str(hidden.parent), os.environ.get("PYTHONPATH", "")])
    done = run_cli("watch", str(folder), "--once", "--json", env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "stepstream-server[export]" in done.stderr
    assert json.loads(done.stdout)["formats"] == {"verl": 6}
