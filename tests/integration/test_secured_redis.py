"""Redis users with few rights: `live` runs with those of the table alone, and names one that is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.embedded.ports import free_ports
from infra.kafka.topics import ensure_topics
from infra.redis import client
from infra.redis.live_store import delete_run
from infra.settings import Settings, load
from schemas.errors import LiveBufferError
from schemas.live import Keys
from schemas.rights import RIGHTS
from schemas.topics import Kind
from tests.support.certificates import Authority
from tests.support.events import Stream, record
from tests.support.processes import wait_for
from tests.support.quoted import quoted

Spawn = Callable[..., Any]
PASSWORD = "pa55word"
PATIENCE_S = 60.0
PAGE = "security/redis"


@pytest.fixture
def admin(settings: Settings) -> redis.Redis:
    """A client that may do everything."""
    return redis.Redis.from_url(settings.redis_url)


@pytest.fixture
def user(
    settings: Settings, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, tuple[str, ...]], str]:
    """Makes a Redis user with these commands on our keys; the programs log in as this user."""

    def make(name: str, commands: tuple[str, ...]) -> str:
        rules = [
            "reset",
            "on",
            f">{PASSWORD}",
            f"~{settings.redis_prefix}*",
            *(f"+{one}" for one in commands),
        ]
        admin.execute_command("ACL", "SETUSER", name, *rules)
        url = settings.redis_url.replace("redis://", f"redis://{name}:{PASSWORD}@")
        monkeypatch.setenv("STEPSTREAM_REDIS_URL", url)
        return url

    return make


def test_live_runs_with_the_rights_of_the_table(
    settings: Settings, admin: redis.Redis, user: Callable[..., str], spawn_cli: Spawn
) -> None:
    """Without XADD `live` waits and names user and command; once granted, it also follows deletions."""
    ensure_topics(settings)
    rights = RIGHTS["live"].redis
    user("live", tuple(one for one in rights if one != "xadd"))
    live = spawn_cli("live")
    stream = Stream(settings.bootstrap_servers, settings.topic_prefix)
    stream.send(Kind.RUNS, record(Kind.RUNS, 1000))
    for seq in range(1, 50):
        stream.send(Kind.STEPS, record(Kind.STEPS, seq))
    stream.flush()
    wait_for(lambda: "'xadd'" in live.log.read_text(), PATIENCE_S, live.log.read_text())
    assert "User live" in live.log.read_text() or "user live" in live.log.read_text()
    assert live.poll() is None
    user("live", rights)

    def shown() -> bool:
        return any(b":steps" in key or b"steps" in key for key in admin.keys(f"{settings.redis_prefix}*"))

    wait_for(shown, PATIENCE_S, live.log.read_text())
    admin.xadd(f"{settings.redis_prefix}deletions", {"r": "run-that-is-gone"})
    last = live.log.read_text().count("waits for Redis")
    stream.send(Kind.STEPS, record(Kind.STEPS, 60))
    stream.flush()
    wait_for(lambda: not _is_behind(admin, settings), PATIENCE_S)
    assert live.log.read_text().count("waits for Redis") == last
    assert "Traceback" not in live.log.read_text()
    assert PASSWORD not in live.log.read_text()


def test_a_run_is_deleted_with_the_rights_of_admin(
    settings: Settings, admin: redis.Redis, user: Callable[..., str]
) -> None:
    """With the rights of admin a run's keys are deleted, and live processes are told."""
    keys = Keys(settings.redis_prefix)
    admin.hset(keys.run("r", "agents"), "a", b"")
    admin.xadd(keys.agent("r", "a", "steps"), {"b": b""})
    user("admin", RIGHTS["admin"].redis)
    delete_run(load(), "r")
    assert not admin.keys(f"{keys.run('r')}*")
    assert admin.xlen(keys.deletions) == 1


def _is_behind(admin: redis.Redis, settings: Settings) -> bool:
    return not admin.exists(f"{settings.redis_prefix}runs")


FAULTS = {
    "the password is wrong, or the user unknown": (f":{PASSWORD}@", ":guessed@"),
    "we speak TLS, the server does not": ("redis://", "rediss://"),
}


@pytest.mark.parametrize("cause", quoted(PAGE))
def test_each_failure_says_the_sentence_of_the_page(user: Callable[..., str], cause: str) -> None:
    """Each failure gives the page's sentence, which shows no secret."""
    assert [*FAULTS] == [*quoted(PAGE)]
    url = user("dashboard", RIGHTS["dashboard"].redis).replace(*FAULTS[cause])
    with pytest.raises(LiveBufferError) as said:
        client.check(Settings(**{**vars(load()), "redis_url": url}))
    assert quoted(PAGE)[cause].fullmatch(str(said.value)), said.value
    assert "guessed" not in str(said.value)
    assert PASSWORD not in str(said.value)


def test_a_command_that_is_not_allowed_is_named(user: Callable[..., str]) -> None:
    """One sentence names the user and the command that is not allowed."""
    user("reader", ("get",))
    with pytest.raises(LiveBufferError, match="User reader has no permissions to run the 'info'") as said:
        client.check(load())
    assert quoted(PAGE, "command missing")["any"].fullmatch(str(said.value)), said.value


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Authority, Authority]]:
    """Address of a Redis that asks for TLS and a certificate, its authority, and a foreign authority."""
    from tests.support import containers

    folder = tmp_path_factory.mktemp("tls")
    own, strange = Authority(folder), Authority(folder, "stranger")
    for source, name in zip(
        (own.ca, *own.issue("redis")), ("ca.crt", "server.crt", "server.key"), strict=True
    ):
        shutil.copy(source, folder / name)
        (folder / name).chmod(0o644)  # the container runs as another user
    folder.chmod(0o755)
    (port,) = free_ports([None])
    files = "--tls-ca-cert-file /tls/ca.crt --tls-cert-file /tls/server.crt --tls-key-file /tls/server.key"
    with containers.redis_over_tls(port, folder, files):
        yield f"127.0.0.1:{port}", own, strange


@pytest.mark.docker
@pytest.mark.parametrize("cause", ["", *quoted(PAGE, "over TLS")])
def test_redis_over_tls(home: Path, over_tls: tuple[str, Authority, Authority], cause: str) -> None:
    """A client certificate logs in over TLS, and each failure gives the page's sentence."""
    where, own, strange = over_tls
    shown, stranger = own.issue("live"), strange.issue("live")
    certificate = f"&ssl_certfile={shown[0]}&ssl_keyfile={shown[1]}"
    sound = f"rediss://{where}/0?ssl_ca_certs={own.ca}{certificate}"
    faults = {
        "the server's certificate is of another authority": sound.replace(str(own.ca), str(strange.ca)),
        "the server's certificate is for another host": sound.replace("127.0.0.1", "localhost"),
        "we show no certificate": sound.replace(certificate, ""),
        "our certificate is of another authority": sound.replace(str(shown[0]), str(stranger[0])).replace(
            str(shown[1]), str(stranger[1])
        ),
        "the server speaks TLS, we do not": f"redis://{where}/0",
    }
    assert [*faults] == [*quoted(PAGE, "over TLS")]
    if not cause:
        assert client.check(Settings(**{**vars(load()), "redis_url": sound}))
        return
    with pytest.raises(LiveBufferError) as said:
        client.check(Settings(**{**vars(load()), "redis_url": faults[cause]}))
    assert quoted(PAGE, "over TLS")[cause].fullmatch(str(said.value)), said.value
