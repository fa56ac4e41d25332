"""Kafka clients as stepstream needs them, and the translation of their errors."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from infra.settings import Settings
from schemas.errors import BrokerError, UsageError
from schemas.topics import LARGE, MAX_RECORD_BYTES, SPECS, TopicSpec

TIMEOUT_S = 10.0


def client_config(settings: Settings, **properties: Any) -> dict[str, Any]:
    """librdkafka's settings: ours, then what the user passes through, which wins.

    Raises:
        UsageError: no address of a broker is known.
    """
    if not settings.bootstrap_servers:
        raise UsageError(
            "No Kafka is known: start the local stack with `stepstream up`, "
            "or set STEPSTREAM_BOOTSTRAP_SERVERS to your cluster's host:port."
        )
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "stepstream",
        "log_level": 2,  # a line for each vain attempt to connect helps nobody: errors come to the callers
        "socket.keepalive.enable": True,
        **properties,
        **settings.kafka,
    }


def producer(settings: Settings, **properties: Any) -> Producer:
    """An idempotent producer that waits for every replica and never gives a record up.

    `message.timeout.ms=0` is not a choice: a record that timed out may be stored all the same, and
    those behind it succeed, so order and contiguity would be gone.
    """
    return Producer(
        client_config(
            settings,
            **{
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 1,
                "message.max.bytes": MAX_RECORD_BYTES,
                **properties,
            },
        )
    )


def consumer(settings: Settings, service: str, **properties: Any) -> Consumer:
    """A consumer of a service's group. It commits nothing by itself and begins at the beginning."""
    protocol: dict[str, Any] = {"group.protocol": settings.group_protocol}
    if settings.group_protocol == "classic":
        protocol["partition.assignment.strategy"] = "cooperative-sticky"
    return Consumer(
        client_config(
            settings,
            **{
                "group.id": settings.group(service),
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "topic.metadata.refresh.interval.ms": 5000,
                "fetch.wait.max.ms": 50,
                # A full queue pauses fetching for a second by default: that holds a group at 40,000/s.
                "fetch.queue.backoff.ms": 10,
                **protocol,
                **properties,
            },
        )
    )


def admin(settings: Settings, errors: list[KafkaError] | None = None) -> AdminClient:
    """An admin client; what goes wrong behind a time-out is appended to `errors` when it is polled."""
    extra = {} if errors is None else {"error_cb": errors.append}
    return AdminClient(client_config(settings, **extra))


@dataclass(frozen=True)
class TopicState:
    """What `ensure_topics` found or did: `created`, `present`, and settings that differ from ours."""

    name: str
    created: bool
    partitions: int
    differs: dict[str, tuple[str, str]]


def ensure_topics(settings: Settings, specs: Iterable[TopicSpec] = SPECS) -> list[TopicState]:
    """Create what is missing; leave what is there as it is, and say where it differs.

    Raises:
        BrokerError: no broker answers, or it refuses.
    """
    errors: list[KafkaError] = []
    client = admin(settings, errors)
    wanted = {spec.name(settings.topic_prefix): spec for spec in specs}
    try:
        present = client.list_topics(timeout=TIMEOUT_S).topics
        missing = [name for name in wanted if name not in present]
        new = [
            NewTopic(name, settings.partitions, settings.replication_factor or -1, config=wanted[name].config)
            for name in missing
        ]
        created = set(missing)
        for name, future in (client.create_topics(new) if new else {}).items():
            try:
                answer(future)
            except KafkaException as error:
                if kafka_error(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                created.discard(name)
        return [
            TopicState(
                name,
                name in created,
                len(present[name].partitions) if name in present else settings.partitions,
                {} if name in created else _differences(client, name, spec),
            )
            for name, spec in wanted.items()
        ]
    except KafkaException as error:
        client.poll(0)  # serves the callback that fills `errors`
        raise translated(error, settings, errors) from error


def answer(future: Future[Any]) -> Any:
    """What an admin client was asked for.

    Raises:
        KafkaException: Kafka refuses, or does not answer in time.
    """
    try:
        return future.result(TIMEOUT_S)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None


def ensure_topic(settings: Settings, name: str) -> None:
    """Create one topic that is none of ours, with the settings of ours, where it is missing.

    Raises:
        BrokerError: no broker answers, or it refuses.
    """
    errors: list[KafkaError] = []
    client = admin(settings, errors)
    new = NewTopic(name, settings.partitions, settings.replication_factor or -1, config=LARGE)
    try:
        answer(client.create_topics([new])[name])
    except KafkaException as error:
        if kafka_error(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
            client.poll(0)
            raise translated(error, settings, errors) from error


def _differences(client: AdminClient, name: str, spec: TopicSpec) -> dict[str, tuple[str, str]]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    found = answer(client.describe_configs([resource])[resource])
    return {
        key: (found[key].value, value)
        for key, value in spec.config.items()
        if key in found and found[key].value != value
    }


def kafka_error(error: KafkaException) -> KafkaError:
    """The error inside an exception of the client."""
    inner = error.args[0]
    return inner if isinstance(inner, KafkaError) else KafkaError(KafkaError._FAIL, str(inner))


_LOGIN = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL)


def translated(error: KafkaException, settings: Settings, errors: Iterable[KafkaError] = ()) -> BrokerError:
    """Kafka's error as a sentence for the user; a refused login among `errors` explains a time-out."""
    inner = next((e for e in errors if e.code() in _LOGIN), kafka_error(error))
    where = settings.bootstrap_servers
    if inner.code() in (
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
    ):
        return BrokerError(
            f"No Kafka broker answers at {where} ({inner.str()}): is it running, and is the address right?"
        )
    if inner.code() in _LOGIN:
        return BrokerError(
            f"Kafka at {where} refused the login ({inner.str()}): check STEPSTREAM_KAFKA_SASL_*/SSL_*."
        )
    return BrokerError(f"Kafka at {where} refused: {inner.str()}")
