"""Redis clients, and the translation of their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    MovedError,
    RedisClusterException,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from stepstream._masking import masked_url

from infra.settings import Settings
from schemas.errors import LiveBufferError, UsageError

VIEWERS = 5000
"""Connections for pages that wait at once, in one process."""
_TLS = {
    "certificate has expired": "its certificate has expired",
    "IP address mismatch": "its certificate is for another host name",
    "Hostname mismatch": "its certificate is for another host name",
    "certificate verify failed": "ssl_ca_certs in STEPSTREAM_REDIS_URL does not know its authority",
    "certificate required": "it asks for a client certificate: ssl_certfile and ssl_keyfile in its URL",
    "CERTIFICATE_REQUIRED": "it asks for a client certificate: ssl_certfile and ssl_keyfile in its URL",
    "UNKNOWN_CA": "it does not trust the authority of our client certificate",
}
"""Part of what the TLS library says → what it means."""
_NO_CLUSTER = "Cluster mode is not enabled"
ANY_ERROR = (redis.RedisError, RedisClusterException)
UNREACHABLE = (RedisConnectionError, RedisTimeoutError, RedisClusterException)
"""What Redis' client raises while the server is away; a later try may succeed."""


def client(settings: Settings) -> Any:
    """A synchronous client that returns bytes. That of a cluster connects at once.

    Raises:
        ANY_ERROR: no node of the cluster answers.
    """
    made = RedisCluster if settings.redis_cluster else redis.Redis
    return made.from_url(url_of(settings), socket_timeout=5, retry=_retry())


def async_client(settings: Settings) -> Any:
    """An asynchronous client that returns bytes. Each waiting page holds a connection."""
    made = redis.asyncio.RedisCluster if settings.redis_cluster else redis.asyncio.Redis
    return made.from_url(url_of(settings), socket_timeout=10, max_connections=VIEWERS)


def check(settings: Settings) -> str:
    """The server's version.

    Raises:
        LiveBufferError: it does not answer.
    """
    with errors_translated(settings):
        info = client(settings).info("server")
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")) and not settings.redis_cluster:
        raise LiveBufferError(_other_kind(settings))
    return str(info.get("valkey_version") or info["redis_version"])


@contextmanager
def errors_translated(settings: Settings) -> Iterator[None]:
    """Translates Redis' errors into ours.

    Raises:
        LiveBufferError: it does not answer, or refuses.
    """
    try:
        yield
    except ANY_ERROR as error:
        raise LiveBufferError(sentence(error, settings)) from error


def sentence(error: Exception, settings: Settings) -> str:
    """What Redis said, where, and what to do."""
    where, words = masked_url(settings.redis_url), str(error)
    if isinstance(error, (MovedError, ClusterCrossSlotError)) or _NO_CLUSTER in words:
        return _other_kind(settings)
    if isinstance(error, AuthenticationError):
        return (
            f"Redis at {where} refused the login ({words}): check user and password in STEPSTREAM_REDIS_URL."
        )
    if "permission" in words:
        return f"Redis at {where} refused: {words}: grant its user that right by ACL SETUSER."
    if hint := next((hint for part, hint in _TLS.items() if part in words), ""):
        return f"Redis at {where} fails the TLS handshake ({words}): {hint}."
    if isinstance(error, UNREACHABLE):
        tls = ", and does it speak TLS there" if where.startswith("rediss:") else ""
        return f"Redis at {where} does not answer ({words}): is the address right{tls}?"
    return f"Redis at {where} refused: {words}"


def _other_kind(settings: Settings) -> str:
    """It is a cluster, or none, against the setting."""
    where = masked_url(settings.redis_url)
    if settings.redis_cluster:
        return f"Redis at {where} is no Redis Cluster: leave STEPSTREAM_REDIS_CLUSTER out."
    return f"Redis at {where} is a node of a Redis Cluster: set STEPSTREAM_REDIS_CLUSTER=true."


def url_of(settings: Settings) -> str:
    """The address of Redis.

    Raises:
        UsageError: it is not set, or the prefix of keys has no hash tag for a Redis Cluster.
    """
    if not settings.redis_url:
        raise UsageError(
            "No Redis is known: start the local stack with `stepstream up`, or set STEPSTREAM_REDIS_URL, "
            "such as redis://host:6379/0."
        )
    if settings.redis_cluster and not re.search(r"\{[^}]+\}", settings.redis_prefix):
        raise UsageError(
            "STEPSTREAM_REDIS_PREFIX has no hash tag, by which a Redis Cluster keeps our keys together: "
            f"set it to {{{settings.redis_prefix.rstrip(':')}}}:, for example."
        )
    return settings.redis_url


def _retry() -> Retry:
    # Three quick tries: the service's own loop waits longer, and logs it.
    return Retry(ExponentialBackoff(cap=0.5, base=0.05), 3)
