"""A Kafka with TLS, logins and access rules: what each failure says, and what each service may do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourceType
from sqlalchemy import text

from infra.settings import load
from infra.sql import migrations
from infra.sql.engine import engine
from schemas.rights import RIGHTS
from schemas.topics import Kind
from tests.support.processes import wait_for
from tests.support.secured import PASSWORD, Rule, SecuredKafka
from tests.support.topics import read_topics

Cli = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Any]
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, kafka_jars: list[Path]) -> Iterator[SecuredKafka]:
    """A broker of this module."""
    server = SecuredKafka(tmp_path_factory.mktemp("secured"), kafka_jars)
    server.start()
    server.add_user("worker")
    yield server
    server.stop()


@pytest.fixture
def operator(
    secured: SecuredKafka, home: Path, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Sets variables as an operator does, for this process and its children."""

    def set_all(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    migrations.upgrade(engine(load()))
    return set_all


def wait_until_said(service: Any, words: str) -> None:
    """Until its log has these words."""
    try:
        wait_for(lambda: words in service.log.read_text(), PATIENCE_S)
    except AssertionError:
        raise AssertionError(f"{words!r} is not in {service.log.read_text()!r}") from None


def rights_of(service: str, prefix: str = "telemetry.") -> list[Rule]:
    """The access rules of the table."""
    rights = RIGHTS[service]
    rules = [
        (ResourceType.TOPIC, kind.topic(prefix), AclOperation[name])
        for kind, names in rights.topics.items()
        for name in sorted(names)
    ]
    group = [(ResourceType.GROUP, f"stepstream.{rights.group}", AclOperation.READ)] if rights.group else []
    return rules + group


def faults(secured: SecuredKafka) -> dict[str, tuple[dict[str, str], str]]:
    """Name → what an operator set, and what the sentence says."""
    own, strange = secured.authority, secured.other_authority
    login = secured.login
    return {
        "password": (login("worker", password="guessed"), "refused the login of user worker"),
        "password of PLAIN": (login("worker", "PLAIN", "guessed"), "refused the login of user worker"),
        "secret of a client": (secured.client("worker", "guessed"), "refused the login of user worker"),
        "expired": (login("worker", "EXPIRED"), "has expired"),
        "other host": (login("worker", "OTHERHOST"), "is for another host name"),
        "other authority": (
            login("worker") | {"STEPSTREAM_KAFKA_SSL_CA_LOCATION": str(strange.ca)},
            "is of no authority known in",
        ),
        "our certificate expired": (secured.certificate(own.issue("worker", expired=True)), "has expired on"),
        "our certificate of another authority": (
            secured.certificate(strange.issue("worker")),
            "client certificate",
        ),
        "no certificate": (secured.certificate(None), "asks for a client certificate"),
        "no TLS": (
            login("worker") | {"STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
            "STEPSTREAM_KAFKA_SECURITY_PROTOCOL",
        ),
        "TLS where there is none": (
            login("worker") | {"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN")},
            "STEPSTREAM_KAFKA_SECURITY_PROTOCOL",
        ),
        "nobody listens": (
            login("worker") | {"STEPSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
            "Connection refused",
        ),
        "unknown name": (
            login("worker") | {"STEPSTREAM_BOOTSTRAP_SERVERS": "kafka.invalid:9092"},
            "Failed to resolve",
        ),
    }


NAMES = (
    "password", "password of PLAIN", "secret of a client", "expired", "other host", "other authority",
    "our certificate expired", "our certificate of another authority", "no certificate", "no TLS",
    "TLS where there is none",
    "nobody listens", "unknown name",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_failure_is_one_sentence_of_every_command(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli, spawn_cli: Spawn, name: str
) -> None:
    """A command exits non-zero, a service waits and says so; both name what to check, and no secret."""
    variables, words = faults(secured)[name]
    operator(variables)
    services = [spawn_cli(service) for service in ("persist", "live")]
    began = time.monotonic()
    done = run_cli("topics", "create")
    took = time.monotonic() - began
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "guessed" not in done.stderr
    for service in services:
        wait_until_said(service, words)
        assert service.poll() is None, "it waits"
        assert "guessed" not in service.log.read_text()
        assert "Traceback" not in service.log.read_text()
    print(f"{name}: {took:.1f} s")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STEPSTREAM_KAFKA_SSL_CA_LOCATION", "/nowhere/ca.pem"),
        ("STEPSTREAM_KAFKA_SSL_KEY_LOCATION", "/nowhere/our.key"),
        ("STEPSTREAM_KAFKA_SSL_KEY_PASSWORD", "wrong-key-password"),
        ("STEPSTREAM_KAFKA_SASL_MECHANISM", "GUESSED"),
        ("STEPSTREAM_KAFKA_NO_SUCH_THING", "1"),
        ("STEPSTREAM_KAFKA_SESSION_TIMEOUT_MS", "soon"),
    ],
)
@pytest.mark.parametrize("command", [["topics", "create"], ["persist"]])
def test_wrong_files_and_properties_are_one_sentence(
    secured: SecuredKafka,
    operator: Callable[..., None],
    run_cli: Cli,
    command: list[str],
    variable: str,
    value: str,
) -> None:
    """A wrong file, key or property ends every command at once, without asking a broker."""
    if "SSL_KEY" in variable:
        operator(secured.certificate(secured.authority.issue("sealed", password="right")))
    else:
        operator(secured.login("worker"))
    operator({variable: value})
    done = run_cli(*command)
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2)
    assert "STEPSTREAM_KAFKA_*" in said
    assert "Traceback" not in said
    assert "wrong-key-password" not in said


def test_topics_are_created_twice_with_the_documented_rights(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli
) -> None:
    """`topics create` works repeatedly, with CREATE alone, and with topics that somebody else made."""
    operator(secured.login("worker") | {"STEPSTREAM_TOPIC_PREFIX": "twice."})
    create = (ResourceType.TOPIC, "twice.", AclOperation.CREATE)
    refused = run_cli("topics", "create")
    assert refused.returncode == 1
    assert "user worker to CREATE topic twice.steps" in refused.stderr
    secured.grant("worker", create)
    for _ in range(2):
        done = run_cli("topics", "create")
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("DESCRIBE is not granted") == len(Kind)
    secured.grant("worker", (ResourceType.TOPIC, "twice.", AclOperation.DESCRIBE))
    done = run_cli("topics", "create")
    assert done.returncode == 0
    assert done.stdout.count("DESCRIBE_CONFIGS is not granted") == len(Kind)
    secured.revoke("worker")


def test_topics_plan_is_shown_and_applied(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli
) -> None:
    """diff finds what differs and changes nothing; alter --dry-run too; alter makes it so."""
    operator({"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN"), "STEPSTREAM_TOPIC_PREFIX": "plan."})
    assert run_cli("topics", "create", "--dry-run").stdout.count("is missing") == len(Kind)
    assert run_cli("topics", "diff").returncode == 1
    assert run_cli("topics", "create").returncode == 0
    assert run_cli("topics", "diff").returncode == 0
    operator(
        {
            "STEPSTREAM_TOPICS_STEPS_RETENTION_MS": "3600000",
            "STEPSTREAM_TOPICS_ALL_COMPRESSION_TYPE": "zstd",
            "STEPSTREAM_PARTITIONS": "6",
        }
    )
    for command in (["diff"], ["alter", "--dry-run"]):
        found = json.loads(run_cli("topics", *command, "--json").stdout)
        steps = next(topic for topic in found if topic["name"] == "plan.steps")
        assert steps["differs"]["retention.ms"] == {"is": "604800000", "wanted": "3600000"}
        assert steps["more_partitions"] == 6
    assert run_cli("topics", "alter").returncode == 0
    done = run_cli("topics", "diff")
    assert done.returncode == 0, done.stdout
    operator({"STEPSTREAM_TOPICS_NOTHING_RETENTION_MS": "1"})
    wrong = run_cli("topics", "diff")
    assert wrong.returncode == 2
    assert "nothing.retention.ms" in wrong.stderr


def test_each_service_runs_with_the_rights_of_the_table_alone(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli, spawn_cli: Spawn, tmp_path: Path
) -> None:
    """admin makes topics, a worker sends, persist and live store, replay plays; doctor finds each well."""
    for service in ("worker", "persist", "live", "replay", "admin", "dashboard"):
        secured.add_user(service)
        secured.grant(service, *rights_of(service))
    operator(secured.login("admin"))
    assert run_cli("topics", "create").returncode == 0
    assert run_cli("topics", "create").returncode == 0
    operator(secured.login("persist"))
    persist = spawn_cli("persist")
    operator(secured.login("live"))
    live = spawn_cli("live")
    operator(secured.login("worker"))
    large = "x" * 3_000_000
    program = (
        "import json\n"
        "for i in range(100): print(json.dumps({'type': 'step', 'run_id': 'r1', 'reward': 1.0}))\n"
        f"print(json.dumps({{'type': 'step', 'run_id': 'r1', 'info': {large!r}}}))\n"
        "print(json.dumps({'type': 'step', 'run_id': 'r1', 'reward': ['bad']}))\n"
    )
    script = tmp_path / "train.py"
    script.write_text(program)
    done = run_cli("run", "--quiet", "--json", "--", sys.executable, str(script))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stderr.strip().splitlines()[-1])
    assert summary["steps"] + summary["dead_letters"] == 102
    assert summary["dead_letters"] <= 1, "3 MB is not too large for a topic that takes 72 MiB"
    database = engine(load())
    count = text("SELECT count(*) FROM steps")

    def stored() -> int:
        with database.connect() as connection:
            return int(connection.scalar(count) or 0)

    wait_for(lambda: stored() == summary["steps"], PATIENCE_S, persist.log.read_text())
    operator(secured.login("replay"))
    played = run_cli("replay", "r1")
    assert played.returncode == 0, played.stderr
    assert len([line for line in played.stdout.splitlines() if '"step"' in line[:300]]) >= 100
    for service in ("worker", "persist", "live", "replay", "admin", "dashboard"):
        operator(secured.login(service))
        findings = json.loads(run_cli("doctor", service, "--json").stdout)
        kafka = next(finding for finding in findings if finding["part"] == "kafka")
        assert kafka["ok"], (service, kafka)
    wait_until_said(live, "reads")
    assert persist.poll() is None
    assert live.poll() is None
    assert not re.search(rf"{PASSWORD}\w+", persist.log.read_text() + live.log.read_text() + done.stderr)


def test_a_token_of_an_issuer_logs_in(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli
) -> None:
    """OAUTHBEARER: the client's id is the user that the access rules name."""
    operator(secured.client("trainer") | {"STEPSTREAM_TOPIC_PREFIX": "oauth."})
    refused = run_cli("topics", "create")
    assert "does not allow user trainer to CREATE topic oauth." in refused.stderr
    for operation in (AclOperation.CREATE, AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS):
        secured.grant("trainer", (ResourceType.TOPIC, "oauth.", operation))
    assert run_cli("topics", "create").returncode == 0
    line = '{"type": "step", "run_id": "o", "reward": 1.0}'
    done = run_cli("run", "--json", "--timeout", "30", "--", "echo", line)
    assert done.returncode == 0, done.stderr
    assert "trainer" in secured.issuer.issued
    operator({"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN"),
              "STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"})  # fmt: skip
    (found,) = read_topics(load(), [Kind.STEPS])
    assert found.record["run_id"] == "o"


@pytest.mark.parametrize(
    ("service", "lacks", "words"),
    [
        (
            "persist",
            (ResourceType.TOPIC, "telemetry.metrics", AclOperation.READ),
            "READ topic telemetry.metrics",
        ),
        (
            "persist",
            (ResourceType.GROUP, "stepstream.persist", AclOperation.READ),
            "READ group stepstream.persist",
        ),
        ("live", (ResourceType.GROUP, "stepstream.live", AclOperation.READ), "READ group stepstream.live"),
        ("live", (ResourceType.TOPIC, "telemetry.frames", AclOperation.READ), "READ topic telemetry.frames"),
    ],
)
def test_a_missing_right_is_named(
    secured: SecuredKafka,
    operator: Callable[..., None],
    run_cli: Cli,
    spawn_cli: Spawn,
    service: str,
    lacks: Rule,
    words: str,
) -> None:
    """User, operation and topic or group: in the log of the service, and by doctor."""
    operator({"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN")})
    assert run_cli("topics", "create").returncode == 0
    user = f"{service}-{words.rsplit(maxsplit=1)[-1]}"
    secured.add_user(user)
    secured.grant(user, *[rule for rule in rights_of(service) if rule != lacks])
    operator(secured.login(user))
    running = spawn_cli(service)
    wait_until_said(running, words)
    assert f"user {user}" in running.log.read_text()
    assert "Traceback" not in running.log.read_text()


def test_a_worker_without_write_waits_and_loses_nothing(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli
) -> None:
    """It names user, operation and topic; given the right, the next `forward` ships the lines."""
    operator({"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN")})
    assert run_cli("topics", "create").returncode == 0
    secured.add_user("reader")
    secured.grant("reader", (ResourceType.TOPIC, "telemetry.", AclOperation.DESCRIBE))
    operator(secured.login("reader"))
    done = run_cli("run", "--timeout", "15", "--", "echo", '{"type": "step", "run_id": "w"}')
    assert done.returncode == 0, done.stderr
    assert "user reader to WRITE topic telemetry." in done.stderr
    assert "Traceback" not in done.stderr
    assert "they stay in" in done.stderr


def test_a_service_waits_for_topics_and_says_which(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli, spawn_cli: Spawn
) -> None:
    """Topics that are created later are read without a restart."""
    operator({"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN"), "STEPSTREAM_TOPIC_PREFIX": "later."})
    services = [spawn_cli(name) for name in ("persist", "live")]
    for service in services:
        wait_until_said(service, "no topic later.")
    assert run_cli("topics", "create").returncode == 0
    wait_until_said(services[1], "reads")
    wait_until_said(services[0], "Kafka answers again")
