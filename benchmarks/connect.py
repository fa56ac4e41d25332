"""One task of Debezium's JDBC sink on Kafka Connect, which users could take instead of persist."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from benchmarks.harness import Unmeasured
from infra.embedded import process
from infra.embedded.kafka import java_command
from infra.embedded.ports import free_ports
from schemas.codec import current_schema
from schemas.topics import Kind

POM = Path(__file__).with_name("connect.xml")
_TYPES = {"boolean": "boolean", "bytes": "bytes", "double": "double", "int": "int32", "long": "int64"}

WORKER = """\
bootstrap.servers={kafka}
key.converter=org.apache.kafka.connect.converters.ByteArrayConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=true
value.converter.schema.content={schema}
offset.storage.file.filename=offsets
listeners=http://127.0.0.1:{port}
connector.client.config.override.policy=All
plugin.discovery=only_scan
"""

# The sink is fastest with large batches that the driver rewrites into one statement.
SINK = """\
name={name}
connector.class=io.debezium.connector.jdbc.JdbcSinkConnector
tasks.max=1
topics={topic}
connection.url=jdbc:postgresql://{database}?reWriteBatchedInserts=true
connection.username={user}
connection.password=none
insert.mode=upsert
primary.key.mode=record_value
primary.key.fields=run_id,stream_id,seq
collection.name.format=steps
schema.evolution=none
batch.size={batch}
consumer.override.auto.offset.reset=earliest
consumer.override.max.poll.records={batch}
consumer.override.fetch.min.bytes=1048576
"""


def jars() -> list[Path]:
    """Return the jars of Kafka Connect and the sink, which Maven fetches once.

    Raises:
        Unmeasured: there is no Maven, or Maven cannot fetch them.
    """
    folder = platformdirs.user_cache_path("stepstream") / "connect"
    if not folder.exists():
        if (maven := shutil.which("mvn")) is None:
            raise Unmeasured("Debezium's jars are fetched by Maven, and there is none")
        fetched = folder.with_name(f"connect-{uuid.uuid4().hex[:6]}")
        command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise Unmeasured(f"Maven does not get Debezium's jars: {done.stdout[:200]}")
        fetched.rename(folder)
    return sorted(folder.glob("*.jar"))


def schema() -> str:
    """Return Connect's schema of a step, with the partition and the offset that persist adds."""
    fields = [
        {
            "field": field["name"],
            "type": _type(field["type"]),
            "optional": isinstance(field["type"], list),
        }
        | ({"name": "io.debezium.time.MicroTimestamp", "version": 1} if field["name"] == "event_time" else {})
        for field in current_schema(Kind.STEPS)["fields"]
    ]
    fields += [{"field": "topic_partition", "type": "int32"}, {"field": "topic_offset", "type": "int64"}]
    return json.dumps({"type": "struct", "name": "step", "optional": False, "fields": fields})


def _type(avro: object) -> str:
    if isinstance(avro, list):
        return _type(next(branch for branch in avro if branch != "null"))
    if isinstance(avro, dict):
        return _type(avro["type"])
    return _TYPES.get(str(avro), str(avro))


@contextmanager
def sink(folder: Path, kafka: str, topic: str, database: str, batch: int) -> Iterator[None]:
    """Run the sink from the beginning of the topic into the table `steps` of a PostgreSQL."""
    home = folder / f"connect-{uuid.uuid4().hex[:6]}"
    home.mkdir()
    user, _, place = database.rpartition("//")[2].partition("@")
    told = {
        "name": home.name,
        "kafka": kafka,
        "topic": topic,
        "database": place,
        "user": user,
        "batch": batch,
    }
    told |= {"port": free_ports([None])[0], "schema": schema()}
    for file, text in (("worker.properties", WORKER), ("sink.properties", SINK)):
        (home / file).write_text(text.format(**told))
    main = "org.apache.kafka.connect.cli.ConnectStandalone"
    command = java_command(jars(), "1g", main, "worker.properties", "sink.properties")
    command.remove("-XX:TieredStopAtLevel=1")  # this flag makes the start quick and the rate low
    with (home / "log").open("wb") as log:
        running = process.spawn(command, output=log, cwd=home)
    try:
        yield
    finally:
        process.end(running)
