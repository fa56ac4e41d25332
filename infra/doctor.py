"""What `doctor` tries: each address and the home folder; what is wrong there, and what to do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from infra.kafka import client as kafka
from infra.kafka.registry import Registry
from infra.redis import client as redis
from infra.settings import Settings, without_password
from infra.sql import engine as sql
from infra.sql import migrations
from schemas.errors import BrokerError, StepstreamError
from schemas.topics import SPECS

LITTLE_DISK_BYTES = 1024**3
NEEDED = {AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE}


@dataclass(frozen=True)
class Finding:
    """One part of the system: whether it is well, and a sentence for the user."""

    part: str
    ok: bool
    message: str


def examine(settings: Settings) -> list[Finding]:
    """Try every part; one that fails never hides another."""
    parts: dict[str, Callable[[Settings], Iterator[str]]] = {
        "home": _home,
        "kafka": _kafka,
        "registry": _registry,
        "sql": _sql,
        "redis": _redis,
        "dashboard": _dashboard,
    }
    return [_finding(part, check, settings) for part, check in parts.items()]


def _finding(part: str, check: Callable[[Settings], Iterator[str]], settings: Settings) -> Finding:
    try:
        return Finding(part, True, ", ".join(check(settings)))
    except StepstreamError as error:
        return Finding(part, False, str(error))


def _home(settings: Settings) -> Iterator[str]:
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            free = shutil.disk_usage(home).free
    except OSError as error:
        raise StepstreamError(
            f"{home} cannot be written ({error.strerror}): mend its rights, "
            "or set STEPSTREAM_HOME to another folder."
        ) from error
    if free < LITTLE_DISK_BYTES:
        raise StepstreamError(
            f"{home} has only {free // 1024**2} MB free: spools and SQLite need room; free some, "
            "or set STEPSTREAM_HOME to another disk."
        )
    yield f"{home} can be written"
    yield f"{free / 1024**3:.0f} GB free"


def _kafka(settings: Settings) -> Iterator[str]:
    errors: list[KafkaError] = []
    client = kafka.admin(settings, errors)
    names = [spec.name(settings.topic_prefix) for spec in SPECS]
    try:
        cluster = client.list_topics(timeout=kafka.TIMEOUT_S)
        _complain("are missing: run `stepstream topics create`", set(names) - set(cluster.topics))
        partitions = [(name, part) for name in names for part in cluster.topics[name].partitions.values()]
        _complain(
            "have a partition without a leader, and every run of a forwarder waits: see to the brokers",
            {name for name, part in partitions if part.leader < 0},
        )
        _complain("may not be read and written: grant this user READ and WRITE", _forbidden(client, names))
    except KafkaException as error:
        client.poll(0)  # serves the callback that fills `errors`
        raise kafka.translated(error, settings, errors) from error
    yield f"{settings.bootstrap_servers} answers with {len(cluster.brokers)} broker(s)"
    yield f"all {len(names)} topics are there"


def _complain(what: str, names: set[str]) -> None:
    if names:
        raise BrokerError(f"Topics {', '.join(sorted(names))} {what}.")


def _forbidden(client: AdminClient, names: list[str]) -> set[str]:
    """Topics that this user may not both read and write; a cluster without ACLs allows everything."""
    described = client.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=kafka.TIMEOUT_S
    )
    operations: dict[str, Any] = {
        name: future.result().authorized_operations for name, future in described.items()
    }
    return {name for name, allowed in operations.items() if not set(allowed or ()) >= NEEDED}


def _registry(settings: Settings) -> Iterator[str]:
    if not settings.schema_registry_url:
        yield "none set: schema ids come from the checked-in table"
        return
    subjects = Registry(settings).check()
    yield f"{settings.schema_registry_url} answers with {len(subjects)} subject(s)"


def _sql(settings: Settings) -> Iterator[str]:
    migrations.check(sql.engine(settings))
    yield f"{sql.url(settings).render_as_string(hide_password=True)} answers"
    yield f"its tables are of revision {migrations.head()}, this version's"


def _redis(settings: Settings) -> Iterator[str]:
    version = redis.check(settings)
    yield f"{without_password(settings.redis_url)} answers, version {version}"


def _dashboard(settings: Settings) -> Iterator[str]:
    guarded = bool(settings.dashboard_token or settings.dashboard_user_header)
    if settings.dashboard_host not in ("127.0.0.1", "localhost", "::1") and not guarded:
        raise StepstreamError(
            f"STEPSTREAM_DASHBOARD_HOST is {settings.dashboard_host}, so others can reach the page: set "
            "STEPSTREAM_DASHBOARD_TOKEN, or STEPSTREAM_DASHBOARD_USER_HEADER behind a reverse proxy."
        )
    yield f"binds to {settings.dashboard_host}:{settings.dashboard_port}"
    yield "with a login" if guarded else "loopback only"
