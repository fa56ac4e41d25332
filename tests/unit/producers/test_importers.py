"""Importers read files that real trackers wrote, which `tests/data/trackers` holds unchanged."""

import csv
import gzip
import json
import math
import shutil
from pathlib import Path

import pytest

from producers.importers import find
from producers.importers.source import best_names
from producers.lines.context import Identity
from producers.lines.normalise import Normaliser
from schemas.errors import UsageError
from schemas.topics import Kind

DATA = Path(__file__).parents[2] / "data" / "trackers"


def _lines(path):
    """Return the lines of the only run that is found, without remarks."""
    (source,) = find(path).sources
    (name,) = best_names([source], [source], lambda source, name: False)
    return [{**line, "run_id": name} for line in source.read() if not isinstance(line, str)]


def _unpacked(name, folder):
    target = folder / name
    target.write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
    return target


def _records(lines):
    """Return the events that the normaliser makes of lines."""
    normalise = Normaliser(Identity("S", "none", None, sdk=True))
    return [normalise(json.dumps(line, default=str).encode(), seq, 0) for seq, line in enumerate(lines, 1)]


def _losses(lines):
    found = [event.record for event in _records(lines) if event.kind is Kind.METRICS]
    numbers = [(record["global_step"], json.loads(record["metrics"])) for record in found]
    return [(step, each["loss"]) for step, each in numbers if "loss" in each]


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("events.out.tfevents.1795511653.host", 10),
        ("run-7nt8e233.wandb", 1),
        ("trackio.db", 1),
        ("mlflow.db", 1),
    ],
)
def test_twenty_losses_of_each_tracker_arrive(tmp_path, name, factor):
    """All twenty values of `loss` in each tracker's file are imported, with their steps."""
    path = _unpacked(name, tmp_path) if name.endswith(".db") else Path(shutil.copy(DATA / name, tmp_path))
    lines = _lines(path if path.suffix else tmp_path)
    expected = [(i * factor, pytest.approx(1 / (i + 1), rel=1e-6)) for i in range(20)]
    assert _losses(lines) == expected
    assert (lines[0]["type"], lines[-1]["type"]) == ("run_started", "run_completed")
    assert lines[-1]["status"] == "completed"
    assert float(lines[0]["config"]["lr"]) == 0.1
    assert len({line["run_id"] for line in lines}) == 1
    assert not [event for event in _records(lines) if event.kind is Kind.DLQ]
    times = [line["ts"] for line in lines]
    assert times == sorted(times)


def test_cleanrls_scalars_are_episodes(tmp_path):
    """charts/episodic_return and charts/episodic_length at one step are one episode."""
    shutil.copy(DATA / "events.out.tfevents.1795511653.host", tmp_path)
    episodes = [event.record for event in _records(_lines(tmp_path)) if event.kind is Kind.EPISODES]
    assert [(each["episode_return"], each["episode_length"]) for each in episodes] == [
        (i * 1.5, i) for i in range(20)
    ]


def test_a_monitor_file_is_its_episodes(tmp_path):
    """Each row is an episode with its return, length and elapsed time; further columns are metrics."""
    file = tmp_path / "0.monitor.csv"
    with file.open("w", newline="") as opened:
        opened.write('#{"t_start": 1700000000.5, "env_id": "CartPole-v1"}\n')
        csv.writer(opened).writerows(
            [["r", "l", "t", "won"], ["10.5", "10", "1.25", "1"], ["nan", "7", "2.5", ""]]
        )
    lines = _lines(file)
    first, second = (event.record for event in _records(lines) if event.kind is Kind.EPISODES)
    assert (first["episode_return"], first["episode_length"], first["elapsed"]) == (10.5, 10, 1.25)
    assert json.loads(first["metrics"]) == {"won": 1.0}
    assert math.isnan(second["episode_return"])
    assert first["event_time"] == 1_700_000_001_750_000
    assert lines[0]["env_id"] == "CartPole-v1"


def test_an_rllib_result_is_metrics_by_path(tmp_path):
    """Nested names are joined by /, and the number of sampled steps is the step of the metrics."""
    folder = tmp_path / "PPO_CartPole_1"
    folder.mkdir()
    results = [
        {
            "env_runners": {"episode_return_mean": 20.0 + i},
            "num_env_steps_sampled_lifetime": 4000 * i,
            "timestamp": 1_700_000_000 + i,
            "trial_id": "abc",
            "config": {"lr": 0.1, "env": "CartPole-v1"},
        }
        for i in range(3)
    ]
    (folder / "result.json").write_text("\n".join(json.dumps(each) for each in results) + '\n{"torn')
    lines = _lines(folder)
    found = [event.record for event in _records(lines) if event.kind is Kind.METRICS]
    assert [each["global_step"] for each in found] == [0, 4000, 8000]
    assert json.loads(found[2]["metrics"])["env_runners/episode_return_mean"] == 22.0
    assert (lines[0]["run_id"], lines[0]["env_id"]) == ("abc", "CartPole-v1")


@pytest.mark.parametrize("name", ["events.out.tfevents.1795511653.host", "run-7nt8e233.wandb"])
def test_a_torn_file_gives_what_it_holds(tmp_path, name):
    """A file that is cut anywhere raises no error and gives at most the lines of the whole file."""
    data = (DATA / name).read_bytes()
    target = tmp_path / name
    target.write_bytes(data)
    whole = len(_lines(tmp_path))
    for size in range(8, len(data), 97):
        target.write_bytes(data[:size])
        assert len(_lines(tmp_path)) <= whole


def test_a_wandb_run_without_an_end_is_failed(tmp_path):
    """A W&B run whose file has no end is imported as failed."""
    data = (DATA / "run-7nt8e233.wandb").read_bytes()
    (tmp_path / "run-x.wandb").write_bytes(data[: len(data) // 2])
    assert _lines(tmp_path)[-1]["status"] == "failed"


def test_a_folder_holds_many_runs(tmp_path):
    """The importer finds the files of every tracker below a folder."""
    _unpacked("mlflow.db", tmp_path)
    _unpacked("trackio.db", tmp_path)
    (tmp_path / "tb").mkdir()
    shutil.copy(DATA / "events.out.tfevents.1795511653.host", tmp_path / "tb")
    assert len(find(tmp_path).sources) == 3


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"SQLite format 3\0"])
def test_what_no_tracker_wrote_is_said_to_be_none(tmp_path, content):
    """A file that no tracker wrote is refused with an error that names it."""
    (tmp_path / "file.db").write_bytes(content)
    with pytest.raises(UsageError, match=str(tmp_path)):
        find(tmp_path / "file.db")


def test_a_broken_file_is_one_sentence(tmp_path):
    """A Monitor file without its first line and a text file named as W&B's are refused with one sentence."""
    for name in ("monitor.csv", "run-x.wandb"):
        (tmp_path / name).write_text("r,l,t\n1,2,3\n")
        with pytest.raises(UsageError, match="cannot be imported"):
            list(find(tmp_path / name).sources[0].read())
