"""A client of librdkafka ends with its use, also where an exception holds on to it.

An answer that comes late makes objects in a thread of the client's: the garbage collector may run there.
A client that it frees there aborts the process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.embedded.ports import free_ports
from infra.kafka import client as kafka
from infra.kafka.batch_producer import BatchProducer
from infra.kafka.group_consumer import GroupConsumer
from infra.settings import Settings, load
from schemas.errors import BrokerError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are named on Linux")


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a broker that is away; a question of it ends soon."""
    monkeypatch.setattr(kafka, "TIMEOUT_S", 0.2)
    monkeypatch.setattr("infra.kafka.batch_producer.PROBE_SECONDS", 0.2)
    address = f"127.0.0.1:{free_ports([None])[0]}"
    return load({"STEPSTREAM_HOME": str(tmp_path), "STEPSTREAM_BOOTSTRAP_SERVERS": address})


def threads_of_clients() -> list[str]:
    """The names of librdkafka's threads in this process."""
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if name.startswith("rdk:")]


def test_a_question_that_fails(away: Settings) -> None:
    """A question ends its client, though the error's traceback holds its frames."""
    before = threads_of_clients()
    with pytest.raises(BrokerError) as error:
        BatchProducer(away)
    assert threads_of_clients() == before, error


def test_a_consumer_that_is_closed(away: Settings) -> None:
    """A consumer of a group ends the client that it asks with: after a failure, and when it is closed."""
    before = threads_of_clients()
    consumer = GroupConsumer(away, "persist", ["telemetry.steps"])
    with pytest.raises(BrokerError) as error:
        consumer.topic_ids()
    consumer.close()
    assert threads_of_clients() == before, error
