"""`db`: create and upgrade the tables."""

from __future__ import annotations

import json

import click

from infra.settings import load
from infra.sql import engine as sql
from infra.sql import migrations


@click.group()
def db() -> None:
    """Create and upgrade the tables."""


@db.command()
@click.option("--json", "as_json", is_flag=True, help='An object: {"before", "after"}, revisions.')
def upgrade(as_json: bool) -> None:
    """Bring the tables to this version; harmless where they are."""
    settings = load()
    sql.make_folder(settings)
    before, after = migrations.upgrade(sql.engine(settings))
    if as_json:
        click.echo(json.dumps({"before": before, "after": after}))
    elif before == after:
        click.echo(f"The tables are of revision {after} already.")
    else:
        click.echo(f"The tables are of revision {after} now{f', were of {before}' if before else ''}.")
