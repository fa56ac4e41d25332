"""Kafka clients with stepstream's settings, and the translation of their errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata

from infra.kafka.errors import EXPLAINED, OUTAGES, kafka_error, translated
from infra.settings import Settings
from schemas.errors import UsageError
from schemas.topics import MAX_RECORD_BYTES

TIMEOUT_S = 6.0
"""How long a request may take: users get an answer within ten seconds."""
TRY_S = 1.0

T = TypeVar("T")


def client_config(settings: Settings, **properties: Any) -> dict[str, Any]:
    """librdkafka's settings: ours, overridden by those that the user passes through.

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
        "log_level": 2,  # no log line for each failed attempt to connect: callers get the errors
        "socket.keepalive.enable": True,
        **properties,
        **settings.kafka,
    }


def producer(settings: Settings, **properties: Any) -> Producer:
    """An idempotent producer that waits for all replicas and never drops a record.

    `message.timeout.ms=0` is required: a record that timed out may be stored nevertheless, and the records
    behind it succeed, so order would be lost.
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
    """A consumer of a service's group. It commits nothing by itself and starts at the beginning."""
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
                # By default a full queue stops fetching for a second: at most 40,000 records/s.
                "fetch.queue.backoff.ms": 10,
                **properties,
            },
        ),
    )


def admin(settings: Settings, errors: list[KafkaError] | None = None) -> AdminClient:
    """An admin client; when it is polled, it appends the causes of time-outs to `errors`."""
    extra = {} if errors is None else {"error_cb": errors.append}
    return _made(AdminClient, client_config(settings, **extra))


def _made(client: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
    """A client of librdkafka.

    Raises:
        UsageError: a property is unknown or wrong, or names a file that cannot be used.
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
    """An admin client and the errors of its callback; `asking` makes it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.errors: list[KafkaError] = []
        self.client = admin(settings, self.errors)

    def close(self) -> None:
        """End the client now. The garbage collector may run in the client's own thread, where that aborts."""
        self.client.__exit__(None, None, None)  # type: ignore[attr-defined]  # not in its types yet

    @contextmanager
    def about(self, right: str) -> Iterator[None]:
        """Translates errors; the sentence names the operation, such as `CREATE topic telemetry.steps`.

        Raises:
            BrokerError: no broker answers, or it refuses.
        """
        try:
            yield
        except KafkaException as error:
            self.client.poll(0)  # serves the callback
            raise translated(error, self._settings, self.errors, right) from error

    def metadata(self, seconds: float = TIMEOUT_S) -> ClusterMetadata:
        """Brokers and topics. A refused login fails at once; librdkafka would retry it."""
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
        right: the operation, such as `CREATE topics`.

    Raises:
        BrokerError: no broker answers, or it refuses.
    """
    question = Question(settings)
    with closing(question), question.about(right):
        yield question


def answer(future: Future[Any]) -> Any:
    """The result of an admin client's request.

    Raises:
        KafkaException: Kafka refuses, or does not answer in time.
    """
    try:
        return future.result(TIMEOUT_S)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
