"""Kafka clients as stepstream needs them, and the translation of their errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata

from infra.kafka.errors import EXPLAINED, OUTAGES, kafka_error, translated
from infra.settings import Settings
from schemas.errors import UsageError
from schemas.topics import MAX_RECORD_BYTES

TIMEOUT_S = 6.0
"""How long a question may take: whoever asks is to read a sentence within ten seconds."""
TRY_S = 1.0

T = TypeVar("T")


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
    return _made(
        Producer,
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
        ),
    )


def consumer(settings: Settings, service: str, **properties: Any) -> Consumer:
    """A consumer of a service's group. It commits nothing by itself and begins at the beginning."""
    return _made(
        Consumer,
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
                **properties,
            },
        ),
    )


def admin(settings: Settings, errors: list[KafkaError] | None = None) -> AdminClient:
    """An admin client; what goes wrong behind a time-out is appended to `errors` when it is polled."""
    extra = {} if errors is None else {"error_cb": errors.append}
    return _made(AdminClient, client_config(settings, **extra))


def _made(client: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
    """A client of librdkafka.

    Raises:
        UsageError: a property is unknown or wrong, or a file that one names cannot be used.
    """
    try:
        return client(config)
    except (KafkaException, ValueError, TypeError) as error:
        words = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
        raise UsageError(
            f"Kafka's client cannot be made ({words.strip().rstrip('.')}): "
            "check STEPSTREAM_KAFKA_* and [kafka]."
        ) from error


class Question:
    """An admin client, and what its callback said: a question to Kafka, made by `asking`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.errors: list[KafkaError] = []
        self.client = admin(settings, self.errors)

    @contextmanager
    def about(self, right: str) -> Iterator[None]:
        """Inside, an error is a sentence about what is attempted, such as `CREATE topic telemetry.steps`.

        Raises:
            BrokerError: no broker answers, or it refuses.
        """
        try:
            yield
        except KafkaException as error:
            self.client.poll(0)  # serves the callback
            raise translated(error, self._settings, self.errors, right) from error

    def metadata(self, seconds: float = TIMEOUT_S) -> ClusterMetadata:
        """Brokers and topics. A refused login ends it at once: librdkafka would try it to the end."""
        until = time.monotonic() + seconds
        while True:
            try:
                return self.client.list_topics(timeout=min(TRY_S, seconds))
            except KafkaException as error:
                self.client.poll(0)  # serves the callback
                explained = any(said.code() in EXPLAINED for said in self.errors)
                outage = kafka_error(error).code() in OUTAGES
                if not outage or explained or time.monotonic() + TRY_S > until:
                    raise


@contextmanager
def asking(settings: Settings, right: str = "") -> Iterator[Question]:
    """Questions of an admin client.

    Args:
        right: what is attempted, such as `CREATE topics`.

    Raises:
        BrokerError: no broker answers, or it refuses.
    """
    question = Question(settings)
    with question.about(right):
        yield question


def answer(future: Future[Any]) -> Any:
    """What an admin client was asked for.

    Raises:
        KafkaException: Kafka refuses, or does not answer in time.
    """
    try:
        return future.result(TIMEOUT_S)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
