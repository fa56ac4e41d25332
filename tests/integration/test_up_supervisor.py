"""The supervisor keeps programs running, prints what they say, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import runs, wait_for, wait_until_gone

ROOT = Path(__file__).parents[2]

PARENT = """
import subprocess, sys
sys.path.insert(0, {root!r})
from rich.console import Console
from cli.supervisor import Service, Supervisor
from infra.embedded import process

def service(name, code, **options):
    command = [sys.executable, "-uc", code]
    return Service(name, lambda: process.spawn(command, output=subprocess.PIPE), **options)

{body}
"""


@pytest.fixture
def supervised() -> Iterator[object]:
    """Start a supervisor in a program of its own; yields a function body → Popen with its stdout."""
    started: list[subprocess.Popen[str]] = []

    def start(body: str) -> subprocess.Popen[str]:
        code = PARENT.format(root=str(ROOT), body=body)
        child = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, text=True)
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def _lines(child: subprocess.Popen[str], count: int) -> list[str]:
    assert child.stdout is not None
    return [child.stdout.readline() for _ in range(count)]


TALKS = "import os, time; print('pid', os.getpid()); time.sleep(300)"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {TALKS}"


def test_lines_carry_the_name_of_who_said_them(supervised) -> None:
    """When two programs run side by side, each line begins with its program's name."""
    child = supervised(
        "Supervisor([[service('one', 'print(1); import time; time.sleep(9)'),"
        " service('three', 'print(3); import time; time.sleep(9)')]], Console()).run()"
    )
    assert sorted(_lines(child, 2)) == ["one   │ 1\n", "three │ 3\n"]


def test_who_dies_is_started_again_and_said_so(supervised) -> None:
    """A service that was killed is started again, and a line before its output says how it ended."""
    child = supervised(f"Supervisor([[service('s', {TALKS!r})]], Console()).run()")
    first = int(_lines(child, 1)[0].split()[-1])
    os.kill(first, signal.SIGKILL)
    said, again = _lines(child, 2)
    assert "SIGKILL" in said
    assert "starts again" in said
    assert int(again.split()[-1]) != first


def test_the_pause_before_a_new_start_grows(supervised) -> None:
    """A program that keeps ending at once is restarted less and less often."""
    child = supervised("Supervisor([[service('s', 'raise SystemExit(3)')]], Console()).run()")
    pauses = [float(line.split()[-2]) for line in _lines(child, 3)]
    assert pauses == [0.5, 1.0, 2.0]


def test_who_is_set_up_wrongly_is_not_started_again(supervised) -> None:
    """A program that exits with 2, for a wrong setting, is not started again; the others run on."""
    child = supervised(
        f"Supervisor([[service('s', 'raise SystemExit(2)'), service('t', {TALKS!r})]], Console()).run()"
    )
    lines = sorted(_lines(child, 2))
    assert "not started again" in lines[0]
    assert "t │ pid" in lines[1]


def test_what_cannot_start_does_not_stop_the_others(supervised) -> None:
    """A program that is missing is reported; the other one runs."""
    child = supervised(
        "bad = Service('bad', lambda: subprocess.Popen(['/no/such/program']))\n"
        f"Supervisor([[bad, service('good', {TALKS!r})]], Console()).run()"
    )
    lines = _lines(child, 2)
    assert any("did not start" in line for line in lines)
    assert any("good │ pid" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stages_end_in_order_on_a_signal(supervised, tmp_path: Path, number: signal.Signals) -> None:
    """The second stage gets SIGTERM after the first has ended; the exit code is 0."""
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.3)\n"
        f"    open({str(tmp_path / 'order')!r}, 'a').write(NAME)\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up')\n"
        "time.sleep(60)\n"
    )
    programs = {name: f"NAME = {name!r}\n{code}" for name in ("a", "b", "c")}
    stages = ", ".join(f"[service({name!r}, {program!r})]" for name, program in programs.items())
    child = supervised(f"Supervisor([{stages}], Console()).run()")
    _lines(child, 3)
    child.send_signal(number)
    assert child.wait(20) == 0
    assert (tmp_path / "order").read_text() == "abc"


def test_a_second_ctrl_c_kills_what_does_not_listen(supervised) -> None:
    """A program that ignores SIGTERM is gone after the second Ctrl-C, long before its grace is over."""
    child = supervised(f"Supervisor([[service('s', {DEAF!r}, grace=250)]], Console()).run()")
    pid = int(_lines(child, 1)[0].split()[-1])
    child.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert runs(pid)
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 0
    assert not runs(pid)


def test_a_deaf_program_is_killed_when_its_grace_is_over(supervised) -> None:
    """A program that ignores SIGTERM is killed after its grace period."""
    child = supervised(f"Supervisor([[service('s', {DEAF!r}, grace=0.5)]], Console()).run()")
    pid = int(_lines(child, 1)[0].split()[-1])
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 0
    assert not runs(pid)


def test_nobody_outlives_a_supervisor_that_was_killed(supervised) -> None:
    """SIGKILL to the supervisor ends its programs, also one that ignores SIGTERM."""
    child = supervised(f"Supervisor([[service('a', {TALKS!r}), service('b', {DEAF!r})]], Console()).run()")
    pids = [int(line.split()[-1]) for line in _lines(child, 2)]
    child.kill()
    wait_until_gone(pids)


def test_the_watcher_of_other_systems_ends_the_child_too() -> None:
    """Where the kernel has no parent-death signal, a watcher ends the child of a killed parent."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from infra.embedded import process; import time\n"
        "child = process.spawn(['sleep', '300'], tie='watch'); print(child.pid); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])
        parent.kill()
    wait_until_gone([pid])


def test_last_words_of_a_program_are_printed_whole(supervised) -> None:
    """What a program prints just before it ends is printed whole, also a last line without a newline."""
    child = supervised(
        "code = \"import sys; sys.stdout.write('x' * 200000 + chr(10) + 'last')\"\n"
        "Supervisor([[service('s', code, keep=False)]], Console(width=80)).run()"
    )
    long, last = _lines(child, 2)
    assert long.count("x") == 200000
    assert last == "s │ last\n"


def test_a_reader_that_goes_away_ends_everything_in_order(tmp_path: Path) -> None:
    """When nobody reads the output, as in `stepstream up | head`, programs get SIGTERM, not SIGPIPE."""
    mark = tmp_path / "ended"
    code = (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(mark)!r}, 'w').close(), sys.exit()))\n"
        "while True: print('x' * 1000); time.sleep(0.01)\n"
    )
    body = f"Supervisor([[service('s', {code!r})]], Console()).run()"
    command = [sys.executable, "-uc", PARENT.format(root=str(ROOT), body=body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(20) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert mark.exists()
