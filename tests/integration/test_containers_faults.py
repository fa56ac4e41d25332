"""Every event is in SQL exactly once, also when a cluster's servers are killed in their containers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from infra.kafka import topics
from infra.settings import load
from infra.sql import engine as sql
from infra.sql import migrations
from tests.support import containers
from tests.support.events import until
from tests.support.load import Load, prove, rows

pytestmark = [pytest.mark.docker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(0)]


def test_kafka_and_postgresql_are_killed(
    home: Path,
    spawn_cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    strikes: Callable[[int], int],
):
    """Both containers are killed in turn under load, bad records included, and no event is lost."""
    with containers.durable() as (servers, addresses):
        for name, value in addresses.items():
            monkeypatch.setenv(name, value)
        settings = load()
        topics.ensure_topics(settings)
        engine = sql.engine(settings)
        migrations.upgrade(engine)

        def answers() -> bool:
            try:
                return rows(engine) >= 0
            except OperationalError:
                return False

        program = spawn_cli("persist")
        with Load(settings, poison=2000) as load_:
            for strike in range(strikes(2)):
                time.sleep(random.uniform(1, 2))
                server = servers[strike % len(servers)].get_wrapped_container()
                server.kill()
                time.sleep(random.uniform(0, 1))
                server.start()
            until(answers, 30)
        prove(engine, load_)
        assert program.poll() is None
        engine.dispose()
