"""What tests of replay share: a run's records, the way into SQL, and its lines as Kafka alone gives them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine

from consumers.persist.dead_letters import DeadLetterWriter
from consumers.persist.service import Persist
from consumers.replay.lines import as_line
from consumers.replay.sink_sql import SqlSink
from infra.history.items import Item, Records
from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql import migrations
from infra.sql.writers import open_writer
from schemas.codec import Decoder, Encoder, checked_in
from schemas.topics import LINES, Kind
from tests.support.records import Sender, record
from tests.support.topics import read_topics

START = 1_790_000_000_000_000
"""Event time of a run's first line, µs."""

Lines = list[tuple[Kind, dict[str, Any]]]


def store_lines(settings: Settings, run_id: str, lines: Iterable[tuple[Kind, dict[str, Any]]]) -> None:
    """Store records in SQL as `replay --output sql:` does, each kind in one partition."""
    encoders, places = {kind: Encoder(kind) for kind in Kind}, dict.fromkeys(Kind, 0)
    sink = SqlSink(settings, settings.sql_url, Records(run_id, checked_in), run_id)
    items = []
    for kind, fields in lines:
        who = (kind, fields["stream_id"], fields["seq"], fields["event_time"], fields["agent_id"])
        items.append(Item(*who, 0, places[kind], fields["event_time"] // 1000, encoders[kind](fields)))
        places[kind] += 1
    sink.write(items)
    sink.close()


def lines_of(run_id: str, stream: str, episodes: int, *, steps: int = 4, every: int = 1_000) -> Lines:
    """Episodes of `steps` steps and an end each, `every` µs a line, then a metric, a log line and a dead
    letter. The time of every seventh line is five lines earlier, and the return of one episode is NaN."""
    made: Lines = []

    def put(kind: Kind, seq: int, **fields: Any) -> None:
        late = 5 if seq % 7 == 0 else 0
        own = {"seq": seq, "stream_id": stream, "event_time": START + (seq - late) * every}
        made.append((kind, record(kind, run_id, **own, **fields)))

    for seq in range(1, episodes * (steps + 1) + 1):
        number, place = divmod(seq - 1, steps + 1)
        if place < steps:
            acted = {"action": "2", "reward": 1.0, "terminated": place + 1 == steps}
            put(Kind.STEPS, seq, episode_index=number, step_index=place, **acted)
        else:
            value, extras = (
                (float("nan"), '{"episode_return":"NaN"}') if number == 1 else (float(number), None)
            )
            put(
                Kind.EPISODES, seq, episode_index=number, episode_return=value, extras=extras, truncated=False
            )
    last = episodes * (steps + 1)
    put(Kind.METRICS, last + 1, global_step=7, metrics='{"loss": 0.5}')
    put(Kind.LOGS, last + 2, source="stdout", line="saved, bye")
    letter = {"reason": "broken_json", "message": "cut off", "raw": b'{"type": "st', "producer_version": "0"}
    put(Kind.DLQ, last + 3, **letter)
    return made


def send(settings: Settings, lines: Iterable[tuple[Kind, dict[str, Any]]]) -> None:
    """Put records on Kafka, each kind's in order."""
    sender = Sender(settings)
    by_kind: dict[Kind, list[dict[str, Any]]] = {}
    for kind, fields in lines:
        by_kind.setdefault(kind, []).append(fields)
    for kind, records in by_kind.items():
        sender.send(kind, records)


def store(settings: Settings, rows: int) -> Engine:
    """Run persist until `rows` records are stored, then stop it."""
    engine = sql.engine(settings)
    migrations.upgrade(engine)
    writer, stop = open_writer(settings), threading.Event()
    service = Persist(settings, writer, decode=Decoder, letters=DeadLetterWriter)
    stored = 0
    while stored < rows:
        stored += service.turn(stop)
    service.close()
    return engine


def golden(settings: Settings, run_id: str, stream_id: str | None = None) -> bytes:
    """The run's lines as Kafka alone gives them: each stream's by seq, streams by time so far, then name."""
    first: dict[tuple[str, int], tuple[Kind, dict[str, Any]]] = {}
    for found in read_topics(settings, LINES):
        if found.record["run_id"] == run_id and stream_id in (None, found.record["stream_id"]):
            key = (found.record["stream_id"], found.record["seq"])
            known = first.get(key)
            if known is None or known[0] is Kind.DLQ:
                first[key] = (found.kind, found.record)
    newest: dict[str, int] = {}
    order = []
    for (stream, seq), (kind, fields) in sorted(first.items()):
        newest[stream] = max(newest.get(stream, fields["event_time"]), fields["event_time"])
        order.append((newest[stream], stream, seq, as_line(kind, fields)))
    return b"".join(line + b"\n" for *_, line in sorted(order, key=lambda each: each[:3]) if line is not None)
