"""The tables that migrations make are those of the models, in both databases."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from infra.settings import Settings, load
from infra.sql import engine as sql
from infra.sql import migrations
from schemas.errors import DatabaseError, RevisionError
from schemas.tables import Base


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that name an empty database of each kind."""
    if request.param == "sqlite":
        return replace(load({}), database_url=f"sqlite:///{tmp_path / 'test.db'}")
    return replace(load({}), database_url=request.getfixturevalue("postgres"))


def test_migrations_make_the_models_tables(database: Settings):
    """After every migration nothing is left that Alembic would change."""
    engine = sql.engine(database)
    assert migrations.upgrade(engine) == (None, migrations.head())

    def ours(name: str | None, kind: str, _: Any) -> bool:
        """False for the tables of the word index, which the models do not declare."""
        return not (kind == "table" and str(name).startswith("rollout_words"))

    with engine.connect() as connection:
        opts = {"compare_type": True, "include_name": ours}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, Base.metadata) == []
    migrations.check(engine)


def test_revisions_are_those_that_alembic_knows():
    """The revisions that are read from the file names are those that Alembic knows."""
    config = Config()
    config.set_main_option("script_location", migrations.LOCATION)
    scripts = ScriptDirectory.from_config(config)
    assert migrations.revisions() == [script.revision for script in scripts.walk_revisions()][::-1]
    assert migrations.head() == scripts.get_current_head()


def test_a_service_starts_without_alembic():
    """Services do not import Alembic, as each imported module delays a restart."""
    script = "import sys, cli.persist, cli.dashboard, cli.forward; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_upgrading_twice_changes_nothing(database: Settings):
    """`db upgrade` is harmless where the tables are up to date."""
    engine = sql.engine(database)
    migrations.upgrade(engine)
    assert migrations.upgrade(engine) == (migrations.head(), migrations.head())


def test_services_refuse_tables_they_do_not_know(database: Settings):
    """Services refuse missing tables and tables of a newer version, and say what to do."""
    engine = sql.engine(database)
    with pytest.raises(RevisionError, match="stepstream db upgrade"):
        migrations.check(engine)
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RevisionError, match="install the newer stepstream"):
        migrations.check(engine)
    with pytest.raises(RevisionError, match="install the newer stepstream"):
        migrations.upgrade(engine)


def test_a_database_that_is_away_is_one_sentence(tmp_path: Path):
    """The error about a database that is away says so, without the password of the address."""
    gone = replace(load({}), database_url="postgresql://me:secret@127.0.0.1:1/db")
    with pytest.raises(DatabaseError, match="does not answer") as caught:
        migrations.check(sql.engine(gone))
    assert "secret" not in str(caught.value)


def test_sqlite_keeps_json_as_the_workers_text(tmp_path: Path):
    """SQLite keeps JSON as the worker's text: `1.0` stays `1.0`."""
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO run_events VALUES ('r', 's', 1, 'a', NULL, 't', 'other', '1.0', 0, 0)")
        )
        assert connection.execute(text("SELECT payload FROM run_events")).scalar() == "1.0"
