"""Only its owner may read a spool, and a group if the folder around the spool is made for one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.settings import load
from producers.spool.format import about_new
from producers.spool.writer import SpoolWriter

SHARED = stat.S_ISGID | 0o777


@pytest.fixture
def as_usual() -> Iterator[None]:
    """Set the umask that most systems have."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def write_by_server(folder: Path) -> None:
    """Write a spool as `run` and `ingest` do."""
    settings = replace(load({"STEPSTREAM_HOME": str(folder)}), spool_dir=folder / "spool")
    writer = SpoolWriter(settings, about_new("run", "r", None, generated="r"))
    writer.append(b'{"type": "step"}\n', 1)
    writer.finish()


def write_by_sdk(folder: Path) -> None:
    """Write a spool as a training program does."""
    program = "import stepstream\nrun = stepstream.init(run_id='r')\nrun.step(reward=1.0)\nrun.finish()\n"
    environment = os.environ | {"STEPSTREAM_HOME": str(folder), "STEPSTREAM_SPOOL_DIR": str(folder / "spool")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def modes(folder: Path) -> tuple[set[int], set[int]]:
    """Return the modes of all folders and of all files below a folder."""
    found = list(folder.rglob("*"))
    bits = {
        kind: {stat.S_IMODE(p.stat().st_mode) for p in found if p.is_dir() is kind} for kind in (True, False)
    }
    return bits[True], bits[False]


@pytest.mark.parametrize("write", [write_by_server, write_by_sdk])
def test_a_spool_is_its_owners_alone(tmp_path: Path, as_usual: None, write: object) -> None:
    """Folders have mode 0700 and files 0600, although the umask allows more."""
    home = tmp_path / "home"
    write(home)  # type: ignore[operator]
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert modes(home) == ({0o700}, {0o600})


@pytest.mark.parametrize("write", [write_by_server, write_by_sdk])
def test_a_spool_in_a_folder_for_a_group_is_the_groups(tmp_path: Path, as_usual: None, write: object) -> None:
    """In a setgid folder that its group may write, the group may read and write the spool."""
    spool = tmp_path / "spool"
    spool.mkdir()
    spool.chmod(SHARED)
    write(tmp_path)  # type: ignore[operator]
    assert modes(spool) == ({0o2770}, {0o660})
