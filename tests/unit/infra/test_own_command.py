"""The banner of `up` and `demo` names a command that starts this program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.stack import own_command

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("inside", [True, False], ids=["in a checkout", "elsewhere"])
@pytest.mark.parametrize("on_path", [True, False], ids=["on PATH", "not on PATH"])
def test_the_command_can_be_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inside: bool, on_path: bool
) -> None:
    """The command starts this program from a shell, also where PATH has another one first."""
    other = tmp_path / "other bin"
    other.mkdir()
    shutil.copy("/bin/false", other / "stepstream")
    path = f"{BIN}:{other}" if on_path else f"{other}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    monkeypatch.chdir(BIN.parent.parent if inside else tmp_path)
    command = own_command()
    assert (command == "stepstream") == on_path
    done = subprocess.run(["/bin/sh", "-c", f"{command} --version"], capture_output=True, text=True)
    assert "stepstream" in done.stdout
