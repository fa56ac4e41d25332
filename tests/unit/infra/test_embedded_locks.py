"""Locks, ports, and the file in which other shells find the stack."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra import settings
from infra.embedded import ports, stackfile
from infra.embedded.room import check_room
from infra.lock import FileLock
from schemas.errors import AlreadyRunning, StepstreamError

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from infra.embedded import stackfile
with stackfile.claimed(Path({home!r})):
    stackfile.publish(Path({home!r}), {{"bootstrap_servers": "h:1", "dashboard_url": "http://u"}})
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(home: Path) -> subprocess.Popen[bytes]:
    code = HOLDER.format(root=str(ROOT), home=str(home))
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_a_second_claim_names_the_first_ones_pid_and_address(home: Path) -> None:
    """A second `up` in a home is refused, and the error has the pid and address of the first."""
    with _holder(home) as child:
        with pytest.raises(AlreadyRunning) as caught, stackfile.claimed(home):
            pass
        assert str(child.pid) in str(caught.value)
        assert "http://u" in str(caught.value)
        child.communicate()


def test_settings_believe_the_file_only_while_its_writer_lives(home: Path) -> None:
    """Other shells find a running stack; the file of a killed stack is ignored."""
    child = _holder(home)
    assert settings.explain()["bootstrap_servers"].value == "h:1"
    assert settings.explain()["bootstrap_servers"].source == "stack"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert (home / "stack.json").exists()
    assert settings.explain()["bootstrap_servers"].value == ""


def test_a_home_whose_holder_was_killed_can_be_claimed(home: Path) -> None:
    """After a crash the next `up` starts and removes the stale file."""
    child = _holder(home)
    child.kill()
    child.communicate()
    with stackfile.claimed(home):
        assert not (home / "stack.json").exists()


def test_the_end_leaves_neither_lock_nor_file(home: Path) -> None:
    """After a clean end the home holds nothing of the claim."""
    with stackfile.claimed(home):
        stackfile.publish(home, {"dashboard_url": "http://u"})
        assert json.loads((home / "stack.json").read_text())["pid"] == os.getpid()
    assert list(home.iterdir()) == []


def test_a_child_that_inherits_a_lock_holds_it_after_we_let_go(tmp_path: Path) -> None:
    """A server holds its inherited lock after the supervisor released it, until the server ends."""
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()]) as child:
        lock.release()
        assert not FileLock(tmp_path / "lock").acquire(wait=0.0)
        child.kill()
    again = FileLock(tmp_path / "lock")
    assert again.acquire()
    again.release()


def test_wanted_ports_are_kept_where_they_are_free_and_replaced_where_not() -> None:
    """A wanted port that is free is kept; one that is in use is replaced."""
    one, two = ports.free_ports([None, None])
    with socket.create_server((ports.LOOPBACK, two)):
        assert not ports.is_free(two)
        kept, other = ports.free_ports([one, two])
    assert kept == one
    assert other not in (one, two)


def test_a_full_disk_is_said_before_anything_starts(tiny_disk: Path) -> None:
    """On a full disk, one sentence says how much is free and which setting moves the home."""
    with pytest.raises(StepstreamError, match=r"disk is full: \d+ MB are free .* STEPSTREAM_HOME"):
        check_room(tiny_disk)


def test_a_home_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    """If STEPSTREAM_HOME names a file, one sentence asks for another home."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StepstreamError, match="set STEPSTREAM_HOME"):
        check_room(file / "home")
