"""The compose files, started on free ports."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from infra.embedded.ports import free_ports

FOLDER = Path(__file__).parents[2] / "infra" / "deploy" / "compose"
TOKEN = "an-open-secret"


class Compose:
    """One project of the compose files.

    Args:
        files: those of the folder that are put over each other; default: `compose.yaml` alone.
    """

    def __init__(self, *files: str) -> None:
        self._files = files or ("compose.yaml",)
        self._project = f"stepstream-test-{len(self._files)}"  # CI runs two files of tests at once
        names = (
            "KAFKA_PORT",
            "KAFKA_PORT_2",
            "KAFKA_PORT_3",
            "POSTGRES_PORT",
            "DASHBOARD_PORT",
            "PROMETHEUS_PORT",
        )
        self.ports = dict(zip(names, free_ports([None] * len(names)), strict=True))
        self._environment = os.environ | {
            **{name: str(port) for name, port in self.ports.items()},
            "STEPSTREAM_DASHBOARD_TOKEN": TOKEN,
            "BUILD_NETWORK": "host",
            "DEMO_EPISODES": "30",
            "DEMO_STEPS_PER_SECOND": "0",
            "KAFKA_HEAP": "256m",
            "PROMETHEUS_VERSION": "v2.53.3",
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `docker compose …` to its end."""
        env = self._environment | environment
        return subprocess.run(self._command(arguments), capture_output=True, text=True, timeout=600, env=env)

    def up(self) -> None:
        """Build the images and start all services."""
        done = self("up", "--build", "--detach")
        assert done.returncode == 0, done.stderr[-3000:]

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `docker compose …` in the background."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(self._command(arguments), stdout=quiet, stderr=quiet, env=self._environment)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        files = [part for file in self._files for part in ("-f", str(FOLDER / file))]
        return ["docker", "compose", "-p", self._project, *files, *arguments]

    @property
    def brokers(self) -> str:
        """The addresses of all three brokers for a worker on this machine."""
        names = ("KAFKA_PORT", "KAFKA_PORT_2", "KAFKA_PORT_3")
        return ",".join(f"127.0.0.1:{self.ports[name]}" for name in names)

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Rows of a statement; none while PostgreSQL is away or has no such table."""
        try:
            return self.rows(statement)
        except DBAPIError:
            return []

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Rows of a statement, read from this machine."""
        address = f"127.0.0.1:{self.ports['POSTGRES_PORT']}"
        engine = create_engine(f"postgresql+psycopg://stepstream:stepstream@{address}/stepstream")
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(statement)).mappings()]

    @property
    def url(self) -> str:
        """The address of the dashboard."""
        return f"http://127.0.0.1:{self.ports['DASHBOARD_PORT']}"

    def page(self, path: str, token: str | None = None) -> int:
        """HTTP status of a page; 0 while nobody answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.url}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def doctor(self, service: str) -> str:
        """What `doctor` says in a service's container; retries where a busy machine is slow to answer."""
        for _ in range(5):
            done = self("exec", "-T", service, "stepstream", "doctor", service)
            if done.returncode == 0:
                break
        return done.stdout + done.stderr

    def wait_for(self, what: Callable[[], Any], seconds: float = 120) -> Any:
        """Wait for the first result that is true; a failure shows the services' last log lines."""
        until = time.monotonic() + seconds
        while not (answer := what()):
            assert time.monotonic() < until, self("logs", "--tail", "30").stdout
            time.sleep(0.5)
        return answer
