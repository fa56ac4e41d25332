"""`config`, `doctor`: show the settings, and check what they lead to."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from stepstream._masking import MASK, masked_url

from infra.settings import Settings, Sourced, explain, load
from schemas.rights import RIGHTS

SECRET_PROPERTIES = ("password", "secret", "jaas", "oauthbearer.config", "ssl.key.pem")
"""librdkafka properties whose names hold one of these are masked."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help='An object: setting → {"value", "source"}.')
@click.option("--show-secrets", is_flag=True, help="Print passwords and tokens as they are.")
def config(as_json: bool, show_secrets: bool) -> None:
    """Print every setting, its value and where that comes from."""
    found = explain()
    settings = load()
    values = {name: _shown(name, item, settings, show_secrets) for name, item in found.items()}
    if as_json:
        objects = {name: {"value": values[name], "source": item.source} for name, item in found.items()}
        click.echo(json.dumps(objects, indent=2))
        return
    table = Table("setting", "value", "source", "what it is", box=None, header_style="bold", pad_edge=False)
    for name, item in found.items():
        table.add_row(name, _cell(values[name]), item.source, item.help)
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
    click.echo("\nSet one in the environment (STEPSTREAM_ and the name in capitals) or in stepstream.toml.")


def _shown(name: str, item: Sourced, settings: Settings, show_secrets: bool) -> Any:
    """A setting's effective value: with defaults filled in, and masked if it is secret."""
    value = settings.sql_url if name == "database_url" else item.value
    if isinstance(value, Mapping):
        return {key: text if show_secrets else _property(key, text) for key, text in item.value.items()}
    if isinstance(value, Path):
        return "" if value == Path() else str(value)
    if show_secrets or not isinstance(value, str):
        return value
    if item.secret and value and "://" not in value:
        return MASK
    return masked_url(value)


def _property(key: str, text: str) -> str:
    return MASK if any(word in key for word in SECRET_PROPERTIES) else text


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}={text}" for key, text in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


@click.command()
@click.argument("service", required=False, default="", type=click.Choice(["", *RIGHTS]), metavar="[SERVICE]")
@click.option("--json", "as_json", is_flag=True, help='A list of {"part", "ok", "message"}.')
@click.pass_context
def doctor(ctx: click.Context, service: str, as_json: bool) -> None:
    """Try every address; say what is wrong and what to do. Exit code 1 when something is wrong.

    SERVICE is worker, persist, live, dashboard, replay or admin: then only what that service uses is
    tried, with the rights that it needs.
    """
    from infra import doctor as checks  # noqa: PLC0415 - the clients of all servers take seconds to import

    findings = checks.examine(load(), service)
    if as_json:
        click.echo(json.dumps([{"part": f.part, "ok": f.ok, "message": f.message} for f in findings]))
    else:
        for finding in findings:
            mark = click.style("ok   ", fg="green") if finding.ok else click.style("wrong", fg="red")
            click.echo(f"{mark}  {finding.part:<10} {finding.message}")
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)
