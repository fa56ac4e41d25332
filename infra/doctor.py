"""Checks of `doctor`: each address and the home folder; what is wrong, and what to do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import TopicCollection
from stepstream._masking import masked_url

from infra.kafka import client as kafka
from infra.kafka.errors import who
from infra.kafka.registry import Registry
from infra.redis import client as redis
from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql import migrations
from schemas.errors import BrokerError, DatabaseError, StepstreamError
from schemas.rights import READ, RIGHTS, WRITE, Rights
from schemas.topics import Kind

LITTLE_DISK_BYTES = 1024**3
EVERYTHING = Rights(
    ("home", "kafka", "registry", "sql", "redis", "dashboard"), dict.fromkeys(Kind, READ | WRITE)
)
"""The rights that are checked where no service is named."""


@dataclass(frozen=True)
class Finding:
    """The check of one part of the system: whether it passed, and a sentence for the user."""

    part: str
    ok: bool
    message: str


Check = Callable[[Settings, Rights], Iterator[str]]


def examine(settings: Settings, service: str = "") -> list[Finding]:
    """Check every part that a service uses; a failure does not stop the other checks.

    Args:
        settings: addresses.
        service: one of `RIGHTS`; empty: all parts, and the rights that all services have together.
    """
    needs = RIGHTS.get(service, EVERYTHING)
    checks: dict[str, Check] = {
        "home": _home,
        "kafka": _kafka,
        "registry": _registry,
        "sql": _sql,
        "redis": _redis,
        "dashboard": _dashboard,
    }
    return [_finding(part, checks[part], settings, needs) for part in checks if part in needs.parts]


def _finding(part: str, check: Check, settings: Settings, needs: Rights) -> Finding:
    try:
        return Finding(part, True, ", ".join(check(settings, needs)))
    except StepstreamError as error:
        return Finding(part, False, str(error))


def _home(settings: Settings, _needs: Rights) -> Iterator[str]:
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


def _kafka(settings: Settings, needs: Rights) -> Iterator[str]:
    topics = {kind.topic(settings.topic_prefix): operations for kind, operations in needs.topics.items()}
    with kafka.asking(settings, "DESCRIBE topics") as question:
        cluster = question.metadata()
        _complain("are missing: run `stepstream topics create`", set(topics) - set(cluster.topics))
        partitions = [(name, part) for name in topics for part in cluster.topics[name].partitions.values()]
        _complain(
            "have a partition without a leader, and every run of a forwarder waits: see to the brokers",
            {name for name, part in partitions if part.leader < 0},
        )
        _complain_of_rights(question, settings, topics)
    yield f"{settings.bootstrap_servers} answers with {len(cluster.brokers)} broker(s)"
    yield f"all {len(topics)} topics are there"


def _complain(what: str, names: set[str]) -> None:
    if names:
        raise BrokerError(f"Topics {', '.join(sorted(names))} {what}.")


def _complain_of_rights(
    question: kafka.Question, settings: Settings, topics: Mapping[str, frozenset[str]]
) -> None:
    """The rights that the user lacks; a cluster without ACLs grants all."""
    described = question.client.describe_topics(
        TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=kafka.TIMEOUT_S
    )
    missing: dict[str, set[str]] = {}
    for name, future in described.items():
        allowed = {operation.name for operation in kafka.answer(future).authorized_operations or ()}
        if lacking := topics[name] - allowed:
            missing[name] = set(lacking)
    if missing:
        wanted = " and ".join(sorted(set().union(*(topics[name] for name in missing))))
        told = ", ".join(f"{' and '.join(sorted(missing[name]))} topic {name}" for name in sorted(missing))
        raise BrokerError(f"Kafka does not allow {who(settings)} to {told}: grant this user {wanted}.")


def _registry(settings: Settings, _needs: Rights) -> Iterator[str]:
    if not settings.schema_registry_url:
        yield "none set: schema ids come from the checked-in table"
        return
    subjects = Registry(settings).check()
    yield f"{masked_url(settings.schema_registry_url)} answers with {len(subjects)} subject(s)"


def _sql(settings: Settings, needs: Rights) -> Iterator[str]:
    engine = sql.engine(settings)
    try:
        migrations.check(engine)
        lacking = sql.lacking(engine, needs.tables, temporary=needs.temporary)
    finally:
        engine.dispose()  # the page of health asks again and again
    if lacking:
        raise DatabaseError(f"The database does not allow this user {lacking}: grant it.")
    yield f"{masked_url(str(sql.url(settings)))} answers"
    yield f"its tables are of revision {migrations.head()}, this version's"


def _redis(settings: Settings, _needs: Rights) -> Iterator[str]:
    version = redis.check(settings)
    yield f"{masked_url(settings.redis_url)} answers, version {version}"


def _dashboard(settings: Settings, _needs: Rights) -> Iterator[str]:
    guarded = bool(settings.dashboard_token or settings.dashboard_user_header)
    if settings.dashboard_host not in ("127.0.0.1", "localhost", "::1") and not guarded:
        raise StepstreamError(
            f"STEPSTREAM_DASHBOARD_HOST is {settings.dashboard_host}, so others can reach the page: set "
            "STEPSTREAM_DASHBOARD_TOKEN, or STEPSTREAM_DASHBOARD_USER_HEADER behind a reverse proxy."
        )
    yield f"binds to {settings.dashboard_host}:{settings.dashboard_port}"
    yield "with a login" if guarded else "loopback only"
