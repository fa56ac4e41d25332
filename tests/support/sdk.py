"""A home of its own for each test of the SDK, and what it wrote there."""

import json
import struct
from pathlib import Path

import pytest
import stepstream
from stepstream import _ending, _newest, _warn


class Home:
    """A data folder, and the streams in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def streams(self) -> dict[str, list[dict]]:
        """The lines of each stream by its id."""
        return {folder.name: list(map(_read, _texts(folder))) for folder in sorted(self.path.glob("spool/*"))}

    def texts(self) -> list[str]:
        """The lines of all streams as raw text."""
        return [text for folder in sorted(self.path.glob("spool/*")) for text in _texts(folder)]

    def lines(self, *kinds: str) -> list[dict]:
        """The lines of all streams in order, of these types where any are named."""
        found = [line for lines in self.streams().values() for line in lines]
        return [line for line in found if not kinds or line["type"] in kinds]


def _texts(folder: Path) -> list[str]:
    return [line for segment in sorted(folder.glob("*.jsonl")) for line in segment.read_text().splitlines()]


def _read(text: str) -> dict:
    """A line with its packed numbers unpacked among its fields."""
    line = json.loads(text)
    digits, *names = line.pop("packed", [""])
    numbers = struct.unpack(f">{len(names)}d", bytes.fromhex(digits))
    return {**dict(zip(names, numbers, strict=True)), **line}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty STEPSTREAM_HOME, no open run, no warning given yet."""
    for name in ("RUN_ID", "AGENT_ID", "PARENT_STREAM", "MODE", "SPOOL_DIR", "WORKER_OF"):
        monkeypatch.delenv(f"STEPSTREAM_{name}", raising=False)
    monkeypatch.setenv("STEPSTREAM_HOME", str(tmp_path))
    monkeypatch.setattr(_newest.Process, "newest", None)
    monkeypatch.setattr(_newest.Process, "used_run_id", False)
    _warn.forget()
    yield Home(tmp_path)
    for run in list(_ending.live):
        run.finish()


@pytest.fixture
def run(home: Home) -> stepstream.Run:
    """A run in `home`."""
    return stepstream.init(run_id="r")
