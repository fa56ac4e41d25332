"""A home of its own for each test of the SDK, and what it wrote there."""

import json
from pathlib import Path

import pytest
import stepstream
from stepstream import _api, _ending, _warn


class Home:
    """A data folder, and the streams in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def streams(self) -> dict[str, list[dict]]:
        """The lines of each stream by its id."""
        return {folder.name: _lines(folder) for folder in sorted(self.path.glob("spool/*"))}

    def lines(self, *kinds: str) -> list[dict]:
        """The lines of all streams in order, of these types where any are named."""
        found = [line for lines in self.streams().values() for line in lines]
        return [line for line in found if not kinds or line["type"] in kinds]


def _lines(folder: Path) -> list[dict]:
    segments = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for segment in segments for line in segment.read_text().splitlines()]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """STEPSTREAM_HOME is empty, no run is live, no warning was given yet."""
    for name in ("RUN_ID", "AGENT_ID", "PARENT_STREAM", "MODE", "SPOOL_DIR", "WORKER_OF"):
        monkeypatch.delenv(f"STEPSTREAM_{name}", raising=False)
    monkeypatch.setenv("STEPSTREAM_HOME", str(tmp_path))
    monkeypatch.setattr(_api._Process, "newest", None)
    monkeypatch.setattr(_api._Process, "used_run_id", False)
    _warn.forget()
    yield Home(tmp_path)
    for run in list(_ending.live):
        run.finish()


@pytest.fixture
def run(home: Home) -> stepstream.Run:
    """A run in `home`."""
    return stepstream.init(run_id="r")
