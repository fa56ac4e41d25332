"""`import` brings into SQL what each file from public reports of faults holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.sql_stack import SqlStack, sql_stack

REPORTS = Path(__file__).parents[1] / "data" / "reports"
MONITOR = '#{{"t_start": 1700000000.0, "env_id": "{env}"}}\nr,l,t\n{rows}'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[SqlStack]:
    """A stack whose `persist` and `forward` run, as below `up`."""
    with sql_stack(tmp_path_factory.mktemp("stack"), kafka, "persist", "forward") as made:
        yield made


def imported(stack: SqlStack, *paths: Path | str, code: int = 0) -> list[str]:
    """The runs that an import made, once SQL has them."""
    return stack.settled(stack.summary("import", *map(str, paths), code=code))


def episodes(stack: SqlStack, run: str) -> list[tuple[Any, ...]]:
    """Return and length of each episode of a run, in order."""
    query = "SELECT episode_return, episode_length FROM episodes WHERE run_id = :run ORDER BY stream_id, seq"
    return stack.rows(query, run=run)


def metrics(stack: SqlStack, run: str) -> list[tuple[Any, ...]]:
    """Step, numbers and extras of each metrics row of a run, in order."""
    query = "SELECT global_step, metrics, extras FROM metrics WHERE run_id = :run ORDER BY stream_id, seq"
    found = stack.rows(query, run=run)
    return [(step, json.loads(said or "{}"), json.loads(rest or "{}")) for step, said, rest in found]


def environment(stack: SqlStack, run: str) -> str:
    """The run's environment."""
    found: str = stack.rows("SELECT env_id FROM runs WHERE run_id = :run", run=run)[0][0]
    return found


def test_sixty_files_are_sixty_runs_once(stack: SqlStack) -> None:
    """Sixty files become sixty runs of five episodes; a second import leaves all of them out."""
    runs = imported(stack, REPORTS / "01-many-runs")
    assert len(runs) == 60
    assert [len(episodes(stack, run)) for run in runs] == [5] * 60
    again = stack.cli("import", str(REPORTS / "01-many-runs"), "--json")
    assert json.loads(again.stdout)["read"] == 0
    assert again.stderr.count("is in the database already") == 60
    assert stack.count("episodes", runs) == 300


def test_five_hundred_files_at_once_under_load(stack: SqlStack, tmp_path: Path) -> None:
    """Four imports run at a time, and none takes a run twice or leaves one out."""
    for number in range(500):
        folder = tmp_path / str(number % 4)
        folder.mkdir(exist_ok=True)
        rows = "".join(f"{number}.0,{row},{row}.5\n" for row in range(1, 4))
        (folder / f"many{number}.monitor.csv").write_text(MONITOR.format(env="E", rows=rows))
    with ThreadPoolExecutor(4) as four:
        found = list(four.map(lambda place: imported(stack, tmp_path / str(place)), range(4)))
    runs = sorted(run for each in found for run in each)
    assert runs == sorted(f"many{number}" for number in range(500))
    assert stack.count("episodes", runs[:250]) + stack.count("episodes", runs[250:]) == 1500


def test_runs_of_one_name_keep_apart(stack: SqlStack) -> None:
    """Runs of one name are named by the shortest ends of their paths that differ."""
    runs = imported(stack, REPORTS / "02-same-names" / "monitor")
    assert runs == ["Acrobot-v1_1/0", "Acrobot-v1_1/1", "CartPole-v1_1/0", "CartPole-v1_1/1"]
    assert [len(episodes(stack, run)) for run in runs] == [6, 6, 4, 4]
    assert [environment(stack, run) for run in runs] == ["Acrobot-v1"] * 2 + ["CartPole-v1"] * 2
    runs = imported(stack, REPORTS / "02-same-names" / "rllib")
    assert [environment(stack, run) for run in runs] == ["CartPole-v1", "Pong-v0"]


@pytest.mark.parametrize(
    ("report", "code", "expected"),
    [
        ("03-header-glued", 0, [(-21, 792), (-20, 819), (-19, 900)]),
        ("04-two-headers", 0, [(-21, 792), (-20, 819), (-19, 900), (-18, 950)]),
        ("05-bom-crlf", 0, [(-21, 792), (-20, 819)]),
        ("07-nul-tail", 1, [(-21, 792), (-20, 819)]),
        ("08-flags-text", 0, [(-21, 792), (-20, 819)]),
        ("11-two-episodes-a-step", 0, [(10, 10), (25, 25), (30, 30)]),
        ("29-right/back.monitor.csv", 0, [(-21, 792), (-20, 819), (-19, 900), (-18, 900)]),
    ],
)
def test_episodes_are_what_the_file_holds(
    report: str, code: int, expected: list[tuple[float, int]], stack: SqlStack
) -> None:
    """A file gives the episodes that it holds, also if a crashed or resumed program left it."""
    (run,) = imported(stack, REPORTS / report, code=code)
    assert episodes(stack, run) == expected
    if report == "04-two-headers":
        times = stack.rows("SELECT event_time FROM episodes WHERE run_id = :run ORDER BY seq", run=run)
        assert [str(at)[:22] for (at,) in times[2:]] == ["2018-12-25 17:46:50.50", "2018-12-25 17:47:02.50"]
    if report == "08-flags-text":
        query = "SELECT metrics, extras FROM episodes WHERE run_id = :run ORDER BY seq"
        said = [(json.loads(numbers), json.loads(rest)) for numbers, rest in stack.rows(query, run=run)]
        assert said == [({"is_success": 1}, {"goal": "north"}), ({"is_success": 0}, {"goal": "south"})]


def test_a_monitor_file_without_a_header_says_how_to_mend_it(stack: SqlStack) -> None:
    """A Monitor file without a header gives exit code 1 and the header to add."""
    done = stack.cli("import", str(REPORTS / "09-no-header"), code=1)
    assert '#{"t_start"' in done.stderr
    assert "r,l,t" in done.stderr


def test_rllib_values_that_are_no_numbers_are_kept(stack: SqlStack) -> None:
    """RLlib's results are kept with their NaN, and with their steps after a restore."""
    (run,) = imported(stack, REPORTS / "10-rllib-numbers" / "rl_nan")
    assert len(metrics(stack, run)) == 2
    assert "NaN" in metrics(stack, run)[0][1].values()
    (run,) = imported(stack, REPORTS / "10-rllib-numbers" / "rl_restore")
    assert [step for step, _, _ in metrics(stack, run)] == [4000, 8000, 4000, 8000]


def test_mlflow_keeps_both_values_and_no_deleted_run(stack: SqlStack) -> None:
    """Two values of one name and step, and NaN, are kept; a deleted run is named and left out."""
    done = stack.cli("import", str(REPORTS / "13-mlflow"), "--json")
    runs = stack.settled(json.loads(done.stdout))
    assert "d" * 32 not in runs
    assert "d" * 32 in done.stderr
    said = metrics(stack, "a" * 32)
    assert [numbers["dup"] for step, numbers, _ in said if "dup" in numbers and step == 6] == [1.0, 2.0]
    assert (4, {"loss": "NaN"}, {}) in said


def test_a_path_with_signs_is_that_path(stack: SqlStack, tmp_path: Path) -> None:
    """A path with `=` and `#` is read as it stands, and no other file is made beside it."""
    folder = Path(shutil.copytree(REPORTS / "14-path-signs", tmp_path / "14"))
    assert imported(stack, folder / "lr=1e-3#2") == ["h" * 32]
    assert [found.name for found in folder.iterdir()] == ["lr=1e-3#2"]


def test_trackio_runs_of_one_name_are_two(stack: SqlStack) -> None:
    """Two runs of one name are two runs, and their NaN and infinities are kept."""
    runs = imported(stack, REPORTS / "15-trackio")
    assert len(runs) == 3
    losses = {tuple(numbers["loss"] for _, numbers, _ in metrics(stack, run)) for run in runs if "ppo" in run}
    assert losses == {(0.0, 1.0, 2.0), (100.0, 101.0, 102.0)}
    query = "SELECT config FROM runs WHERE run_id LIKE 'proj-ppo%'"
    assert {json.loads(config)["lr"] for (config,) in stack.rows(query)} == {0.1, 0.9}
    (nan,) = [run for run in runs if "nanrun" in run]
    first, second, third = metrics(stack, nan)
    assert first[1] == {"loss": "NaN", "grad": "Infinity", "kl": "-Infinity", "ok": 1.0}
    assert second[1] == {"loss": "NaN"}
    assert third[2]["text"] == "hello"


def test_one_bad_file_costs_no_other_one(stack: SqlStack, tmp_path: Path) -> None:
    """A bad file is named and the others are imported; once it is mended, no episode is doubled."""
    folder = Path(shutil.copytree(REPORTS / "25-one-bad-among-good", tmp_path / "25"))
    done = stack.cli("import", str(folder), "--json", code=1)
    runs = stack.settled(json.loads(done.stdout))
    assert [len(episodes(stack, run)) for run in runs] == [5, 2500, 5]
    assert "b_env.monitor.csv" in done.stderr
    bad = folder / "b_env.monitor.csv"
    bad.write_bytes(bad.read_bytes().replace(b"\0", b""))
    assert stack.summary("import", str(folder))["episodes"] == 0
    assert len(episodes(stack, "b_env")) == 2500


def test_a_partial_import_is_continued(stack: SqlStack, tmp_path: Path) -> None:
    """Once a bad row is mended, a second import adds it and the rows behind; each is stored once."""
    file = tmp_path / "partly.monitor.csv"
    rows = [f"{row}.0,{row},{row}.5\n" for row in range(1, 11)]
    file.write_text(MONITOR.format(env="E", rows="".join([*rows[:4], "5.0,\n", *rows[5:8]])))
    imported(stack, file, code=1)
    file.write_text(MONITOR.format(env="E", rows="".join(rows)))
    imported(stack, file)
    stack.settled(
        {"run_ids": ["partly"], "episodes": 10}
        | dict.fromkeys(("steps", "metrics", "logs", "dead_letters"), 0)
    )
    assert sorted(episodes(stack, "partly")) == [(row, row) for row in range(1, 11)]


def test_another_file_of_the_same_name_is_another_run(stack: SqlStack, tmp_path: Path) -> None:
    """Another file of the same name is another run; the same file at another place is the same run."""
    for folder, env in (("one", "A"), ("two", "B")):
        (tmp_path / folder).mkdir()
        content = MONITOR.format(env=env, rows="1.0,1,1.5\n2.0,2,2.5\n")
        (tmp_path / folder / "same.monitor.csv").write_text(content)
    assert imported(stack, tmp_path / "one") == ["same"]
    assert imported(stack, tmp_path / "two") == ["two/same"]
    (tmp_path / "one").rename(tmp_path / "moved")
    assert imported(stack, tmp_path / "moved") == []
    assert imported(stack, tmp_path) == []


def test_a_deleted_run_can_be_imported_anew(stack: SqlStack, tmp_path: Path) -> None:
    """A run that was deleted is imported again in full."""
    (tmp_path / "gone.monitor.csv").write_text(MONITOR.format(env="A", rows="1.0,1,1.5\n"))
    assert imported(stack, tmp_path) == ["gone"]
    stack.cli("runs", "delete", "gone", "--yes")
    assert imported(stack, tmp_path) == ["gone"]


def test_again_makes_new_rows(stack: SqlStack, tmp_path: Path) -> None:
    """`--again` imports the rows once more, in a stream of their own."""
    (tmp_path / "twice.monitor.csv").write_text(MONITOR.format(env="A", rows="1.0,1,1.5\n"))
    imported(stack, tmp_path)
    imported(stack, tmp_path, "--again")
    query = "SELECT count(DISTINCT stream_id), count(*) FROM episodes WHERE run_id = 'twice'"
    assert stack.rows(query) == [(2, 2)]


def test_wandb_values_of_every_kind_are_kept(stack: SqlStack) -> None:
    """Numbers are metrics; texts, lists, histograms and tables are extras; a resumed run is one run."""
    assert imported(stack, REPORTS / "28-wandb") == ["wodd", "wres"]
    said = metrics(stack, "wodd")
    assert [step for step, _, _ in said] == [10, 20, 30, 40, 50]
    assert said[1][1] == {"nan": "NaN", "inf": "Infinity", "ninf": "-Infinity"}
    numbers, rest = said[3][1:]
    assert numbers == {"npf": 0.5}
    assert (rest["txt"], rest["lst"], rest["bool"]) == ("hi", [1, 2, 3], True)
    assert (rest["h"]["_type"], rest["t"]["_type"]) == ("histogram", "table-file")
    assert sorted(step for step, _, _ in metrics(stack, "wres")) == [0, 1, 2, 3, 3, 4, 4, 5, 6, 7]


def test_hyperparameters_of_tensorboard_have_their_types(stack: SqlStack) -> None:
    """The seven hyperparameters of a TensorBoard run keep their types."""
    (run,) = imported(stack, REPORTS / "29-right" / "tbhp")
    config = json.loads(stack.rows("SELECT config FROM runs WHERE run_id = :run", run=run)[0][0])
    assert len(config) == 7
    assert {type(value) for value in config.values()} >= {int, float, str}
