"""`forward` ships every spool of a folder to Kafka, also after kills of workers and of itself."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.embedded.kafka import KafkaServer
from infra.kafka import client as kafka
from infra.kafka import topics
from infra.kafka.batch_producer import BatchProducer
from infra.settings import Settings
from producers.forward.forwarder import Forwarder
from producers.forward.service import ForwardService
from producers.forward.stream import Stream
from producers.spool.format import Checkpoint, about_new, iso, now_us
from producers.spool.meta_stream import MetaStream
from producers.spool.writer import SpoolWriter
from schemas.errors import BrokerError
from schemas.topics import Kind
from tests.support.topics import of_stepstream, of_workers, read_topics

SDK = """
import os, sys, time, stepstream
run = stepstream.init(run_id="sdk")
for number in range(30):
    run.step(reward=1.0)
run.flush(); time.sleep(float(sys.argv[1]))
if sys.argv[2] == "die": os.kill(os.getpid(), 9)
"""


def until(holds: Callable[[], Any], seconds: float = 40) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def written(settings: Settings, lines: bytes, *, done: bool, segment_bytes: int = 2**26) -> SpoolWriter:
    """A stream as an SDK leaves it."""
    settings = replace(settings, spool_segment_bytes=segment_bytes)
    spool = SpoolWriter(settings, replace(about_new("sdk", "r", None), owner=False))
    for start in range(0, len(lines), 1000):
        spool.append(lines[start : start + 1000], now_us())
    if done:
        spool.finish()
    return spool


def forwarding(
    settings: Settings, until_holds: Callable[[], Any], load: Callable[[], Settings] | None = None
) -> None:
    """Run a forwarder in this process until a condition holds."""
    service = ForwardService(load or (lambda: settings), threading.Event())
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        until(until_holds)
    finally:
        service.stop()
        thread.join(20)
    assert not thread.is_alive()


def test_what_an_sdk_wrote_while_nothing_ran_is_shipped(
    settings: Settings, spawn_cli: Callable[..., Any]
) -> None:
    """The spool of a live writer is shipped, and `forward` sends its heartbeats while the writer lives."""
    environment = {"STEPSTREAM_HEARTBEAT_SECONDS": "0.3"}
    spawn_cli("forward", env=environment)
    subprocess.run([sys.executable, "-c", SDK, "4", "end"], check=True)
    until(lambda: len(of_workers(read_topics(settings))) == 32)
    own = [item.record["event"] for item in of_stepstream(read_topics(settings, [Kind.RUNS]))]
    assert set(own) == {"heartbeat"}


def test_a_killed_sdk_leaves_a_lost_run(settings: Settings, spawn_cli: Callable[..., Any]) -> None:
    """Everything on disk is shipped, and an event says that the process has ended."""
    spawn_cli("forward")
    subprocess.run([sys.executable, "-c", SDK, "0.5", "die"], check=False)

    def last_words() -> list[Any]:
        own = of_stepstream(read_topics(settings, [Kind.RUNS]))
        return [item for item in own if item.record["event"] != "heartbeat"]

    until(last_words)
    (own,) = last_words()
    assert json.loads(own.record["payload"])["status"] == "lost"
    assert own.record["run_id"] == "sdk"
    assert len([item for item in of_workers(read_topics(settings)) if item.kind is Kind.STEPS]) == 30


def test_segments_are_one_stream(settings: Settings) -> None:
    """Line numbers go on from one segment to the next, and no line is cut."""
    lines = b"".join(b'{"loss": %d}\n' % number for number in range(3000))
    spool = written(settings, lines + b"the last one has no newline", done=True, segment_bytes=5000)
    assert len(list(spool.folder.glob("*.jsonl"))) > 5
    forwarding(settings, lambda: len(of_workers(read_topics(settings))) == 3001)
    found = of_workers(read_topics(settings, [Kind.METRICS]))
    assert {item.record["seq"]: item.record["metrics"] for item in found} == {
        number + 1: f'{{"loss":{number}}}' for number in range(3000)
    }


def test_shipped_streams_are_deleted_after_their_retention(settings: Settings) -> None:
    """Shipped segments of a live stream are deleted, and all of a stream once it is complete."""
    brief = replace(settings, spool_retention_hours=0.0)
    live = written(brief, b'{"loss": 1}\n' * 3000, done=False, segment_bytes=5000)
    done = written(brief, b'{"loss": 1}\n', done=True)
    forwarding(brief, lambda: len(list(live.folder.glob("*.jsonl"))) == 1)
    forwarding(brief, lambda: not done.folder.exists())
    assert len(of_workers(read_topics(settings))) == 3001
    live.close()


def test_what_another_process_ships_is_left_alone(settings: Settings) -> None:
    """`forward` leaves alone a stream that another process ships, and the streams beside it."""
    first = written(settings, b'{"loss": 1}\n', done=True)
    beside = replace(
        about_new("sdk", "r", None), stream_id=f"{first.about.stream_id}.{'0' * 26}", owner=False
    )
    SpoolWriter(settings, beside).finish()
    other = written(settings, b'{"loss": 2}\n', done=True)
    with (first.folder / "ship.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        forwarding(settings, lambda: len(of_workers(read_topics(settings))) == 1)
        assert not (settings.spool_dir / beside.stream_id / "place.json").exists()
    (found,) = of_workers(read_topics(settings))
    assert found.record["stream_id"] == other.about.stream_id


def test_what_a_living_run_writes_is_left_to_it(settings: Settings) -> None:
    """`forward` leaves a stream to its live `run`, even before `run` locks it, and ships it later."""
    own = SpoolWriter(settings, about_new("run", "r", None))
    own.append(b'{"loss": 1}\n', now_us())
    other = written(settings, b'{"loss": 2}\n', done=True)
    forwarding(settings, lambda: len(of_workers(read_topics(settings))) == 1)
    (found,) = of_workers(read_topics(settings))
    assert found.record["stream_id"] == other.about.stream_id
    assert not (own.folder / "ship.lock").exists()
    own.close()
    forwarding(settings, lambda: len(of_workers(read_topics(settings))) == 2)


def test_a_run_whose_end_another_process_writes_holds_up_no_other(settings: Settings) -> None:
    """Where `run` still holds its own stream, `forward` leaves the run's end to it and goes on."""
    ended = SpoolWriter(settings, about_new("sdk", "r", None))
    ended.append(b'{"type":"run_started","run_id":"r"}\n', now_us())
    ended.finish()
    meta = MetaStream(settings, ended.about, "run", lambda: "r")
    later: list[SpoolWriter] = []

    def both_are_shipped() -> bool:
        found = of_workers(read_topics(settings))
        if found and not later:
            until((ended.folder / "done").exists)
            time.sleep(1)  # forward has reached the run's end by now
            later.append(written(settings, b'{"loss": 2}\n', done=True))
        return len(found) == 2

    forwarding(settings, both_are_shipped)
    meta.close()
    assert not of_stepstream(read_topics(settings))


def test_a_spool_that_cannot_be_read_holds_up_no_other(settings: Settings) -> None:
    """`forward` leaves a spool that it cannot read, and ships the others."""
    broken = settings.spool_dir / "01BROKEN"
    broken.mkdir(parents=True)
    (broken / "stream.json").write_text('{"version": 1, "pid": "many"}')
    (settings.spool_dir / "a file").write_text("")
    (settings.spool_dir / "01TORN").mkdir()
    (settings.spool_dir / "01TORN" / "stream.json").write_text('{"vers')
    written(settings, b'{"loss": 1}\n', done=True)
    forwarding(settings, lambda: len(of_workers(read_topics(settings))) == 1)


def test_a_broker_that_answers_late_is_asked_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that answers too late counts as away; its topics' limits are not guessed."""
    topics.ensure_topics(settings)
    with monkeypatch.context() as hurried:
        hurried.setattr(kafka, "TIMEOUT_S", 0)
        with pytest.raises(BrokerError, match="No Kafka broker answers"):
            BatchProducer(settings)
    limits = BatchProducer(settings).limits
    assert limits[Kind.STEPS.topic(settings.topic_prefix)] > 10_000_000


def test_a_topic_that_a_broker_does_not_know_yet_is_asked_for_again(settings: Settings) -> None:
    """A topic that the broker does not know yet is asked for again until it is described."""
    name = f"{settings.topic_prefix}late"
    creation = threading.Timer(0.5, topics.ensure_topic, (settings, name))
    creation.start()
    with kafka.asking(settings) as question:
        found = topics.described(question.client, [name])
    creation.join()
    assert isinstance(found[name], dict)
    assert "max.message.bytes" in found[name]


def test_another_folder(settings: Settings, spawn_cli: Callable[..., Any], tmp_path: Path) -> None:
    """`forward --dir` ships the spools of another folder, as in a sidecar."""
    elsewhere = replace(settings, spool_dir=tmp_path / "elsewhere")
    written(elsewhere, b'{"loss": 1}\n', done=True)
    spawn_cli("forward", "--dir", str(tmp_path / "elsewhere"))
    until(lambda: len(of_workers(read_topics(settings))) == 1)


def test_a_picture_that_waits_its_turn_outlives_a_kill(settings: Settings) -> None:
    """The checkpoint stays before the line of an unsent picture, so that the next forwarder sends it."""
    later = iso(now_us() + 3_600_000_000)  # an hour ahead, so that the second picture keeps waiting
    picture = {"type": "step", "ts": later, "render_payload": {"mode": "ansi", "text": "x"}}
    spool = written(settings, json.dumps(picture).encode() + b"\n", done=False)
    killed, source = Forwarder(lambda: settings), Stream.claim(settings, spool.folder)
    assert source is not None
    killed.streams.append(source)
    until(lambda: not killed.pump() and source.checkpoint.line == 1)
    spool.append((json.dumps(picture) + '\n{"loss": 1}\n').encode(), now_us())
    until(lambda: not killed.pump() and source.checkpoint.line == 3)
    source.release()
    assert pictures(settings) == [1]
    assert Checkpoint.load(spool.folder).line == 1
    spool.finish()
    forwarding(settings, lambda: len(pictures(settings)) == 2)
    assert pictures(settings) == [1, 2]
    assert Checkpoint.load(spool.folder).line == 3


def pictures(settings: Settings) -> list[int]:
    """Lines of the pictures on Kafka."""
    return [item.record["seq"] for item in read_topics(settings, [Kind.FRAMES])]


def test_a_stack_that_comes_back_at_another_address_is_found(
    settings: Settings, kafka_jars: list[Path], tmp_path: Path
) -> None:
    """When the stack moves, records in flight to the old address are sent to the new one."""
    old = KafkaServer(tmp_path / "old", kafka_jars)
    old.start()
    known = [replace(settings, bootstrap_servers=old.address)]
    spool = written(settings, b'{"loss": 1}\n', done=False)

    def moves_and_is_found() -> bool:
        if known[0] is not settings:
            until(lambda: Checkpoint.load(spool.folder).line == 1)
            old.kill()
            spool.append(b'{"loss": 2}\n', now_us())
            time.sleep(0.5)  # the record is in flight by now
            known[0] = settings
        return len(of_workers(read_topics(settings))) == 1

    try:
        forwarding(settings, moves_and_is_found, lambda: known[0])
    finally:
        old.stop()
    (found,) = of_workers(read_topics(settings))
    assert (found.record["seq"], Checkpoint.load(spool.folder).line) == (2, 2)
    spool.close()


def test_a_forwarder_that_is_told_to_stop_drains_its_spools(settings: Settings) -> None:
    """With `--drain` all spools and their ends are shipped after SIGTERM; without it they stay."""
    written(settings, b'{"loss": 1}\n' * 20_000, done=True)
    written(settings, b'{"type": "step", "reward": 1}\n' * 500, done=True)
    stop = threading.Event()
    stop.set()
    ForwardService(lambda: settings, stop).run()
    assert read_topics(settings) == []
    ForwardService(lambda: settings, stop, drain=60).run()
    assert len(of_workers(read_topics(settings))) == 20_500


def test_draining_ends_in_time_without_a_kafka(settings: Settings) -> None:
    """Without a Kafka draining ends after its time, and the lines stay in the spool."""
    away = replace(settings, bootstrap_servers="127.0.0.1:9")
    spool = written(away, b'{"loss": 1}\n', done=True)
    service = ForwardService(lambda: away, threading.Event(), drain=0.5)
    thread = threading.Thread(target=service.run)
    thread.start()
    service.stop()
    thread.join(40)
    assert not thread.is_alive()
    assert list(spool.folder.glob("*.jsonl"))
