"""`db`: create and upgrade the tables."""

from __future__ import annotations

import json

import click

from cli import progress
from infra.settings import load
from infra.sql import engine as sql
from infra.sql import migrations
from infra.sql.seek_points import index_runs


@click.group()
def db() -> None:
    """Create and upgrade the tables."""


@db.command()
@click.option("--json", "as_json", is_flag=True, help='An object: {"before", "after"}, revisions.')
def upgrade(as_json: bool) -> None:
    """Bring the tables to this version; harmless where they are.

    It also indexes runs that were stored before seek points existed. Services may run meanwhile. After
    Ctrl-C, persist or the next call does the rest.
    """
    settings = load()
    sql.make_folder(settings)
    engine = sql.engine(settings)
    before, after = migrations.upgrade(engine)
    with progress.bar("indexing runs for replay", None) as told:
        index_runs(engine, lambda done, _: told(done))
    if as_json:
        click.echo(json.dumps({"before": before, "after": after}))
    elif before == after:
        click.echo(f"The tables are of revision {after} already.")
    else:
        click.echo(f"The tables are of revision {after} now{f', were of {before}' if before else ''}.")
