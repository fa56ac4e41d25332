"""Kafka's errors as sentences: what is wrong, and which setting, right or name to look at.

librdkafka reports the cause of a time-out to a callback only, so callers collect those errors and pass them
on. It never reports why a certificate was not accepted: a TLS handshake of our own finds out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException

from infra.kafka import tls
from infra.settings import Settings
from schemas.errors import BrokerError

_LOGIN = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
EXPLAINED = (*_LOGIN, KafkaError._SSL)
"""Errors that are clear by themselves and that retries do not change."""
_UNREACHED = (KafkaError._TRANSPORT, KafkaError._RESOLVE)
OUTAGES = (*EXPLAINED, *_UNREACHED, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT)
"""No broker answers now."""
REFUSALS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
"""The user lacks a right."""

_OF_A_USER = (
    "STEPSTREAM_KAFKA_SASL_USERNAME, STEPSTREAM_KAFKA_SASL_PASSWORD and STEPSTREAM_KAFKA_SASL_MECHANISM"
)
_OF_A_CLIENT = (
    "STEPSTREAM_KAFKA_SASL_OAUTHBEARER_CLIENT_ID and STEPSTREAM_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"
)

_PLACE = re.compile(r"^\w+://([^/]+)/\S+: ")
_MOMENT = re.compile(r" \(after \d+ms in state \w+[^)]*\)$")


def kafka_error(error: KafkaException) -> KafkaError:
    """The error inside an exception of the client."""
    inner = error.args[0]
    return inner if isinstance(inner, KafkaError) else KafkaError(KafkaError._FAIL, str(inner))


def translated(
    error: KafkaException, settings: Settings, errors: Iterable[KafkaError] = (), right: str = ""
) -> BrokerError:
    """Kafka's error as a sentence for the user.

    Args:
        error: what was raised.
        settings: addresses, and who we are.
        errors: what the client's callback reported meanwhile; it explains a time-out.
        right: the operation, such as `READ topic telemetry.steps`.
    """
    inner = kafka_error(error)
    where = settings.bootstrap_servers
    if inner.code() in REFUSALS:
        wanted = right or inner.str().rstrip(".")
        return BrokerError(f"Kafka at {where} does not allow {who(settings)} to {wanted}: grant that right.")
    if inner.code() not in OUTAGES:
        about = f" {right}" if right else ""
        return BrokerError(f"Kafka at {where} refused{about}: {_words(inner)}")
    return BrokerError(_outage(max([*reversed([*errors]), inner], key=_telling), settings))


def _outage(error: KafkaError, settings: Settings) -> str:
    found = _PLACE.match(error.str())
    where = found[1] if found else settings.bootstrap_servers
    words = _words(error)
    if error.code() in _LOGIN:
        names = _OF_A_CLIENT if "sasl.oauthbearer.client.id" in settings.kafka else _OF_A_USER
        return f"Kafka at {where} refused the login of {who(settings)} ({words}): check {names}."
    if reason := tls.explained(settings, where, words):
        return reason
    return f"No Kafka broker answers at {where} ({words}): is it running, and is the address right?"


def who(settings: Settings) -> str:
    """The user that Kafka sees."""
    kafka = settings.kafka
    if user := kafka.get("sasl.username") or kafka.get("sasl.oauthbearer.client.id"):
        return f"user {user}"
    if certificate := kafka.get("ssl.certificate.location"):
        return f"the owner of certificate {certificate}"
    return "a user without a login"


def _telling(error: KafkaError) -> int:
    """How well an error explains a failure: higher is better."""
    if error.code() in EXPLAINED:
        return 3
    if error.code() in _UNREACHED:
        return 2 if _PLACE.match(error.str()) else 1
    return 0


def _words(error: KafkaError) -> str:
    return _MOMENT.sub("", _PLACE.sub("", error.str()))
