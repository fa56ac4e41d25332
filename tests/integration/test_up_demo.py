"""`stepstream demo`: real trainings that stream, learn, and end with the stack."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import wait_for


@pytest.mark.slow
def test_demo_streams_four_trainings_until_ctrl_c(
    home: Path,
    spawn_cli: Callable[..., subprocess.Popen[bytes]],
    run_cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Four runs with readable ids arrive in SQL, one with two players; Ctrl-C ends each with its summary."""
    child = spawn_cli("demo", "--port", "0")

    def runs() -> dict[str, dict[str, object]]:
        assert child.poll() is None, Path(child.log).read_text()  # type: ignore[attr-defined]
        done = run_cli("runs", "list", "--json")
        listed = json.loads(done.stdout) if done.returncode == 0 else []
        return {run["run_id"].split("-")[1]: run for run in listed}

    def all_have_episodes() -> bool:
        found = runs()
        return len(found) == 4 and all(run["episodes"] for run in found.values())

    wait_for(all_have_episodes, 200, "the demo's runs did not arrive")
    found = runs()
    assert set(found) == {"frozenlake", "taxi", "cartpole", "tictactoe"}
    assert found["tictactoe"]["agents"] >= 2
    assert {run["status"] for run in found.values()} == {"running"}

    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 0
    said = Path(child.log).read_text()  # type: ignore[attr-defined]
    assert said.count("lines read") == 4
    assert "SIGKILL" not in said
