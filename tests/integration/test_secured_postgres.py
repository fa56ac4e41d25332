"""PostgreSQL over TLS: what each failure says, and what each service may do."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.topics import ensure_topics
from infra.settings import Settings
from infra.sql import migrations
from infra.sql.engine import engine, reading
from schemas.errors import DatabaseError
from schemas.rights import RIGHTS
from schemas.topics import Kind
from tests.support.events import Stream, record
from tests.support.processes import wait_for
from tests.support.quoted import quoted
from tests.support.secured_postgres import PASSWORD, SecuredPostgres

Cli = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Any]
PATIENCE_S = 60.0
PAGE = "security/postgresql"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredPostgres]:
    """A server of this module."""
    server = SecuredPostgres(tmp_path_factory.mktemp("certificates"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def database(secured: SecuredPostgres, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An upgraded database, and users with the rights of the table alone."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    secured.sql(f"CREATE DATABASE {name} STRATEGY file_copy")
    secured.sql(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    monkeypatch.setenv("STEPSTREAM_DATABASE_URL", secured.url(name))
    made = engine(Settings(database_url=secured.url(name)))
    migrations.upgrade(made)
    made.dispose()
    for service in ("persist", "dashboard"):
        rights = RIGHTS[service]
        secured.add_user(service, name, rights.tables, temporary=rights.temporary)
    secured.add_user("shown", name, ("SELECT",))
    yield name
    secured.sql(f"DROP DATABASE {name} WITH (FORCE)")


def faults(secured: SecuredPostgres, name: str) -> dict[str, str]:
    """The URL that an operator set, by cause of docs/security/postgresql.md."""
    own, strange, login = secured.authority, secured.other_authority, secured.login

    def shown(files: tuple[Path, Path]) -> str:
        return login("shown", name, sslcert=files[0], sslkey=files[1])

    return {
        "the password is wrong": login("dashboard", name, password="guessed"),
        "the user is unknown": login("nobody", name, password="guessed"),
        "the server's certificate is of another authority": login("dashboard", name, sslrootcert=strange.ca),
        "the server's certificate is for another host": login("dashboard", name).replace(
            "127.0.0.1", "localhost"
        ),
        "`pg_hba.conf` has no line for us, as without TLS": login("dashboard", name, sslmode="disable"),
        "we show no certificate": login("shown", name, password="guessed"),
        "our certificate is of another user": shown(own.issue("else")),
        "our certificate is of another authority": shown(strange.issue("shown")),
        "our certificate has expired": shown(own.issue("shown", expired=True)),
        "the user may not connect": login("persist", "postgres2"),
        "the database does not exist": login("dashboard", "nowhere"),
    }


@pytest.mark.parametrize("cause", quoted(PAGE))
def test_each_failure_says_the_sentence_of_the_page(
    secured: SecuredPostgres, database: str, cause: str
) -> None:
    """Each failure gives the page's sentence, which shows no secret."""
    if cause == "the user may not connect":
        secured.sql("DROP DATABASE IF EXISTS postgres2")
        secured.sql("CREATE DATABASE postgres2")
        secured.sql("REVOKE ALL ON DATABASE postgres2 FROM PUBLIC")
    known = faults(secured, database)
    assert [*known] == [*quoted(PAGE)]
    with pytest.raises(DatabaseError) as said, reading(engine(Settings(database_url=known[cause]))):
        """Never runs: the connection is refused."""
    assert quoted(PAGE)[cause].fullmatch(str(said.value)), said.value
    assert "guessed" not in str(said.value)
    assert PASSWORD not in str(said.value)


def test_a_command_ends_with_the_sentence(
    secured: SecuredPostgres, database: str, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command with a wrong password exits with 1 and prints only the page's sentence."""
    cause = "the password is wrong"
    monkeypatch.setenv("STEPSTREAM_DATABASE_URL", faults(secured, database)[cause])
    done = run_cli("runs", "list")
    assert done.returncode == 1
    assert quoted(PAGE)[cause].fullmatch(done.stderr.strip().removeprefix("stepstream: "))


def test_a_certificate_and_a_password_log_in(
    secured: SecuredPostgres, database: str, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With verify-full a password and a client certificate each log in and list the runs."""
    files = secured.authority.issue("shown")
    for url in (
        secured.login("dashboard", database),
        secured.login("shown", database, sslcert=files[0], sslkey=files[1]),
    ):
        monkeypatch.setenv("STEPSTREAM_DATABASE_URL", url)
        done = run_cli("runs", "list", "--json")
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
        refused = run_cli("db", "upgrade")
        assert refused.returncode in (0, 1)
        assert "Traceback" not in refused.stderr
    done = run_cli("doctor", "dashboard")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("lacks", ["INSERT ON steps", "UPDATE ON runs", "TEMPORARY"])
def test_persist_waits_for_a_right_and_says_which(
    secured: SecuredPostgres,
    database: str,
    settings: Settings,
    spawn_cli: Spawn,
    monkeypatch: pytest.MonkeyPatch,
    lacks: str,
) -> None:
    """persist names user, privilege and table; once the right is granted, all records are stored."""
    ensure_topics(settings)
    place = f"{lacks} ON DATABASE {database}" if lacks == "TEMPORARY" else lacks
    secured.sql(f"REVOKE {place} FROM persist", database)
    monkeypatch.setenv("STEPSTREAM_DATABASE_URL", secured.login("persist", database))
    stream = Stream(settings.bootstrap_servers, settings.topic_prefix)
    stream.send(Kind.RUNS, record(Kind.RUNS, 1000))
    for seq in (1, 2, 2):
        stream.send(Kind.STEPS, record(Kind.STEPS, seq))
    stream.flush()
    persist = spawn_cli("persist")
    sentence = quoted(PAGE, "privilege missing")["on a table" if " " in lacks else lacks]
    wait_for(lambda: sentence.search(persist.log.read_text()), PATIENCE_S, persist.log.read_text())
    assert f"grant user persist {lacks.replace(' ON ', ' on table ')}" in persist.log.read_text()
    assert persist.poll() is None
    secured.sql(f"GRANT {place} TO persist", database)

    def stored() -> bool:
        import psycopg

        with psycopg.connect(secured.url(database).replace("+psycopg", "")) as connection:
            return connection.execute("SELECT count(*) FROM steps").fetchone() == (2,)

    wait_for(stored, PATIENCE_S, persist.log.read_text())
    assert "Traceback" not in persist.log.read_text()
    assert PASSWORD not in persist.log.read_text()
