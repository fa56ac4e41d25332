"""A Kafka with TLS, logins and access rules: what each failure says, and what each service may do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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
from tests.support.quoted import quoted
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


def wait_until_said(service: Any, words: str | re.Pattern[str]) -> None:
    """Wait until the log of a service has these words."""
    wanted = re.compile(re.escape(words)) if isinstance(words, str) else words
    try:
        wait_for(lambda: wanted.search(service.log.read_text()), PATIENCE_S)
    except AssertionError:
        raise AssertionError(f"{wanted.pattern!r} is not in {service.log.read_text()!r}") from None


def rights_of(service: str, prefix: str = "telemetry.") -> list[Rule]:
    """The access rules that the table of rights gives a service."""
    rights = RIGHTS[service]
    rules = [
        (ResourceType.TOPIC, kind.topic(prefix), AclOperation[name])
        for kind, names in rights.topics.items()
        for name in sorted(names)
    ]
    group = [(ResourceType.GROUP, f"stepstream.{rights.group}", AclOperation.READ)] if rights.group else []
    return rules + group


def faults(secured: SecuredKafka) -> dict[str, dict[str, dict[str, str]]]:
    """The variables that an operator set, by page and cause of docs/security."""
    own, strange, login = secured.authority, secured.other_authority, secured.login
    password = "the password is wrong, or the user unknown"
    of_another = {"STEPSTREAM_KAFKA_SSL_CA_LOCATION": str(strange.ca)}
    return {
        "tls": {
            "the broker's certificate has expired": login("worker", "EXPIRED"),
            "the broker's certificate is for another host": login("worker", "OTHERHOST"),
            "the broker's certificate is of another authority": login("worker") | of_another,
            "the broker speaks TLS, we do not": login("worker")
            | {"STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
            "we speak TLS, the broker does not": login("worker")
            | {"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN")},
            "no broker listens there": login("worker") | {"STEPSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
            "the host name is unknown": login("worker")
            | {"STEPSTREAM_BOOTSTRAP_SERVERS": "kafka.invalid:9092"},
        },
        "mtls": {
            "we show no certificate": secured.certificate(None),
            "our certificate is of another authority": secured.certificate(strange.issue("worker")),
            "our certificate has expired": secured.certificate(own.issue("worker", expired=True)),
        },
        "sasl-plain": {password: login("worker", "PLAIN", "guessed")},
        "sasl-scram": {password: login("worker", password="guessed")},
        "oauthbearer": {
            "the client's secret is wrong, or the client unknown": secured.client("worker", "guessed")
        },
    }


CAUSES = [
    (page, cause)
    for page in ("tls", "mtls", "sasl-plain", "sasl-scram", "oauthbearer")
    for cause in quoted(f"security/{page}")
]


@pytest.mark.parametrize(("page", "cause"), CAUSES)
def test_each_failure_says_the_sentence_of_its_page(
    secured: SecuredKafka,
    operator: Callable[..., None],
    run_cli: Cli,
    spawn_cli: Spawn,
    page: str,
    cause: str,
) -> None:
    """A command fails and a service waits with the page's sentence; neither shows a secret."""
    known, sentence = faults(secured)[page], quoted(f"security/{page}")[cause]
    assert [*known] == [*quoted(f"security/{page}")]
    operator(known[cause])
    services = [spawn_cli(service) for service in ("persist", "live")]
    done = run_cli("topics", "create")
    assert done.returncode == 1
    assert sentence.fullmatch(done.stderr.strip().removeprefix("stepstream: ")), done.stderr
    assert "guessed" not in done.stderr
    for service in services:
        wait_until_said(service, sentence)
        assert service.poll() is None, "the service waits"
        assert "guessed" not in service.log.read_text()
        assert "Traceback" not in service.log.read_text()


WRONG = {
    ("tls", "`SSL_CA_LOCATION` names no file"): ("SSL_CA_LOCATION", "/nowhere/ca.pem"),
    ("tls", "the property is unknown"): ("NO_SUCH_THING", "1"),
    ("tls", "the property has no usable value"): ("SESSION_TIMEOUT_MS", "soon"),
    ("mtls", "`SSL_KEY_LOCATION` names no file"): ("SSL_KEY_LOCATION", "/nowhere/our.key"),
    ("mtls", "`SSL_KEY_PASSWORD` is wrong"): ("SSL_KEY_PASSWORD", "wrong-key-password"),
    ("sasl-scram", "the mechanism is unknown"): ("SASL_MECHANISM", "GUESSED"),
}
SETTINGS = [
    (page, cause)
    for page in ("tls", "mtls", "sasl-scram")
    for cause in quoted(f"security/{page}", "wrong setting")
]


@pytest.mark.parametrize(("page", "cause"), SETTINGS)
@pytest.mark.parametrize("command", [["topics", "create"], ["persist"]])
def test_wrong_files_and_properties_are_one_sentence(
    secured: SecuredKafka,
    operator: Callable[..., None],
    run_cli: Cli,
    command: list[str],
    page: str,
    cause: str,
) -> None:
    """A wrong file, key or property ends every command at once, without asking a broker."""
    variable, value = WRONG[page, cause]
    if "SSL_KEY" in variable:
        operator(secured.certificate(secured.authority.issue("sealed", password="right")))
    else:
        operator(secured.login("worker"))
    operator({f"STEPSTREAM_KAFKA_{variable}": value})
    done = run_cli(*command)
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2)
    assert quoted(f"security/{page}", "wrong setting")[cause].search(said.replace('\\"', '"')), said
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
    """`topics diff` and `alter --dry-run` show what differs and change nothing; `alter` applies it."""
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
    """With its documented rights alone each service does its work, and doctor finds nothing wrong."""
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
    """With OAUTHBEARER the client's id is the user that the access rules name."""
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
    """The log of a service names user, operation and topic or group of a missing right."""
    operator({"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN")})
    assert run_cli("topics", "create").returncode == 0
    user = f"{service}-{words.rsplit(maxsplit=1)[-1]}"
    secured.add_user(user)
    secured.grant(user, *[rule for rule in rights_of(service) if rule != lacks])
    operator(secured.login(user))
    running = spawn_cli(service)
    kind = "the right on a group" if "group" in words else "a right on a topic"
    wait_until_said(running, quoted("security", "missing")[kind])
    assert f"user {user} to {words}: grant that right." in running.log.read_text()
    assert "Traceback" not in running.log.read_text()


def test_a_worker_without_write_waits_and_loses_nothing(
    secured: SecuredKafka, operator: Callable[..., None], run_cli: Cli
) -> None:
    """`run` without WRITE names user, operation and topic; the lines stay in the spool."""
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
    """A service names the topic that it waits for, and reads topics that are created later."""
    operator({"STEPSTREAM_BOOTSTRAP_SERVERS": secured.address("ADMIN"), "STEPSTREAM_TOPIC_PREFIX": "later."})
    services = [spawn_cli(name) for name in ("persist", "live")]
    for service in services:
        wait_until_said(service, quoted("security", "missing")["a topic"])
        assert "no topic later." in service.log.read_text()
    assert run_cli("topics", "create").returncode == 0
    wait_until_said(services[1], "reads")
    wait_until_said(services[0], "Kafka answers again")
