"""`topics`, `config`, `doctor`: set up, and explain what is set up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from infra import doctor as checks
from infra.kafka import client as kafka
from infra.settings import MASK, Settings, Sourced, explain, load, without_password

SECRET_PROPERTIES = ("password", "secret", "jaas", "oauthbearer.config", "ssl.key.pem")
"""librdkafka properties whose names hold one of these are masked."""


@click.group()
def topics() -> None:
    """Create the topics."""


@topics.command()
@click.option("--json", "as_json", is_flag=True, help="A list of objects, one a topic.")
def create(as_json: bool) -> None:
    """Create what is missing; leave what is there, and say where it differs from stepstream's wishes."""
    settings = load()
    found = kafka.ensure_topics(settings)
    if as_json:
        click.echo(json.dumps([_topic_object(topic) for topic in found]))
        return
    for topic in found:
        click.echo(_topic_line(topic, settings))


def _topic_object(topic: kafka.TopicState) -> dict[str, Any]:
    return {
        "name": topic.name,
        "created": topic.created,
        "partitions": topic.partitions,
        "differs": {key: {"is": is_, "wanted": wanted} for key, (is_, wanted) in topic.differs.items()},
    }


def _topic_line(topic: kafka.TopicState, settings: Settings) -> str:
    state = "created" if topic.created else "is there"
    notes = [f"{key} is {is_}, stepstream wants {wanted}" for key, (is_, wanted) in topic.differs.items()]
    if topic.partitions != settings.partitions:
        notes.insert(0, f"STEPSTREAM_PARTITIONS says {settings.partitions}")
    line = f"{topic.name}: {state}, {topic.partitions} partitions"
    return f"{line} ({'; '.join(notes)})" if notes else line


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
    """A setting's value as it holds: with defaults filled in, and masked where it is secret."""
    value = settings.sql_url if name == "database_url" else item.value
    if name == "kafka":
        return {key: text if show_secrets else _property(key, text) for key, text in item.value.items()}
    if isinstance(value, Path):
        return "" if value == Path() else str(value)
    if item.secret and value and not show_secrets:
        return without_password(value) if "://" in value else MASK
    return value


def _property(key: str, text: str) -> str:
    return MASK if any(word in key for word in SECRET_PROPERTIES) else text


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}={text}" for key, text in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


@click.command()
@click.option("--json", "as_json", is_flag=True, help='A list of {"part", "ok", "message"}.')
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Try every address; say what is wrong and what to do. Exit code 1 when something is wrong."""
    findings = checks.examine(load())
    if as_json:
        click.echo(json.dumps([{"part": f.part, "ok": f.ok, "message": f.message} for f in findings]))
    else:
        for finding in findings:
            mark = click.style("ok   ", fg="green") if finding.ok else click.style("wrong", fg="red")
            click.echo(f"{mark}  {finding.part:<10} {finding.message}")
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)
