"""The two wheels are built, and run away from the checkout as the first command of the docs runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import wait_for

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
DEMO = "stepstream-server[demo]"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both wheels of this checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in (ROOT, ROOT / "sdk"):
        command = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
        subprocess.run([*command, "--out-dir", folder, package], check=True)
    return folder


def test_the_wheel_holds_no_test_and_no_deployment(wheels: Path) -> None:
    """The wheel holds the packages of the product alone."""
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", next(wheels.glob("stepstream_server-*.whl"))],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = [line.split()[0] for line in listing.splitlines()[1:]]
    assert {name.partition("/")[0] for name in names if name.endswith(".py") and ".data/" not in name} == {
        "schemas", "infra", "producers", "consumers", "dashboard", "cli",
    }  # fmt: skip
    assert not any(name.startswith("infra/deploy") for name in names)


@pytest.mark.slow
def test_the_first_command_of_the_docs_streams_trainings(wheels: Path, home: Path, tmp_path: Path) -> None:
    """The first command of the docs streams trainings, from the wheels and the lock's versions."""
    assert f'uvx --from "{DEMO}" stepstream demo' in (ROOT / "docs/index.md").read_text(encoding="utf-8")
    uvx = [UV, "tool", "run", "--quiet", "--python", sys.executable, "--find-links", wheels,
           "--constraints", ROOT / "requirements.lock", "--from", DEMO]  # fmt: skip
    environment = os.environ | {"STEPSTREAM_HOME": str(home), "UV_TOOL_DIR": str(tmp_path / "tools")}
    log = tmp_path / "demo.log"
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [*uvx, "stepstream", "demo", "--port", "0"], cwd=tmp_path, env=environment, stdout=out, stderr=out
        )

    def streams() -> bool:
        assert demo.poll() is None, log.read_text()
        done = subprocess.run(
            [*uvx, "stepstream", "runs", "list", "--json"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode == 0 and any(run["steps"] for run in json.loads(done.stdout))

    try:
        wait_for(streams, 250, "no training of the demo arrived")
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, log.read_text()
