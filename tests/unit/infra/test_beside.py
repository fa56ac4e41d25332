"""Long reads run in a process of their own, which says what failed and ends with ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, text

from infra.settings import Settings
from infra.sql.beside import NICE, Beside
from schemas.errors import DatabaseError


def answer(connection: Connection, number: int) -> tuple[int, int, int]:
    """What the database says, the process, and its niceness."""
    return connection.execute(text("SELECT 2 * :n"), {"n": number}).scalar_one(), os.getpid(), os.nice(0)


def refused(connection: Connection) -> None:
    """A read of a table that is not there."""
    connection.execute(text("SELECT * FROM nowhere"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an empty database."""
    return Settings(database_url=f"sqlite:///{tmp_path}/test.db")


@pytest.fixture
def beside(settings: Settings) -> Iterator[Beside]:
    """The process."""
    made = Beside(settings, 10.0)
    yield made
    made.close()


def test_reads_run_in_one_other_process_that_gives_way(beside: Beside) -> None:
    """All reads are of one process, which is not ours and is nicer."""
    first, second = beside.ask(answer, 2), beside.ask(answer, 3)
    assert (first[0], second[0]) == (4, 6)
    assert first[1] == second[1] != os.getpid()
    assert first[2] == os.nice(0) + NICE


def test_what_fails_there_is_raised_here(beside: Beside) -> None:
    """The error is the sentence that a read of ours has, and the process reads on."""
    with pytest.raises(DatabaseError, match="no tables"):
        beside.ask(refused)
    assert beside.ask(answer, 1)[0] == 2


def test_a_process_that_was_killed_is_replaced(beside: Beside) -> None:
    """The next read has a new one."""
    before = beside.ask(answer, 1)[1]
    os.kill(before, signal.SIGKILL)
    while psutil.pid_exists(before) and psutil.Process(before).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    number, after, _ = beside.ask(answer, 5)
    assert number == 10
    assert after != before


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_parent(settings: Settings, tmp_path: Path, ending: signal.Signals) -> None:
    """However ours ends, nothing is left behind."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from infra.settings import Settings\n"
        "from infra.sql.beside import Beside\n"
        "from tests.unit.infra.test_beside import answer\n"
        "if __name__ == '__main__':\n"
        "    print(Beside(Settings(database_url=sys.argv[1]), 10.0).ask(answer, 1)[1], flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, str(script), settings.database_url]
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(ending)
        child.wait(20)
