"""Logs why a consumer gets no records: Kafka is away or refuses, a topic is missing, no partition is left."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from infra.kafka import errors
from infra.metrics import NOT_YET
from infra.settings import Settings

SAY_EVERY_S = 10.0
QUIET_S = 5.0
"""A consumer without a partition waits this long before it looks for the reason."""
ANSWER_S = 2.0

log = structlog.get_logger(part="kafka")


class Watch:
    """Why one consumer waits. `heard` is its `error_cb`."""

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        self._settings = settings
        self._topics = topics
        self._errors: list[KafkaError] = []
        self._said_at = -SAY_EVERY_S
        self._look_at = time.monotonic() + QUIET_S
        self.reason = NOT_YET
        """Why there is nothing to read; empty: no fault is known."""

    def heard(self, error: KafkaError) -> None:
        """Called by the client with an error; logs an outage once all brokers are down."""
        if error.code() not in errors.OUTAGES:
            return
        self._errors = [*self._errors[-9:], error]
        if error.code() == KafkaError._ALL_BROKERS_DOWN or self.reason not in ("", NOT_YET):
            self._say(str(errors.translated(KafkaException(error), self._settings, self._errors)))

    def reads(self) -> None:
        """Called when the consumer has partitions or got records."""
        self._look_at = time.monotonic() + QUIET_S
        if self.reason:
            if self.reason != NOT_YET:
                log.info("Kafka answers again")
            self.reason, self._errors, self._said_at = "", [], -SAY_EVERY_S

    def idle(self, consumer: Consumer) -> None:
        """Called when the consumer has no partition."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + SAY_EVERY_S
        try:
            self._say(self._missing(consumer) or "every partition is another process' of this group")
        except KafkaException as error:
            self._say(str(errors.translated(error, self._settings, self._errors)))

    def _missing(self, consumer: Consumer) -> str:
        for name in self._topics:
            topic = consumer.list_topics(name, timeout=ANSWER_S).topics[name]
            if topic.error is None:
                continue
            if topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return (
                    f"Kafka has no topic {name}: run `stepstream topics create`, or is "
                    "STEPSTREAM_TOPIC_PREFIX another one?"
                )
            error = KafkaException(topic.error)
            return str(errors.translated(error, self._settings, self._errors, f"READ topic {name}"))
        return ""

    def _say(self, reason: str) -> None:
        self.reason = reason
        if time.monotonic() - self._said_at >= SAY_EVERY_S:
            self._said_at = time.monotonic()
            log.warning("waiting", reason=reason)
