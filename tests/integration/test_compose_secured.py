"""The secured compose file completes the same run with certificates, Redis users and least rights."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.compose import Compose

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """The secured compose project with all its services up."""
    project = Compose("compose.yaml", "compose.secured.yaml")
    try:
        project.up()
        yield project
    finally:
        project("down", "--volumes", "--timeout", "5")


def test_the_workers_run_is_completed_with_least_rights(compose: Compose) -> None:
    """Each service finds its own rights enough, and its doctor finds nothing wrong."""

    def ended() -> bool:
        shown = compose("exec", "-T", "dashboard", "stepstream", "runs", "list", "--json")
        runs = json.loads(shown.stdout) if shown.returncode == 0 else []
        return [(run["run_id"], run["status"], run["episodes"]) for run in runs] == [
            ("demo", "completed", 30)
        ]

    compose.wait_for(ended)
    for service in ("persist", "live", "dashboard"):
        assert "wrong" not in compose.doctor(service)


def test_nobody_comes_in_without_a_certificate(compose: Compose) -> None:
    """Kafka, PostgreSQL and Redis refuse plain connections, and `live` lacks the rights of `persist`."""
    plain = {
        "STEPSTREAM_CONFIG": "",
        "STEPSTREAM_BOOTSTRAP_SERVERS": "kafka-1:9092",
        "STEPSTREAM_DATABASE_URL": "postgresql://persist@postgres/stepstream",
        "STEPSTREAM_REDIS_URL": "redis://redis:6379/0",
    }
    variables = [part for name, value in plain.items() for part in ("--env", f"{name}={value}")]
    assert {"kafka", "sql", "redis"} <= wrong(compose, *variables, "live", "stepstream", "doctor", "--json")
    assert {"kafka", "sql"} == wrong(compose, "live", "stepstream", "doctor", "persist", "--json")


def wrong(compose: Compose, *command: str) -> set[str]:
    """The parts that doctor finds wrong, from inside a container."""
    found = json.loads(compose("exec", "-T", *command).stdout)
    return {each["part"] for each in found if not each["ok"]}
