"""`import` on a real Kafka: a tracker's run arrives as a live one would."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from infra.settings import Settings
from schemas.topics import Kind
from tests.support.topics import of_workers, read_topics

RunCli = Callable[..., subprocess.CompletedProcess[str]]
SpawnCli = Callable[..., subprocess.Popen[bytes]]
EVENTS = Path(__file__).parents[1] / "data" / "trackers" / "events.out.tfevents.1795511653.host"


def test_a_tensorboard_folder_is_a_run(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """A folder's scalars are metrics at their steps, its episodes are episodes; the summary counts both."""
    folder = tmp_path / "CartPole__ppo"
    folder.mkdir()
    shutil.copy(EVENTS, folder)
    done = run_cli("import", "--json", str(tmp_path))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["read"], said["metrics"], said["episodes"], said["run_events"]) == (42, 20, 20, 2)
    assert said["run_ids"] == ["CartPole__ppo"]
    found = of_workers(read_topics(settings, [Kind.METRICS]))
    assert sorted(item.record["global_step"] for item in found) == [i * 10 for i in range(20)]


def test_a_run_is_imported_once(
    settings: Settings, run_cli: RunCli, spawn_cli: SpawnCli, tmp_path: Path
) -> None:
    """The second import names what the database has already and leaves it out; --again takes it."""
    (tmp_path / "run").mkdir()
    shutil.copy(EVENTS, tmp_path / "run")
    for command in (("topics", "create"), ("db", "upgrade")):
        assert run_cli(*command).returncode == 0
    spawn_cli("persist")
    command = ("import", "--json", "--run-id", "named", str(tmp_path))
    assert json.loads(run_cli(*command).stdout)["read"] == 42
    deadline = time.monotonic() + 60
    while "named" not in run_cli("runs", "list", "--json").stdout and time.monotonic() < deadline:
        time.sleep(0.2)
    done = run_cli(*command)
    assert (done.returncode, json.loads(done.stdout)["read"]) == (0, 0), done.stderr
    assert "named is in the database already" in done.stderr
    assert json.loads(run_cli(*command, "--again").stdout)["read"] == 42
    assert len(of_workers(read_topics(settings, [Kind.METRICS]))) == 40


def test_nothing_to_import_is_one_sentence(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """`import` of a folder without runs exits with 2 and names the folder, without a traceback."""
    done = run_cli("import", str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
