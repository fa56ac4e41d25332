"""Replay reads a run back from Kafka: whole, in the workers' order, from any place to any other."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli import main
from infra.kafka import client as kafka
from infra.kafka import topics
from infra.settings import Settings
from schemas.codec import Encoder
from schemas.topics import Kind

START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
EPISODE_LINES = 5

Cli = Callable[..., subprocess.CompletedProcess[str]]
Here = Callable[..., subprocess.CompletedProcess[str]]


def micros(seq: int) -> int:
    """Event time of a line: a millisecond after the one before."""
    return int(START.timestamp()) * 1_000_000 + seq * 1_000


def identity(run: str, stream: str, seq: int) -> dict[str, Any]:
    """The first fields of any record."""
    return {
        "run_id": run,
        "stream_id": stream,
        "seq": seq,
        "agent_id": "walker",
        "worker_id": None,
        "event_time": micros(seq),
    }


def step(run: str, stream: str, seq: int, episode: int, index: int) -> dict[str, Any]:
    """A step record."""
    return identity(run, stream, seq) | {
        "episode_index": episode,
        "step_index": index,
        "observation": "[0.1, 2]",
        "action": "1",
        "reward": 1.0,
        "terminated": False,
        "truncated": None,
        "info": None,
        "metrics": '{"epsilon": 0.5}',
        "extras": '{"note": "as it came"}',
    }


def episode(run: str, stream: str, seq: int, index: int) -> dict[str, Any]:
    """An episode record; that of episode 1 has no number for a return."""
    return identity(run, stream, seq) | {
        "episode_index": index,
        "episode_return": float("nan") if index == 1 else 4.0,
        "episode_length": EPISODE_LINES - 1,
        "terminated": True,
        "truncated": False,
        "seed": None,
        "duration": None,
        "elapsed": None,
        "metrics": None,
        "extras": None,
    }


def log_line(run: str, stream: str, seq: int, line: str) -> dict[str, Any]:
    """A log record."""
    return identity(run, stream, seq) | {"source": "stdout", "line": line}


def letter(run: str, stream: str, seq: int, raw: bytes) -> dict[str, Any]:
    """A dead letter."""
    return identity(run, stream, seq) | {
        "reason": "broken_json",
        "field": None,
        "message": "It is cut off.",
        "raw": raw,
        "topic": None,
        "topic_partition": None,
        "topic_offset": None,
        "producer_version": "0.1.0",
    }


def run_of(run: str, stream: str, episodes: int) -> list[tuple[Kind, dict[str, Any]]]:
    """Episodes of four steps and their end, then a log line and a dead letter: every seq from 1, once."""
    records: list[tuple[Kind, dict[str, Any]]] = []
    for number in range(episodes):
        first = number * EPISODE_LINES + 1
        records += [(Kind.STEPS, step(run, stream, first + i, number, i)) for i in range(EPISODE_LINES - 1)]
        records.append((Kind.EPISODES, episode(run, stream, first + EPISODE_LINES - 1, number)))
    last = episodes * EPISODE_LINES
    records.append((Kind.LOGS, log_line(run, stream, last + 1, "saved, bye")))
    records.append((Kind.DLQ, letter(run, stream, last + 2, b'{"type": "st')))
    return records


@pytest.fixture
def send(settings: Settings) -> Callable[[list[tuple[Kind, dict[str, Any]]]], None]:
    """Puts records on Kafka."""
    topics.ensure_topics(settings)
    encoders = {kind: Encoder(kind) for kind in Kind}
    producer = kafka.producer(settings)

    def send(records: list[tuple[Kind, dict[str, Any]]]) -> None:
        for kind, record in records:
            value = encoders[kind](record)
            producer.produce(kind.topic(settings.topic_prefix), value, record["run_id"])
        assert producer.flush(30) == 0

    return send


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run `stepstream replay …` in this process, which starts no new one."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr("sys.argv", ["stepstream", "replay", *arguments])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capfd.readouterr()
        code = end.value.code if isinstance(end.value.code, int) else 0
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


def seqs(done: subprocess.CompletedProcess[str]) -> list[int]:
    """Line numbers, computed from the lines' own times; log lines and letters have none."""
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
    moments = (datetime.fromisoformat(event["ts"]) for event in events)
    return [round((moment - START) / timedelta(milliseconds=1)) for moment in moments]


def test_lines_come_in_the_workers_order_over_all_topics(send: Any, run_cli: Cli) -> None:
    """Steps, episodes, log lines and dead letters are interleaved as they were written."""
    send(run_of("r1", "s1", episodes=3))
    done = run_cli("replay", "r1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert seqs(done) == list(range(1, 16))
    assert lines[-2:] == ["saved, bye", '{"type": "st']
    assert json.loads(lines[0]) == {
        "type": "step",
        "ts": "2026-11-24T08:00:00.001000Z",
        "run_id": "r1",
        "agent_id": "walker",
        "episode_index": 0,
        "step_index": 0,
        "observation": [0.1, 2],
        "action": 1,
        "reward": 1.0,
        "terminated": False,
        "metrics": {"epsilon": 0.5},
        "extras": {"note": "as it came"},
    }
    assert '"episode_return":NaN' in lines[9]


def test_what_was_sent_twice_or_late_is_played_once_and_in_its_place(send: Any, here: Here) -> None:
    """A window sent again, a record sent late and a redriven letter change nothing."""
    records = run_of("r1", "s1", episodes=2)
    late = records.pop(3)
    send(records)
    send([late, *records[2:7]])
    send([(Kind.LOGS, log_line("r1", "s1", 12, "mended"))])
    done = here("r1")
    assert seqs(done) == list(range(1, 11))
    assert done.stdout.splitlines()[-2:] == ["saved, bye", "mended"]


def test_only_the_run_asked_for_is_played(send: Any, here: Here) -> None:
    """Only the run that is asked for is played, and its streams are merged by time."""
    send(run_of("r1", "s1", episodes=1) + run_of("r2", "s2", episodes=2) + run_of("r1", "s3", episodes=1))
    done = here("r1")
    assert seqs(done) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert '"run_id":"r2"' not in done.stdout


def test_stepstreams_own_records_are_played_when_asked_for(send: Any, here: Here) -> None:
    """stepstream's own records, in the stream `.meta`, are played only with `--meta`."""
    started = identity("r1", "s1.meta", 1) | {
        "event_time": micros(0),
        "event": "run_started",
        "payload": '{"host": "h"}',
    }
    send([(Kind.RUNS, started), *run_of("r1", "s1", episodes=1)])
    without, with_meta = here("r1"), here("r1", "--meta")
    assert seqs(without) == [1, 2, 3, 4, 5]
    assert with_meta.returncode == 0, with_meta.stderr
    first = json.loads(with_meta.stdout.splitlines()[0])
    assert (first["type"], first["host"]) == ("run_started", "h")


POSITIONS: list[tuple[str, range]] = [
    ("--from beginning", range(1, 16)),
    ("--from end", range(0)),
    ("--from seq:7", range(7, 16)),
    ("--from seq:7 --to seq:9", range(7, 10)),
    ("--from episode:1", range(6, 16)),
    ("--from episode:1 --to episode:1", range(6, 11)),
    ("--to episode:0", range(1, 6)),
    ("--from time:2026-11-24T08:00:00.004", range(4, 16)),
    ("--from time:2026-11-24T09:00:00.004+01:00 --to time:2026-11-24T08:00:00.006Z", range(4, 7)),
    ("--from offset:STEPS:5", range(7, 16)),  # the sixth step is the seventh line
    ("--from offset:STEPS:5 --to offset:episodes:EPISODES:1", range(7, 11)),
    ("--from offset:PREFIXepisodes:EPISODES:2", range(15, 16)),
]


def test_positions(send: Any, settings: Settings, here: Here, subtests: pytest.Subtests) -> None:
    """`--from` is the first line played, `--to` the last; an offset is of steps unless it names a topic."""
    send(run_of("r1", "s1", episodes=3))
    for arguments, expected in POSITIONS:
        with subtests.test(arguments):
            assert seqs(here("r1", *with_partitions(settings, arguments))) == list(expected)


def with_partitions(settings: Settings, arguments: str) -> list[str]:
    """The arguments, with the partitions where the run's records lie."""
    for kind in (Kind.STEPS, Kind.EPISODES):
        arguments = arguments.replace(f":{kind.name}:", f":{partition_of(settings, 'r1', kind)}:")
    return arguments.replace("PREFIX", settings.topic_prefix).split()


def partition_of(settings: Settings, run: str, kind: Kind) -> int:
    """The partition that holds a run's records of a kind."""
    from infra.kafka.log_reader import LogReader

    reader = LogReader(settings, [kind], run)
    try:
        return next(entry.partition for batch in reader.present() for entry in batch)
    finally:
        reader.close()


WRONG: list[tuple[str, int, str]] = [
    ("nobody", 1, "Kafka holds nothing of a run 'nobody'"),
    ("r1 --from offset:STEPS:13", 1, "holds the offsets 0 to 11 of the run: 13 is outside"),
    ("r1 --from offset:77:0", 2, "has the partitions 0 to 3; there is no 77"),
    (
        "r1 --from seq:99",
        1,
        "holds lines 1 to 17, episodes 0 to 2, steps 0 to 11, times 2026-11-24T08:00:00.001",
    ),
    ("r1 --from episode:3", 1, "episodes 0 to 2"),
    ("r1 --from yesterday", 2, "'yesterday' is no position"),
    ("r1 --from offset:steps", 2, "offset takes PARTITION:N or TOPIC:PARTITION:N"),
    ("r1 --from offset:stairs:0:1", 2, "'stairs' is no topic"),
    ("r1 --from seq:-1", 2, "'-1' is no whole number"),
    ("r1 --from time:noon", 2, "'noon' is no ISO-8601 time"),
    ("r1 --speed 0", 2, "neither max nor a factor above 0"),
    ("r1 --output csv", 2, "none of jsonl, dashboard, topic:NAME, sql:URL or null"),
]


def test_wrong_use_is_one_sentence(
    send: Any, settings: Settings, here: Here, subtests: pytest.Subtests
) -> None:
    """Wrong use of `replay` gives one sentence that says what is wrong and what would be right."""
    send(run_of("r1", "s1", episodes=3))
    for arguments, code, says in WRONG:
        with subtests.test(arguments):
            done = here(*with_partitions(settings, arguments))
            assert (done.returncode, done.stdout) == (code, "")
            assert says in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_speed_is_a_factor_of_the_runs_own(send: Any, here: Here) -> None:
    """With `--speed 50` lines that are a second apart take at least a fiftieth of their time."""
    records = run_of("r1", "s1", episodes=3)
    for kind, record in records:
        record["event_time"] = micros(record["seq"] * 1000)
        assert kind
    send(records)
    begin = time.monotonic()
    done = here("r1", "--speed", "50")
    assert time.monotonic() - begin >= 16 / 50
    assert len(done.stdout.splitlines()) == 17


def test_a_run_that_goes_on_is_followed(
    send: Any, spawn_cli: Callable[..., subprocess.Popen[bytes]], wait_for_lines: Any
) -> None:
    """`--follow` plays new lines as they come, in order, and a late line before those that wait for it."""
    records = run_of("r1", "s1", episodes=6)
    send(records[:7])
    child = spawn_cli("replay", "r1", "--follow", "--from", "seq:3", "--to", "seq:30")
    assert wait_for_lines(child, 5)
    send(records[8:15])
    send(records[7:8])
    assert wait_for_lines(child, 13)
    send(records[15:])
    assert child.wait(30) == 0
    moments = [json.loads(line)["ts"] for line in printed(child)]
    assert moments == [f"2026-11-24T08:00:00.{seq:03}000Z" for seq in range(3, 31)]


def test_ctrl_c_ends_following(
    send: Any, spawn_cli: Callable[..., subprocess.Popen[bytes]], wait_for_lines: Any
) -> None:
    """Ctrl-C ends `replay --follow` with exit code 130 and no traceback."""
    send(run_of("r1", "s1", episodes=1))
    child = spawn_cli("replay", "r1", "--follow")
    assert wait_for_lines(child, 7)
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 130
    assert "Traceback" not in child.log.read_text()  # type: ignore[attr-defined]


def printed(child: Any) -> list[str]:
    """A child's lines on stdout; those on stderr have its name before them."""
    return [line for line in child.log.read_text().splitlines() if not line.startswith("stepstream: ")]


@pytest.fixture
def wait_for_lines() -> Callable[[Any, int], bool]:
    """Waits until a child has printed so many lines."""

    def wait(child: Any, count: int) -> bool:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if len(printed(child)) >= count:
                return True
            time.sleep(0.05)
        return False

    return wait


def test_a_reader_that_leaves_early_ends_it_quietly(send: Any, home: Any) -> None:
    """`replay | head` prints no traceback."""
    send(run_of("r1", "s1", episodes=2000))
    from tests.conftest import PROGRAM

    pipe = f"{PROGRAM} replay r1 | head -n 2"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, timeout=60)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""
