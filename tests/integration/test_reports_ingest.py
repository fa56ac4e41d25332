"""`ingest` of files from public reports of faults, and what shells and signals do to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sql_stack import PROGRAM, SqlStack, sql_stack, wait_for

REPORTS = Path(__file__).parents[1] / "data" / "reports"
STEP = '{{"type":"step","run_id":"{run}","step":{step},"reward":1}}\n'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[SqlStack]:
    """A stack whose `persist` and `forward` run, as below `up`."""
    with sql_stack(tmp_path_factory.mktemp("stack"), kafka, "persist", "forward") as made:
        yield made


@pytest.fixture
def away(tmp_path: Path) -> dict[str, str]:
    """A home whose broker does not answer."""
    ours = {"STEPSTREAM_HOME": str(tmp_path / "home"), "STEPSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    return {k: v for k, v in os.environ.items() if not k.startswith("STEPSTREAM_")} | ours


def steps(stack: SqlStack, run: str) -> list[Any]:
    """The numbers of the steps, in the order of their streams."""
    query = "SELECT step_index FROM steps WHERE run_id = :run ORDER BY topic_offset"
    return [step for (step,) in stack.rows(query, run=run)]


def started(folder: Path, env: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start the program in the background, with its output in the file `said`."""
    with (folder / "said").open("wb") as said:
        command = [PROGRAM, *arguments]
        return subprocess.Popen(command, env=env, stderr=said, stdout=said, stdin=subprocess.DEVNULL)


def said(folder: Path) -> str:
    """What the program in the background has printed so far."""
    return (folder / "said").read_text()


def test_cut_gzip_gives_its_whole_lines(stack: SqlStack) -> None:
    """A cut gzip file gives its whole lines and a message; the same file is recognised the next time."""
    file = str(REPORTS / "16-gzip-cut" / "cut3.jsonl.gz")
    done = stack.cli("ingest", file, "--json")
    found = json.loads(done.stdout)
    assert (found["read"], found["steps"], found["dead_letters"]) == (155, 155, 0)
    assert "cannot be read to its end" in done.stderr
    again = stack.cli("ingest", file, "--json")
    assert json.loads(again.stdout)["read"] == 0
    assert "was ingested before" in again.stderr


def test_a_hundred_and_twenty_files_are_taken_once(stack: SqlStack, tmp_path: Path) -> None:
    """All of 120 files are ingested, and a second time none of them."""
    files = []
    for number in range(120):
        files.append(tmp_path / f"{number}.jsonl")
        files[-1].write_text(STEP.format(run="hundred", step=number))
    names = [str(file) for file in files]
    assert stack.summary("ingest", *names)["steps"] == 120
    assert stack.summary("ingest", *names)["steps"] == 0
    wait_for(lambda: sorted(steps(stack, "hundred")) == list(range(120)), "120 steps")


def test_of_a_file_that_grew_the_rest_is_taken(stack: SqlStack, tmp_path: Path) -> None:
    """Only the rest of a file that grew is read, into the same run; a torn last line is read whole."""
    file = tmp_path / "grew.jsonl"
    file.write_text(
        '{"type":"run_started","run_id":"grew"}\n{"type":"step","step":0,"reward":1}\n{"type":"st'
    )
    assert stack.summary("ingest", str(file))["dead_letters"] == 1
    with file.open("a") as more:
        more.write('ep","step":1,"reward":1}\n{"type":"step","step":2,"reward":1}\n')
    assert stack.summary("ingest", str(file))["read"] == 2
    wait_for(lambda: steps(stack, "grew") == [0, 1, 2], "three steps")


@pytest.mark.parametrize("how", ["truncate", "rename", "replace"])
def test_follow_goes_on_with_the_new_content(how: str, stack: SqlStack, tmp_path: Path) -> None:
    """`--follow` goes on with a file's new content as `tail -F` does, without fragments of the old."""
    file, run = tmp_path / "f.log", f"follow-{how}"

    def lines(*numbers: int) -> str:
        return "".join(STEP.format(run=run, step=number) for number in numbers)

    file.write_text(lines(1, 2, 3, 4, 5) + '{"type":"st')
    child = started(tmp_path, stack.variables, "ingest", "--follow", str(file))
    wait_for(lambda: steps(stack, run) == [1, 2, 3, 4, 5], "the first steps")
    if how == "rename":
        file.rename(tmp_path / "f.log.1")
    if how == "replace":
        (tmp_path / "new").write_text(lines(7, 8))
        (tmp_path / "new").replace(file)
    else:
        file.write_text(lines(7, 8))
    wait_for(lambda: steps(stack, run)[5:] == [7, 8], f"the new steps: {said(tmp_path)}")
    with file.open("a") as more:
        more.write(lines(9, 10, 11))
    wait_for(lambda: steps(stack, run)[5:] == [7, 8, 9, 10, 11], "the steps that were appended")
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 0
    assert "it is read from its beginning" in said(tmp_path)
    assert (stack.count("logs", [run]), stack.count("dead_letters", [run])) == (0, 1)


def test_python_dicts_are_their_numbers(stack: SqlStack) -> None:
    """Python dicts, as TRL and NumPy 2 print them, are read as their numbers."""
    found = stack.summary("ingest", str(REPORTS / "23-python-dicts" / "py.jsonl"), "--run-id", "py")
    assert found["dead_letters"] == 0
    stack.settled(found)
    assert ('{"loss":0.5,"epoch":0.01}',) in stack.rows("SELECT metrics FROM metrics WHERE run_id = 'py'")
    rewards = stack.rows("SELECT reward, step_index FROM steps WHERE run_id = 'i_py' ORDER BY seq")
    assert rewards == [(1.0, None), (1.0, 4)]


def test_utf_16_is_read(stack: SqlStack, tmp_path: Path) -> None:
    """`ingest` reads UTF-16, which PowerShell's `>` writes."""
    (tmp_path / "ps.log").write_bytes(STEP.format(run="ps", step=3).replace("\n", "\r\n").encode("utf-16"))
    assert stack.summary("ingest", str(tmp_path / "ps.log"))["steps"] == 1
    wait_for(lambda: steps(stack, "ps") == [3], "the step")


@pytest.mark.parametrize(("name", "kind", "count"), [("bom_crlf", "steps", 5), ("bom_mid", "steps", 10)])
def test_byte_order_marks_do_not_matter(name: str, kind: str, count: int, stack: SqlStack) -> None:
    """Byte order marks do not matter, at the beginning of a file and in the middle."""
    assert stack.summary("ingest", str(REPORTS / "29-right" / f"{name}.jsonl"))[kind] == count


def test_runs_named_by_dots_are_exported_apart(stack: SqlStack, tmp_path: Path) -> None:
    """The runs `.` and `..` are each exported into a folder of their own in the working folder."""
    stack.summary("ingest", str(REPORTS / "26-run-ids" / "ids.jsonl"))
    wait_for(lambda: steps(stack, ".") != [] != steps(stack, ".."), "their steps")
    folders = set()
    for run in (".", ".."):
        done = stack.summary("runs", "export", run, "--format", "jsonl", "--table", "steps", cwd=tmp_path)
        folders.add(tmp_path / done["folder"])
    assert set(tmp_path.iterdir()) == folders
    assert len(folders) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_the_limit_of_the_spool_a_signal_ends_it(
    number: int, away: dict[str, str], tmp_path: Path
) -> None:
    """A signal ends an `ingest` that waits at the spool's limit, and the spool keeps what was read."""
    file = tmp_path / "big.log"
    file.write_text(STEP.format(run="big", step=1) * 60_000)
    child = started(tmp_path, away | {"STEPSTREAM_SPOOL_MAX_BYTES": "100000"}, "ingest", str(file))
    wait_for(lambda: "waiting for Kafka" in said(tmp_path), "it waits")
    time.sleep(0.5)
    child.send_signal(number)
    assert child.wait(60) == 1
    assert "stay in" in said(tmp_path)
    spooled = sum(path.stat().st_size for path in (tmp_path / "home" / "spool").glob("*/*.jsonl"))
    assert spooled % 1024 == 0 or spooled > 1_000_000
    assert "Traceback" not in said(tmp_path)


def test_a_signal_ends_all_files(stack: SqlStack, tmp_path: Path) -> None:
    """A signal ends the `ingest` of several files, and names those that were not read."""
    os.mkfifo(tmp_path / "a")
    for name in ("b", "c"):
        (tmp_path / name).write_text(STEP.format(run=f"never-{name}", step=1))
    names = [str(tmp_path / name) for name in ("a", "b", "c")]
    child = started(tmp_path, stack.variables, "ingest", *names)
    with (tmp_path / "a").open("w") as pipe:
        pipe.write(STEP.format(run="first", step=1))
        pipe.flush()
        wait_for(lambda: steps(stack, "first") == [1], "the first step")
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 1
    assert f"{names[1]}, {names[2]} not read" in said(tmp_path)
    assert steps(stack, "never-b") == []


def test_a_closed_stdin_is_one_sentence(away: dict[str, str]) -> None:
    """With a closed stdin `ingest -` exits with 2 and one sentence."""
    done = subprocess.run(
        ["sh", "-c", f"{PROGRAM} ingest - <&-"], env=away, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "stdin is closed" in done.stderr


@pytest.mark.parametrize("command", ["ingest -", "import .", "run -- true", "runs list"])
def test_a_deleted_working_folder_is_one_sentence(command: str, away: dict[str, str], tmp_path: Path) -> None:
    """In a working folder that was deleted a command exits with 2 and one sentence."""
    (tmp_path / "gone").mkdir()
    script = f"cd {tmp_path}/gone && rmdir ../gone && {PROGRAM} {command}"
    done = subprocess.run(["sh", "-c", script], env=away, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "working folder" in done.stderr
