"""The live path on a Redis Cluster: all keys of an installation are in one slot, by the prefix' hash tag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis.cluster import RedisCluster

from dashboard.live.buffer import LiveBuffer
from dashboard.live.types import View
from infra.kafka.topics import ensure_topics
from infra.redis import client
from infra.redis.live_store import delete_run
from infra.settings import Settings, load
from schemas.errors import LiveBufferError, UsageError
from schemas.live import Keys
from schemas.rights import RIGHTS
from schemas.topics import Kind
from tests.support.processes import wait_for
from tests.support.records import Sender, step
from tests.support.valkey_cluster import ValkeyCluster

PATIENCE_S = 90.0
RUN, AGENT = "run", "a"
PASSWORD = "pa55word"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """A cluster of three nodes."""
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def clustered(settings: Settings, cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a fresh home, with the cluster as its Redis, and with topics."""
    monkeypatch.setenv("STEPSTREAM_REDIS_URL", cluster.url)
    monkeypatch.setenv("STEPSTREAM_REDIS_CLUSTER", "true")
    monkeypatch.setenv("STEPSTREAM_REDIS_PREFIX", "{" + settings.redis_prefix + "}:")
    ensure_topics(settings)
    return load()


async def test_the_page_shows_what_live_wrote_and_a_deletion_takes_it_away(
    clustered: Settings, cluster: ValkeyCluster, spawn_cli: Callable[..., Any]
) -> None:
    """With the rights of the table `live` writes to one node; the page reads it, and a deletion clears it."""
    admin = RedisCluster.from_url(cluster.url)
    rules = ["reset", "on", f">{PASSWORD}", f"~{clustered.redis_prefix}*"]
    commands = {*RIGHTS["live"].redis, *RIGHTS["dashboard"].redis, "cluster|slots", "command"}
    for node in cluster.nodes():
        node.execute_command("ACL", "SETUSER", "live", *rules, *(f"+{command}" for command in commands))
    url = clustered.redis_url.replace("redis://", f"redis://live:{PASSWORD}@")
    live = spawn_cli("live", env={"STEPSTREAM_REDIS_URL": url})
    sender, as_user = Sender(clustered), replace(clustered, redis_url=url)
    sender.send(Kind.STEPS, [step(seq) for seq in range(1, 101)])
    keys = Keys(clustered.redis_prefix)
    wait_for(lambda: admin.hget(keys.run(RUN), "steps") == b"100", PATIENCE_S, live.log.read_text())
    buffer, view = LiveBuffer(as_user), View(run_id=RUN, agent_id=AGENT)
    first = await buffer.wait(view)
    assert [row.seq for row in first.steps][-1] == 100
    sender.send(Kind.STEPS, [step(101)])
    more = await buffer.wait(view, first.cursor, 30)
    assert [row.seq for row in more.steps] == [101]
    assert [run.run_id for run in await buffer.runs()] == [RUN]
    await buffer.close()
    ours = [node.keys(f"{clustered.redis_prefix}*") for node in cluster.nodes()]
    assert sum(map(bool, ours)) == 1
    delete_run(as_user, RUN)
    assert not any(node.keys(f"{keys.run(RUN)}*") for node in cluster.nodes())
    assert "Traceback" not in live.log.read_text()


def test_live_waits_for_a_cluster_that_is_away(
    clustered: Settings, cluster: ValkeyCluster, spawn_cli: Callable[..., Any]
) -> None:
    """`live` says that it waits for a cluster that is away, and goes on when the nodes are up."""
    cluster.stop()
    live = spawn_cli("live")
    wait_for(lambda: "waits for Redis" in live.log.read_text(), PATIENCE_S)
    cluster.start()
    Sender(clustered).send(Kind.STEPS, [step(seq) for seq in range(1, 51)])
    admin, keys = RedisCluster.from_url(cluster.url), Keys(clustered.redis_prefix)
    wait_for(lambda: admin.hget(keys.run(RUN), "steps") == b"50", PATIENCE_S, live.log.read_text())
    assert live.poll() is None
    assert "Traceback" not in live.log.read_text()


def test_a_cluster_and_a_single_server_are_told_apart(settings: Settings, clustered: Settings) -> None:
    """A cluster taken for a single server, or the reverse, is reported from the first request on."""
    as_single = replace(clustered, redis_cluster=False)
    for attempt in (client.check, lambda told: [delete_run(told, f"r{n}") for n in range(5)]):
        with pytest.raises(LiveBufferError, match="set STEPSTREAM_REDIS_CLUSTER=true"):
            attempt(replace(as_single, redis_prefix="untagged:"))
    with pytest.raises(LiveBufferError, match="is no Redis Cluster"):
        client.check(replace(clustered, redis_url=settings.redis_url))


def test_a_prefix_without_hash_tag_is_refused(clustered: Settings) -> None:
    """A prefix without a hash tag is refused with a sentence that shows a valid one."""
    with pytest.raises(UsageError, match=r"STEPSTREAM_REDIS_PREFIX has no hash tag.*\{team-a\}:"):
        client.check(replace(clustered, redis_prefix="team-a:"))
    assert client.check(clustered)
