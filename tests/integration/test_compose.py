"""The image and the compose file: one command brings up the cluster, and its worker's run is completed."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from infra.embedded.ports import free_ports

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra" / "deploy" / "compose" / "compose.yaml"
TOKEN = "an-open-secret"

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


class Compose:
    """One project of the compose file, on ports of its own."""

    def __init__(self) -> None:
        names = ("KAFKA_PORT", "POSTGRES_PORT", "DASHBOARD_PORT")
        self.ports = dict(zip(names, free_ports([None] * len(names)), strict=True))
        self._environment = os.environ | {
            **{name: str(port) for name, port in self.ports.items()},
            "STEPSTREAM_DASHBOARD_TOKEN": TOKEN,
            "BUILD_NETWORK": "host",
            "DEMO_EPISODES": "30",
            "DEMO_STEPS_PER_SECOND": "0",
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`docker compose …`, to its end."""
        command = ["docker", "compose", "-p", "stepstream-test", "-f", str(FILE), *arguments]
        env = self._environment | environment
        return subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)

    def runs(self) -> list[dict[str, Any]]:
        """The table of runs, read from this machine."""
        address = f"127.0.0.1:{self.ports['POSTGRES_PORT']}"
        engine = create_engine(f"postgresql+psycopg://stepstream:stepstream@{address}/stepstream")
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT * FROM runs")).mappings().all()
        return [dict(row) for row in rows]

    def page(self, path: str, token: str | None = None) -> int:
        """HTTP status of a page; 0 while nobody answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.ports['DASHBOARD_PORT']}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """The whole of it, up."""
    project = Compose()
    try:
        done = project("up", "--build", "--detach")
        assert done.returncode == 0, done.stderr[-3000:]
        yield project
    finally:
        project("down", "--volumes", "--timeout", "5")


def wait_for(what: Callable[[], Any], compose: Compose, seconds: float = 120) -> Any:
    """The first answer that is true; else the services' last words."""
    until = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < until, compose("logs", "--tail", "30").stdout
        time.sleep(0.5)
    return answer


def test_the_workers_run_is_completed_in_postgresql(compose: Compose) -> None:
    """Worker → Kafka → persist → PostgreSQL, each in a container of its own; the worker ends with 0."""

    def ended() -> list[dict[str, Any]]:
        """A partition each: the end of the run may be there before its last episodes."""
        try:
            return [run for run in compose.runs() if (run["status"], run["episodes"]) == ("completed", 30)]
        except DBAPIError:
            return []

    def steps_shown() -> bool:
        shown = compose("exec", "-T", "persist", "stepstream", "runs", "show", "demo", "--json")
        return json.loads(shown.stdout)["steps"] == compose.runs()[0]["steps"] > 0

    [run] = wait_for(ended, compose)
    assert (run["run_id"], run["env_id"]) == ("demo", "FrozenLake-v1")
    wait_for(lambda: '"ExitCode":0' in compose("ps", "--all", "--format", "json", "worker").stdout, compose)
    assert wait_for(steps_shown, compose)


def test_the_page_answers_whoever_logs_in(compose: Compose) -> None:
    """200 with the token; without it no page."""
    assert wait_for(lambda: compose.page("/", TOKEN), compose) == 200
    assert compose.page("/healthz") == 200
    assert compose.page("/", "guessed") in (401, 403)


def test_services_are_well_and_not_root(compose: Compose) -> None:
    """doctor finds nothing wrong from inside a container."""
    done = compose("exec", "-T", "live", "stepstream", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert compose("exec", "-T", "live", "id", "-u").stdout.strip() == "10001"


def test_a_worker_outside_streams_in(compose: Compose, run_cli: Callable[..., Any]) -> None:
    """From this machine, by the published port, with one setting."""
    address = f"127.0.0.1:{compose.ports['KAFKA_PORT']}"
    line = '{"type": "step", "step": 0, "reward": 1.5}\n'
    done = run_cli(
        "ingest", "-", "--run-id", "outside", env={"STEPSTREAM_BOOTSTRAP_SERVERS": address}, input=line
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: any(run["run_id"] == "outside" and run["steps"] == 1 for run in compose.runs()), compose)


def test_ports_are_published_on_the_loopback_only(compose: Compose) -> None:
    """A database with a well-known password is nobody else's to reach."""
    published = json.loads(compose("config", "--format", "json").stdout)["services"].values()
    addresses = {port["host_ip"] for service in published for port in service.get("ports", [])}
    assert addresses == {"127.0.0.1"}


def test_without_a_token_it_does_not_start(compose: Compose) -> None:
    """The dashboard leaves loopback, so compose asks for one, in a sentence."""
    done = compose("config", "--quiet", STEPSTREAM_DASHBOARD_TOKEN="")
    assert done.returncode != 0
    assert "choose a token" in done.stderr
