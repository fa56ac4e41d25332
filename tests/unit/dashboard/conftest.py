"""An empty database of each kind, and the dashboard's reads of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dashboard.sql.queries import Queries
from infra import settings
from infra.settings import Settings
from infra.sql import engine as sql
from schemas.tables import Base


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Settings of an empty database."""
    url = f"sqlite:///{home}/test.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    return settings.load({"STEPSTREAM_HOME": str(home), "STEPSTREAM_DATABASE_URL": url})


@pytest.fixture
def engine(database: Settings) -> Iterator[Engine]:
    """An engine on the database, with the tables created."""
    made = sql.engine(database)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def queries(database: Settings, engine: Engine) -> Iterator[Queries]:
    """The dashboard's reads of the database."""
    made = Queries(database)
    yield made
    made.close()
