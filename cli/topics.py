"""`topics`: create them, compare them with what is wanted, and change them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from infra.kafka import topics as kafka_topics
from infra.kafka.topics import TopicPlan
from infra.settings import load

AS_JSON = click.option("--json", "as_json", is_flag=True, help="A list of objects, one a topic.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")


@click.group()
def topics() -> None:
    """Create, compare and change the topics.

    How many partitions and replicas: STEPSTREAM_PARTITIONS, STEPSTREAM_REPLICATION_FACTOR. Kafka's own
    settings: STEPSTREAM_TOPICS_STEPS_RETENTION_MS, STEPSTREAM_TOPICS_ALL_COMPRESSION_TYPE and so on.
    """


@topics.command()
@AS_JSON
@DRY_RUN
def create(as_json: bool, dry_run: bool) -> None:
    """Create what is missing; leave what is there, and say where it differs from what is wanted."""
    settings = load()
    _show(kafka_topics.plan(settings) if dry_run else kafka_topics.ensure_topics(settings), as_json)


@topics.command()
@AS_JSON
@click.pass_context
def diff(ctx: click.Context, as_json: bool) -> None:
    """Show what is missing or differs; changes nothing. Exit code 1 where something does."""
    found = kafka_topics.plan(load())
    _show(found, as_json)
    ctx.exit(int(any(topic.open for topic in found)))


@topics.command()
@AS_JSON
@DRY_RUN
def alter(as_json: bool, dry_run: bool) -> None:
    """Create what is missing, change settings that differ, add partitions; shows the plan first.

    It changes partitions and settings only: Kafka's own tools move replicas. New partitions neither lose nor
    double a record.
    """
    settings = load()
    found = kafka_topics.plan(settings)
    _show(found, as_json)
    if not dry_run:
        kafka_topics.alter(settings, found)


def _show(found: Sequence[TopicPlan], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_object(topic) for topic in found]))
        return
    for topic in found:
        click.echo(_line(topic))


def _object(topic: TopicPlan) -> dict[str, Any]:
    return {
        "name": topic.name,
        "created": topic.created,
        "missing": topic.missing and not topic.note,
        "partitions": topic.partitions,
        "more_partitions": topic.more,
        "differs": {key: {"is": is_, "wanted": wanted} for key, (is_, wanted) in topic.differs.items()},
        "note": topic.note,
    }


def _line(topic: TopicPlan) -> str:
    notes = [f"{key} is {is_}, {wanted} is wanted" for key, (is_, wanted) in topic.differs.items()]
    if topic.more:
        notes.insert(0, f"{topic.more} are wanted")
    if topic.note:
        notes.append(topic.note)
    if topic.missing:
        state = "is there" if topic.note else "is missing"
    else:
        state = f"{'created' if topic.created else 'is there'}, {topic.partitions} partitions"
    return f"{topic.name}: {state}" + (f" ({'; '.join(notes)})" if notes else "")
