"""Schemas in a real, Confluent-compatible registry, read back by Apache's own Avro library."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import pytest
import structlog
from confluent_kafka.schema_registry import Schema as RegisteredSchema
from confluent_kafka.schema_registry import SchemaRegistryClient

from infra.embedded.ports import free_ports
from infra.kafka.registry import COMPATIBILITY, Registry, subject_of
from infra.settings import Settings, load
from schemas.codec import Decoder, Encoder, current_id, current_schema, current_version, schema_text
from schemas.errors import RegistryError, SchemaError, UsageError
from schemas.topics import Kind
from tests.support import containers, gate
from tests.support.quoted import quoted

pytestmark = pytest.mark.docker
SAID = quoted("security/registry")

LOG = {
    "run_id": "r1",
    "stream_id": "s1",
    "seq": 7,
    "agent_id": "default",
    "worker_id": None,
    "event_time": 1_800_000_000_000_000,
    "source": "stdout",
    "line": "größer",
}


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    """Address of a registry's Confluent API."""
    with containers.registry() as container:
        yield f"http://{containers.address(container, 8080)}{containers.REGISTRY_API}"


@pytest.fixture
def settings(registry_url: str, home: Any, request: pytest.FixtureRequest) -> Settings:
    """Settings with the registry, and subjects that no other test sees."""
    return replace(load(), schema_registry_url=registry_url, topic_prefix=f"{request.node.name}.")


@pytest.fixture
def client(registry_url: str) -> SchemaRegistryClient:
    """A stock client of the registry."""
    return SchemaRegistryClient({"url": registry_url, "timeout": 10})


def subject(settings: Settings, kind: Kind) -> str:
    """A kind's subject."""
    return subject_of(kind, settings.topic_prefix)


@pytest.mark.parametrize("kind", list(Kind))
def test_each_schema_is_registered_under_its_topic(
    settings: Settings, client: SchemaRegistryClient, kind: Kind
) -> None:
    """Each schema is registered once, as `<topic>-value` and BACKWARD_TRANSITIVE, and keeps its id."""
    number = Registry(settings).id_to_write(kind)
    assert number == Registry(settings).id_to_write(kind)
    name = f"{settings.topic_prefix}{kind.value}-value"
    assert client.get_compatibility(name) == COMPATIBILITY == "BACKWARD_TRANSITIVE"
    assert client.get_versions(name) == [1]
    latest = client.get_latest_version(name)
    assert latest.schema_id == number
    assert json.loads(latest.schema.schema_str or "") == current_schema(kind)


def test_a_stock_consumer_of_another_make_reads_what_was_written(
    settings: Settings, client: SchemaRegistryClient
) -> None:
    """Apache Avro reads a record by the schema that the registry has for the id in its bytes."""
    value = Encoder(Kind.LOGS, Registry(settings).id_to_write(Kind.LOGS))(LOG)
    magic, number = struct.unpack(">bI", value[:5])
    schema = avro.schema.parse(client.get_schema(number).schema_str or "")
    record: Any = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(value[5:])))
    assert magic == 0
    assert (record["run_id"], record["seq"], record["line"]) == ("r1", 7, "größer")


def test_a_schema_is_found_by_its_id(settings: Settings) -> None:
    """A reader asks the registry once for each id; records from before the registry are read, too."""
    number = Registry(settings).id_to_write(Kind.LOGS)
    assert number != current_id(Kind.LOGS)
    decode = Decoder(Kind.LOGS, Registry(settings).schema)
    assert decode(Encoder(Kind.LOGS, number)(LOG)) == LOG
    assert decode(Encoder(Kind.LOGS)(LOG)) == LOG


def test_a_newer_compatible_schema_is_read(settings: Settings, client: SchemaRegistryClient) -> None:
    """Records of a later stepstream, whose schema adds a field with a default, can be read."""
    Registry(settings).id_to_write(Kind.LOGS)
    newer = current_schema(Kind.LOGS)
    newer["fields"].append({"name": "level", "type": ["null", "string"], "default": None})
    number = client.register_schema(subject(settings, Kind.LOGS), RegisteredSchema(json.dumps(newer), "AVRO"))
    body = io.BytesIO()
    writer = avro.io.DatumWriter(avro.schema.parse(json.dumps(newer)))
    moment = load_time(LOG["event_time"])
    writer.write(LOG | {"event_time": moment, "level": "warn"}, avro.io.BinaryEncoder(body))
    value = struct.pack(">bI", 0, number) + body.getvalue()
    assert Decoder(Kind.LOGS, Registry(settings).schema)(value) == LOG


def load_time(micros: Any) -> Any:
    """Microseconds since 1970 as the time that Apache Avro takes."""
    from datetime import UTC, datetime, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def test_an_incompatible_schema_of_somebody_else_is_named(
    settings: Settings, client: SchemaRegistryClient
) -> None:
    """The error says that another program has taken the subject, as writing would break its readers."""
    other = {"type": "record", "name": "Other", "fields": [{"name": "x", "type": "int"}]}
    client.register_schema(subject(settings, Kind.LOGS), RegisteredSchema(json.dumps(other), "AVRO"))
    with pytest.raises(RegistryError, match=SAID["another program has taken the subject"]):
        Registry(settings).id_to_write(Kind.LOGS)


def test_without_auto_register_schemas_are_only_looked_up(
    settings: Settings, client: SchemaRegistryClient
) -> None:
    """Until an operator has registered a schema, the error names the subject and the setting."""
    settings = replace(settings, schema_registry_auto_register=False)
    name = subject(settings, Kind.LOGS)
    cause = "the schema is not registered, and `AUTO_REGISTER` is off"
    with pytest.raises(RegistryError, match=SAID[cause]) as said:
        Registry(settings).id_to_write(Kind.LOGS)
    assert name in str(said.value)
    assert name not in client.get_subjects()
    text = schema_text(current_version(Kind.LOGS))
    number = client.register_schema(name, RegisteredSchema(text, "AVRO"))
    assert Registry(settings).id_to_write(Kind.LOGS) == number


def test_an_unknown_id_is_a_schema_error(settings: Settings) -> None:
    """An id that the registry does not know is an error at once, so its record becomes a dead letter."""
    with pytest.raises(SchemaError, match=SAID["the id is unknown"]):
        Registry(settings).schema(4_242_424)


def test_a_registry_that_comes_later_is_waited_for(settings: Settings) -> None:
    """A registry that is away at the start is retried, and the log says why; then the id is found."""
    [port] = free_ports([None])
    away = replace(settings, schema_registry_url=f"http://127.0.0.1:{port}{containers.REGISTRY_API}")
    with structlog.testing.capture_logs() as logs:
        found: list[int] = []
        asks = threading.Thread(
            target=lambda: found.append(Registry(away, threading.Event()).id_to_write(Kind.LOGS))
        )
        asks.start()
        wait_until(lambda: bool(logs))
        with containers.registry(port):
            asks.join(30)
            assert found == [Registry(away).id_to_write(Kind.LOGS)]
    assert logs[0]["event"] == "schema registry is away"
    assert "Connection refused" in logs[0]["reason"]


def wait_until(true: Callable[[], bool]) -> None:
    """Wait, at most 30 s."""
    until = time.monotonic() + 30
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    assert true()


def test_while_nobody_answers_a_stop_ends_the_wait(settings: Settings) -> None:
    """A stop ends the wait for a registry with an error that says why the registry is away."""
    [port] = free_ports([None])
    away = replace(settings, schema_registry_url=f"http://127.0.0.1:{port}")
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    with pytest.raises(RegistryError, match=SAID["no registry listens there"]):
        Registry(away, stop).id_to_write(Kind.LOGS)


def test_wrong_settings_are_a_sentence(settings: Settings) -> None:
    """A missing CA file and an address that is no URL are each refused with a sentence."""
    sentence = SAID["the CA file is missing, or the URL is none"]
    with pytest.raises(UsageError, match=sentence):
        Registry(replace(settings, schema_registry_ca="/nowhere/ca.pem"))
    with pytest.raises(UsageError, match=sentence):
        Registry(replace(settings, schema_registry_url="registry:8081"))


def test_a_registry_behind_tls_and_a_login(settings: Settings, registry_url: str, tmp_path: Path) -> None:
    """With certificate, CA and login in the settings a registry answers; an error names what is wrong."""
    server, client = gate.certificate(tmp_path, "server"), gate.certificate(tmp_path, "client")
    target = registry_url.removesuffix(containers.REGISTRY_API)
    with gate.guarded(target, server, client[0], "worker", "pass:word") as address:
        behind = replace(
            settings,
            schema_registry_url=address + containers.REGISTRY_API,
            schema_registry_user="worker",
            schema_registry_password="pass:word",
            schema_registry_ca=str(server[0]),
            schema_registry_certificate=str(client[0]),
            schema_registry_key=str(client[1]),
        )
        number = Registry(behind).id_to_write(Kind.LOGS)
        assert number == Registry(settings).id_to_write(Kind.LOGS)
        assert Registry(behind).schema(number) == current_schema(Kind.LOGS)
        wrong = replace(behind, schema_registry_password="guessed")
        with pytest.raises(RegistryError, match=SAID["the password is wrong, or a right is missing"]):
            Registry(wrong).id_to_write(Kind.LOGS)
        stranger = replace(behind, schema_registry_ca="")
        with pytest.raises(RegistryError, match=SAID["its certificate is of another authority"]) as said:
            Registry(stranger).id_to_write(Kind.LOGS)
        assert "certificate" in str(said.value).lower()
