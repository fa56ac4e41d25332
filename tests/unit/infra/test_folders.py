"""What changes below a folder: told by the system, or looked for where it does not tell."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from infra import folders


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling without waiting."""
    monkeypatch.setattr(folders, "LOOK_SECONDS", 0.01)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "lustre", "9p"])
def test_a_network_disk_is_looked_at_as_it_tells_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network disk all files are looked at again and again, until the end."""
    monkeypatch.setattr(folders, "_file_system", lambda folder: kind)
    stop, told = threading.Event(), list[str]()
    seen = folders.changes(tmp_path, stop, told.append)
    assert list(islice(seen, 3)) == [None, None, None]
    stop.set()
    assert (list(seen), told) == ([], [])


def test_a_system_that_refuses_to_tell_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no notification left, one sentence says so, and the files are looked at."""

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(folders.watchfiles, "watch", refused)
    stop, told = threading.Event(), list[str]()
    seen = folders.changes(tmp_path, stop, told.append)
    assert list(islice(seen, 3)) == [None, None, None]
    stop.set()
    [sentence] = told
    assert str(tmp_path) in sentence
    assert "limit reached" in sentence


def test_the_file_system_of_a_folder_is_that_of_its_nearest_mount() -> None:
    """A folder's file system is its own mount's, not that of the root."""
    assert folders._file_system(Path("/proc/self")) == "proc"
    assert not folders._file_system(Path("/")).startswith("proc")
