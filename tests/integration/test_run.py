"""`run`: the worker's output, signals and exit code pass through, and every line reaches a real Kafka."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from producers.spool.format import Checkpoint
from schemas.topics import META_SUFFIX, Kind
from tests.support.topics import Found, of_stepstream, of_workers, places, read_topics

PROGRAM = Path(sys.executable).with_name("stepstream")
RunCli = Callable[..., subprocess.CompletedProcess[str]]
SDK = """
import stepstream
run = stepstream.init(config={"lr": 0.1})
for number in range(20):
    run.step(reward=1.0, terminated=number % 10 == 9)
run.log({"loss": 0.5})
print("done")
"""


def python(code: str) -> list[str]:
    """A worker in Python."""
    return ["--", sys.executable, "-c", code]


def events(found: list[Found]) -> dict[str, dict[str, Any]]:
    """The events that stepstream itself wrote of a run, by name."""
    own = [item.record for item in of_stepstream(found) if item.kind is Kind.RUNS]
    return {record["event"]: {"run_id": record["run_id"]} | json.loads(record["payload"]) for record in own}


def until(holds: Callable[[], Any], seconds: float = 40) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_output_and_exit_code_pass_through(settings: Settings, run_cli: RunCli) -> None:
    """`run --json` passes on stdout, stderr and exit code, and prints a summary at the end."""
    code = "import sys; print('hello'); print('{\"loss\": 0.5}', end='');"
    code += "print('oh', file=sys.stderr); sys.exit(3)"
    done = run_cli("run", "--json", *python(code))
    assert done.returncode == 3
    assert done.stdout == 'hello\n{"loss": 0.5}'
    assert "oh\n" in done.stderr
    said = json.loads(done.stderr.splitlines()[-1])
    assert {name: said[name] for name in ("read", "metrics", "logs")} == {"read": 2, "metrics": 1, "logs": 1}
    found = read_topics(settings)
    assert len(of_workers(found)) == 2
    assert {item.record["run_id"] for item in found} == set(said["run_ids"])
    stderr = [item.record for item in of_stepstream(found) if item.kind is Kind.LOGS]
    assert [(record["source"], record["line"]) for record in stderr] == [("stderr", "oh")]
    failed = events(found)["run_failed"]
    assert (failed["exit_code"], failed["last_stderr"]) == (3, ["oh"])
    started = events(found)["run_started"]
    assert started["host"]
    assert started["command"][0] == sys.executable


def test_the_worker_names_its_run_and_our_records_follow(settings: Settings, run_cli: RunCli) -> None:
    """stepstream's own records belong to the run that the worker names, also those written before."""
    code = 'import time; print(\'starting\'); time.sleep(0.5); print(\'{"type":"step","run_id":"mine"}\')'
    done = run_cli("run", "--json", *python(code))
    assert json.loads(done.stderr.splitlines()[-1])["run_ids"] == ["mine"]
    found = read_topics(settings)
    assert {item.key for item in found} == {b"mine"}
    assert events(found)["run_completed"]["exit_code"] == 0


def test_what_the_worker_says_of_its_end_stands(settings: Settings, run_cli: RunCli) -> None:
    """A worker that reports its own end gets no second end."""
    code = 'import sys; print(\'{"type":"run_failed","reason":"diverged"}\'); sys.exit(0)'
    run_cli("run", *python(code))
    assert events(read_topics(settings)).keys() == {"run_started"}


def test_the_sdk_in_the_worker_and_its_prints_are_one_run(settings: Settings, run_cli: RunCli) -> None:
    """Streams that the SDK writes below `run` are shipped, and the summary counts them."""
    done = run_cli("run", "--json", "--run-id", "given", *python(SDK))
    said = json.loads(done.stderr.splitlines()[-1])
    assert done.stdout == "done\n"
    assert (said["steps"], said["episodes"], said["logs"], said["run_ids"]) == (20, 2, 1, ["given"])
    found = read_topics(settings)
    assert {item.key for item in found} == {b"given"}
    assert len(of_workers(found)) == said["read"]
    generated = run_cli("run", "--json", *python(SDK))
    assert len(json.loads(generated.stderr.splitlines()[-1])["run_ids"]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_pass_through(
    number: signal.Signals, settings: Settings, spawn_cli: Callable[..., Any]
) -> None:
    """A signal n reaches the worker: the exit code is 128 + n, and the run is cancelled."""
    child = spawn_cli("run", *python("import time; print('up', flush=True); time.sleep(60)"))
    until(lambda: "up" in child.log.read_text())
    child.send_signal(number)
    assert child.wait(20) == 128 + number
    until(lambda: "run_cancelled" in events(read_topics(settings)))


def test_a_worker_that_is_killed_has_failed(settings: Settings, run_cli: RunCli) -> None:
    """A worker killed by SIGKILL gives exit code 137 and a failed run with its last stderr lines."""
    code = "import os, sys; print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    assert run_cli("run", *python(code)).returncode == 137
    failed = events(read_topics(settings))["run_failed"]
    assert failed["signal"] == "SIGKILL"
    assert failed["last_stderr"] == ["last words"]


def test_a_program_that_is_missing(settings: Settings, run_cli: RunCli) -> None:
    """A missing program gives exit code 127, a message that names it, and a failed run."""
    done = run_cli("run", "--", "no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr
    assert "Traceback" not in done.stderr
    assert "run_failed" in events(read_topics(settings))


def test_without_a_command(home: Path, run_cli: RunCli) -> None:
    """`run` without a command exits with 2 and one sentence."""
    done = run_cli("run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_without_any_kafka_training_goes_on(home: Path, run_cli: RunCli) -> None:
    """Without a Kafka the worker runs on; its lines stay in the spool, and a message says so."""
    done = run_cli("run", *python("print('x')"))
    assert (done.returncode, done.stdout) == (0, "x\n")
    assert "stay in" in done.stderr
    assert [path.read_text() for path in (home / "spool").glob("*/*.jsonl") if "meta" not in str(path)] == [
        "x\n"
    ]


def test_a_silent_worker_is_heard(settings: Settings, run_cli: RunCli) -> None:
    """`run` sends heartbeats also while the worker prints nothing."""
    run_cli("run", *python("import time; time.sleep(1.5)"), env={"STEPSTREAM_HEARTBEAT_SECONDS": "0.3"})
    own = [item.record["event"] for item in of_stepstream(read_topics(settings)) if item.kind is Kind.RUNS]
    assert own.count("heartbeat") >= 3


def test_a_background_child_that_keeps_the_pipe_does_not_keep_us(settings: Settings, run_cli: RunCli) -> None:
    """`run` ends when its worker ends, though a child still holds the pipe."""
    done = run_cli("run", "--", "sh", "-c", "sleep 50 & echo bye", timeout=40)
    assert (done.returncode, done.stdout) == (0, "bye\n")


def test_stdout_that_nobody_reads_any_more_ends_nothing(settings: Settings, home: Path) -> None:
    """The worker goes on when nobody reads stdout any more, as in `stepstream run … | head -1`."""
    code = "for i in range(20000): print('{\"loss\": %d}' % i)"
    program = Path(sys.executable).with_name("stepstream")
    command = f'{program} run -- {sys.executable} -c "$CODE" | head -1'
    subprocess.run(
        command, shell=True, env=os.environ | {"CODE": code}, stdout=subprocess.DEVNULL, timeout=60
    )
    assert len(of_workers(read_topics(settings))) == 20000


def test_an_announced_run_ends_also_where_its_lines_name_another(
    settings: Settings, spawn_cli: Callable[..., Any], tmp_path: Path
) -> None:
    """The run of `--run-id` and the run that the lines name both have heartbeats and then an end."""
    over = tmp_path / "over"
    code = f"import pathlib, time\nwhile not pathlib.Path({str(over)!r}).exists():\n"
    code += ' print(\'{"type":"step","run_id":"theirs","reward":1}\')\n time.sleep(0.1)'
    run = spawn_cli("run", "--run-id", "ours", *python(code), env={"STEPSTREAM_HEARTBEAT_SECONDS": "0.3"})

    def said(run_id: str) -> list[str]:
        own = [item.record for item in of_stepstream(read_topics(settings)) if item.kind is Kind.RUNS]
        return [record["event"] for record in own if record["run_id"] == run_id]

    until(lambda: all(said(run_id).count("heartbeat") >= 2 for run_id in ("ours", "theirs")))
    over.touch()
    assert run.wait(60) == 0
    assert [said(run_id).count("run_completed") for run_id in ("ours", "theirs")] == [1, 1]
    assert said("ours")[0] == "run_started"


def test_an_announced_run_ends_also_where_run_is_killed(
    settings: Settings, spawn_cli: Callable[..., Any], home: Path
) -> None:
    """After a kill of `run`, `forward` marks the announced run and the run of the lines as lost."""
    code = 'import time\nprint(\'{"type":"step","run_id":"theirs","reward":1}\')\ntime.sleep(60)'
    run = spawn_cli("run", "--run-id", "ours", *python(code))
    until(lambda: acknowledged(home) == 1)
    run.kill()
    run.wait()
    spawn_cli("forward")

    def ended() -> set[str]:
        own = [item.record for item in of_stepstream(read_topics(settings)) if item.kind is Kind.RUNS]
        return {record["run_id"] for record in own if '"status":"lost"' in record["payload"].replace(" ", "")}

    until(lambda: ended() == {"ours", "theirs"})


PRINTS = (
    "import json, sys\nfor i in range(3000): print(json.dumps({'type': 'step', 'step': i, 'reward': 1.0}))\n"
)


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_closed_standard_streams_are_dev_null(home: Path, closed: str) -> None:
    """With closed streams the spool holds exactly what the worker prints."""
    close = " ".join(f"{number}{'<' if number == '0' else '>'}&-" for number in closed)
    command = f'{PROGRAM} run --run-id r -- {sys.executable} -c "$CODE" {close}'
    done = subprocess.run(
        command, shell=True, env=os.environ | {"CODE": PRINTS}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    (worker,) = [path for path in (home / "spool").iterdir() if not path.name.endswith(META_SUFFIX)]
    lines = b"".join(path.read_bytes() for path in sorted(worker.glob("*.jsonl"))).splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(3000))
    for folder in (home / "spool").iterdir():
        assert (folder / "writer.lock").read_bytes() == (folder / "ship.lock").read_bytes() == b""
    assert done.stdout.count("\n") == (0 if "1" in closed else 3000)
    assert ("3,000 lines read" in done.stderr) == ("2" not in closed)


@pytest.mark.parametrize("command", ["", "db", "topics create"])
def test_every_command_takes_closed_standard_streams(home: Path, command: str) -> None:
    """Every command works with closed standard streams: it opens them on /dev/null first."""
    done = subprocess.run(f"{PROGRAM} {command} --help <&- >&- 2>&-", shell=True, timeout=120)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("command", "home_is"),
    [
        ("run -- true", "/proc/nope"),
        ("run -- true", "/etc/passwd"),
        ("up", "/dev/null/x"),
        ("forward", "/proc/nope"),
        ("db upgrade", "/proc/nope"),
    ],
)
def test_an_impossible_home_is_one_sentence(run_cli: RunCli, command: str, home_is: str) -> None:
    """A home that cannot be used gives one sentence that names the folder, and no traceback."""
    env = {"STEPSTREAM_HOME": home_is, "STEPSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    done = run_cli(*command.split(), env=env)
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 2)
    assert home_is in done.stderr
    assert "STEPSTREAM_HOME" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_killed_at_any_moment_nothing_spooled_is_lost(
    settings: Settings, spawn_cli: Callable[..., Any], home: Path, strikes: Callable[[int], int]
) -> None:
    """`forward` goes on where a killed `run` or `forward` stopped; a repeated record equals the first."""
    code = "import time\nfor i in range(10**6):\n print('{\"loss\": %d}' % i)\n"
    code += " if i % 50 == 0: time.sleep(0.01)"
    for _ in range(strikes(2)):
        run = spawn_cli("run", "--quiet", "--run-id", "r", *python(code))
        before = acknowledged(home)
        until(lambda before=before: acknowledged(home) > before)
        time.sleep(random.uniform(0, 1))
        run.kill()
        forward = spawn_cli("forward")
        time.sleep(random.uniform(0.3, 2))
        forward.kill()
        forward.wait()
    spawn_cli("forward")
    spooled = {
        path.parent.name: path.read_bytes().count(b"\n") + (not path.read_bytes().endswith(b"\n"))
        for path in (home / "spool").glob("*/*.jsonl")
        if META_SUFFIX not in path.parent.name
    }
    until(lambda: acknowledged(home) == sum(spooled.values()), 120)
    found = of_workers(read_topics(settings))
    assert places(found).keys() == {
        (name, seq) for name, count in spooled.items() for seq in range(1, count + 1)
    }
    by_place: dict[tuple[str, int], dict[str, Any]] = {}
    for item in found:
        assert by_place.setdefault((item.record["stream_id"], item.record["seq"]), item.record) == item.record
    print(f"{len(found)} records of {len(by_place)} lines in {len(spooled)} streams")
    until(lambda: events(read_topics(settings)).get("other", {}).get("status") == "lost")


def acknowledged(home: Path) -> int:
    """Lines of workers that Kafka has acknowledged."""
    folders = [folder for folder in (home / "spool").glob("*") if META_SUFFIX not in folder.name]
    return sum(Checkpoint.load(folder).line for folder in folders)
