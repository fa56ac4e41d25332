"""`ingest` on a real Kafka makes one record of every line, and its summary counts them by kind."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from infra.settings import Settings
from schemas.topics import META_SUFFIX, Kind
from tests.support.fuzzed import fuzzed_lines
from tests.support.topics import numbers_of_streams, of_stepstream, of_workers, places, read_topics

RunCli = Callable[..., subprocess.CompletedProcess[str]]
SAMPLES = Path(__file__).parents[1] / "contract" / "samples"
NAMES = ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters", "frames")

COUNTS = {
    "q-learning_frozenlake_grid.jsonl.gz": {"read": 1320, "steps": 1167, "episodes": 150, "run_events": 3},
    "random_minigrid_rgb.jsonl.gz": {"read": 20, "steps": 12, "run_events": 8},
    "minigrid_mixed_with_log.log.gz": {"read": 371, "steps": 8, "run_events": 3, "logs": 360},
    "monitor_mountaincar.json": {"read": 13, "episodes": 12, "run_events": 1},
    "ppo_cartpole_progress.json": {"read": 126, "metrics": 126},
}


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The object that `--json` prints."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def payloads(settings: Settings) -> list[dict[str, Any]]:
    """The payloads of stepstream's own run events."""
    return [
        json.loads(found.record["payload"]) for found in of_stepstream(read_topics(settings, [Kind.RUNS]))
    ]


@pytest.mark.parametrize("name", COUNTS)
def test_streams_of_real_workers_arrive_whole(name: str, settings: Settings, run_cli: RunCli) -> None:
    """The summary counts what is on Kafka: each line once."""
    said = summary(run_cli("ingest", "--json", str(SAMPLES / name)))
    assert {key: said[key] for key in ("read", *NAMES[:-1])} == dict.fromkeys(NAMES[:-1], 0) | COUNTS[name]
    found = of_workers(read_topics(settings))
    assert len(found) == said["read"] == sum(said[key] for key in NAMES[:-1])
    assert sorted(seq for _, seq in places(found)) == list(range(1, said["read"] + 1))
    assert {item.key.decode() for item in found} == set(said["run_ids"])


def test_a_run_named_late_owns_the_lines_before_it(settings: Settings, run_cli: RunCli) -> None:
    """Lines before the first name of a run belong to that run."""
    lines = ["warming up", '{"loss": 1}', "", '{"type":"step","run_id":"late"}', '{"loss": 2}']
    said = summary(run_cli("ingest", "-", "--json", input="\n".join(lines)))
    assert said["run_ids"] == ["late"]
    assert said["read"] == 5
    assert {item.key for item in of_workers(read_topics(settings))} == {b"late"}


def test_the_options_name_run_and_agent_where_lines_do_not(settings: Settings, run_cli: RunCli) -> None:
    """`--run-id` and `--agent-id` name the lines that have no name of their own."""
    lines = '{"loss": 1}\n{"loss": 2, "run_id": "own", "agent_id": "mine"}\n{"loss": 3}\n'
    said = summary(run_cli("ingest", "--json", "--run-id", "opt", "--agent-id", "a", input=lines))
    assert said["run_ids"] == ["opt", "own"]
    found = sorted(of_workers(read_topics(settings)), key=lambda item: item.record["seq"])
    assert [(item.record["run_id"], item.record["agent_id"]) for item in found] == [
        ("opt", "a"),
        ("own", "mine"),
        ("own", "a"),
    ]


def test_lines_are_bytes_up_to_a_newline(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """A BOM, carriage returns and a last line without newline do not matter; bad UTF-8 does."""
    file = tmp_path / "lines.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"type":"step","reward":1}\r\n{"type":"step","name":"\xff"}\ncaf\xe9\n\n{"type":"step"}'
    )
    said = summary(run_cli("ingest", "--json", str(file)))
    assert {name: said[name] for name in ("read", "steps", "logs", "dead_letters")} == {
        "read": 5,
        "steps": 2,
        "logs": 2,
        "dead_letters": 1,
    }
    letter = next(item.record for item in read_topics(settings, [Kind.DLQ]))
    assert (letter["reason"], letter["seq"], letter["raw"]) == (
        "not_utf8",
        2,
        b'{"type":"step","name":"\xff"}',
    )


def test_a_line_over_the_limit_is_a_dead_letter_with_its_head(
    settings: Settings, run_cli: RunCli, tmp_path: Path
) -> None:
    """A line over the limit is a dead letter with the line's head; the lines around it are records."""
    file = tmp_path / "lines.jsonl"
    long = b'{"type":"step","x":"' + b"x" * 5_000_000 + b'"}'
    file.write_bytes(b'{"loss":1}\n' + long + b'\n{"loss":2}\n')
    said = summary(run_cli("ingest", "--json", str(file), env={"STEPSTREAM_MAX_LINE_BYTES": "3000000"}))
    assert (said["metrics"], said["dead_letters"]) == (2, 1)
    letter = next(item.record for item in read_topics(settings, [Kind.DLQ]))
    assert (letter["reason"], letter["seq"]) == ("too_large", 2)
    assert long.startswith(letter["raw"])
    assert len(letter["raw"]) > 1000


@pytest.mark.timeout(0)
def test_mutated_lines_are_on_kafka_or_among_the_letters(
    settings: Settings, run_cli: RunCli, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each mutated line is on Kafka once, and each dead letter has its reason.

    `--fuzzed=1000000` tries a million.
    """
    count = request.config.getoption("--fuzzed")
    file = tmp_path / "fuzzed.jsonl"
    with file.open("wb") as out:
        out.writelines(line + b"\n" for line in fuzzed_lines(count))
    said = summary(run_cli("ingest", "--force", "--json", str(file), timeout=600 + count / 1000))
    assert said["read"] == sum(said[name] for name in NAMES[:-1]) == count
    numbers = numbers_of_streams(settings)
    (seqs,) = [numbers for stream, numbers in numbers.items() if not stream.endswith(META_SUFFIX)]
    assert sorted(seqs) == list(range(1, count + 1))
    letters = [item.record for item in read_topics(settings, [Kind.DLQ])]
    assert len(letters) == said["dead_letters"]
    assert all(letter["reason"] and letter["message"] for letter in letters)
    print(said, Counter(letter["reason"] for letter in letters))


def test_a_step_of_many_megabytes_is_a_step(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """A step of 40 MB is stored as a step, as there is no limit below 64 MiB."""
    file = tmp_path / "long.jsonl"
    noise = random.Random(1).randbytes(20_000_000).hex()
    file.write_text(f'{{"type":"step","observation":"{noise}","reward":1}}\n{{"loss":2}}\n')
    said = summary(run_cli("ingest", "--json", str(file)))
    assert (said["steps"], said["metrics"], said["dead_letters"]) == (1, 1, 0)
    (step,) = [item.record for item in read_topics(settings, [Kind.STEPS])]
    assert step["observation"] == f'"{noise}"'


@pytest.mark.parametrize("limit", [3000, 1_000_000])
def test_a_record_too_large_for_its_topic_is_a_dead_letter(
    limit: int, settings: Settings, run_cli: RunCli
) -> None:
    """A record too large for its topic is a dead letter, and costs no record of its batch or behind it."""
    noise = random.Random(1).randbytes(600_000).hex()
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    small = NewTopic(Kind.STEPS.topic(settings.topic_prefix), 1, 1, config={"max.message.bytes": str(limit)})
    admin.create_topics([small])[small.topic].result(10)
    step = '{"type":"step","reward":1}\n'
    lines = step * 50 + f'{{"type":"step","x":"{noise}"}}\n' + step * 50
    said = summary(run_cli("ingest", "--json", input=lines))
    assert (said["read"], said["steps"], said["dead_letters"]) == (101, 100, 1)
    found = of_workers(read_topics(settings))
    assert sorted(seq for _, seq in places(found)) == list(range(1, 102))
    (letter,) = [item.record for item in found if item.kind is Kind.DLQ]
    assert (letter["seq"], letter["reason"]) == (51, "too_large")


@pytest.mark.parametrize(
    ("line", "status"),
    [('{"type":"run_started","run_id":"r"}', "lost"), ('{"loss":1,"run_id":"r"}', "completed")],
)
def test_the_end_of_a_file_says_how_the_run_stands(
    line: str, status: str, settings: Settings, run_cli: RunCli
) -> None:
    """At the file's end a run that began is `lost`; a run without a life cycle is `completed`."""
    run_cli("ingest", input=line)
    assert [said["status"] for said in payloads(settings) if said.get("event") == "stream_ended"] == [status]


def test_a_run_that_ended_is_not_spoken_of(settings: Settings, run_cli: RunCli) -> None:
    """`ingest` adds no event of its own to a run whose end the worker has reported."""
    run_cli("ingest", input='{"type":"run_started"}\n{"type":"run_completed"}\n')
    assert payloads(settings) == []


def test_pictures_go_to_frames_and_not_into_steps(settings: Settings, run_cli: RunCli) -> None:
    """Pictures go to the frames topic as WebP with their width; steps hold no pixels."""
    said = summary(run_cli("ingest", "--json", str(SAMPLES / "random_minigrid_rgb.jsonl.gz")))
    found = read_topics(settings)
    frames = [item.record for item in found if item.kind is Kind.FRAMES]
    assert len(frames) == said["frames"] > 0
    assert all(frame["data"][8:12] == b"WEBP" and frame["width"] == 160 for frame in frames)
    assert len(frames) + sum(frame["thinned"] for frame in frames) == 15
    assert all(len(json.dumps(item.record["extras"])) < 1000 for item in found if item.kind is Kind.STEPS)


def test_ingested_again_a_file_is_another_stream(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """With `--again` a file becomes another stream; without it the file is reported and left out."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"loss":1,"run_id":"r"}\n')
    run_cli("ingest", str(file))
    assert "was ingested before (r): left out" in run_cli("ingest", str(file)).stderr
    run_cli("ingest", "--again", str(file))
    assert len({stream for stream, _ in places(of_workers(read_topics(settings)))}) == 2


def test_several_files_are_several_streams(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """Each of several files becomes a stream, and one summary counts all of them."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(f'{{"loss":1,"run_id":"{name}"}}\nlog\n')
    said = summary(run_cli("ingest", "--json", str(tmp_path / "a"), str(tmp_path / "b")))
    assert (said["read"], said["run_ids"]) == (4, ["a", "b"])
    assert (
        Counter(stream for stream, _ in places(of_workers(read_topics(settings)))).most_common(1)[0][1] == 2
    )


def test_binary_files_are_refused_unless_forced(settings: Settings, run_cli: RunCli, tmp_path: Path) -> None:
    """A file with a NUL byte in its first 4 KiB is refused, unless `--force` is given."""
    file = tmp_path / "model.pt"
    file.write_bytes(b"PK\0\0\n" * 10)
    done = run_cli("ingest", str(file))
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert summary(run_cli("ingest", "--force", "--json", str(file)))["logs"] == 10


@pytest.mark.parametrize("arguments", [("no-such-file",), ("/",)])
def test_wrong_use_is_one_sentence(arguments: tuple[str, ...], settings: Settings, run_cli: RunCli) -> None:
    """A missing file or a folder gives one sentence, no traceback, and exit code 2."""
    done = run_cli("ingest", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_without_any_kafka_it_says_what_to_do(home: Path, run_cli: RunCli) -> None:
    """Without a Kafka in the settings `ingest` exits with 2 and names `stepstream up`."""
    done = run_cli("ingest", input='{"loss":1}\n')
    assert done.returncode == 2
    assert "stepstream up" in done.stderr


def test_while_no_broker_answers_lines_wait_in_the_spool(
    settings: Settings, run_cli: RunCli, spawn_cli: Callable[..., Any], home: Path
) -> None:
    """Without an answer `--timeout` ends `ingest` with 1; `forward` ships the lines later."""
    away = {"STEPSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = run_cli("ingest", "--json", "--timeout", "2", input='{"loss":1,"run_id":"r"}\n', env=away)
    assert done.returncode == 1
    assert "waiting for Kafka" in done.stderr
    (stream,) = {path.parent.name for path in (home / "spool").glob("*/*1.jsonl") if "meta" not in str(path)}
    assert of_workers(read_topics(settings)) == []
    spawn_cli("forward")
    until(lambda: list(places(of_workers(read_topics(settings)))) == [(stream, 1)])


def test_follow_goes_on_with_what_is_appended(
    settings: Settings, spawn_cli: Callable[..., Any], tmp_path: Path
) -> None:
    """`--follow` reads what is appended until Ctrl-C, and then ends as at the end of a file."""
    file = tmp_path / "grows.jsonl"
    file.write_text('{"loss":1,"run_id":"r"}\n')
    child = spawn_cli("ingest", "--follow", "--json", str(file))
    until(lambda: len(of_workers(read_topics(settings))) == 1)
    with file.open("a") as more:
        more.write('{"loss":2}\n')
    until(lambda: len(of_workers(read_topics(settings))) == 2)
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 0
    assert json.loads(child.log.read_text().splitlines()[-1])["metrics"] == 2


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_gzip_cut_short_is_shipped_as_far_as_it_goes(
    settings: Settings, run_cli: RunCli, tmp_path: Path
) -> None:
    """Of a gzip file that is cut short the readable lines are shipped, and a message says so."""
    file = tmp_path / "cut.gz"
    file.write_bytes(gzip.compress(b'{"loss":1}\n' * 100_000)[:-20])
    done = run_cli("ingest", "--json", str(file))
    assert "cannot be read to its end" in done.stderr
    assert summary(done)["read"] > 0
