"""Replay on a terminal: stopped and resumed, step by step, in a loop, with a bar. From SQL alone."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from consumers.replay.sink_live import DashboardSink
from consumers.replay.sink_sql import SqlSink
from dashboard.live.buffer import LiveBuffer
from infra.history.items import Item, Records
from infra.settings import Settings, load
from schemas.codec import Encoder, checked_in
from schemas.topics import Kind
from tests.conftest import PROGRAM
from tests.support.replays import Lines, lines_of

Cli = Callable[..., subprocess.CompletedProcess[str]]
SOURCE = ("--source", "sql")


def items_of(lines: Lines) -> list[Item]:
    """Records as they lie on Kafka."""
    encoders, offsets = {kind: Encoder(kind) for kind in Kind}, {kind: count() for kind in Kind}
    return [
        Item(
            kind,
            fields["stream_id"],
            fields["seq"],
            fields["event_time"],
            fields["agent_id"],
            0,
            next(offsets[kind]),
            fields["event_time"] // 1000,
            encoders[kind](fields),
        )
        for kind, fields in lines
    ]


@pytest.fixture
def stored(home: Path) -> Callable[[Lines], None]:
    """Puts a run `r` into the home's SQLite."""
    settings = load()

    def store(lines: Lines) -> None:
        sink = SqlSink(settings, settings.sql_url, Records("r", checked_in), "r")
        sink.write(items_of(lines))
        sink.close()

    return store


@contextmanager
def spawned(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A replay in the background."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    child = subprocess.Popen([PROGRAM, "replay", "r", *SOURCE, *arguments], **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: our end and the program's."""
    ours, its = pty.openpty()
    try:
        yield ours, its
    finally:
        os.close(ours)
        os.close(its)


def read_until(file: int, words: bytes, seconds: float = 30) -> bytes:
    """Read the output up to these words."""
    seen, until = b"", time.monotonic() + seconds
    while words not in seen:
        assert time.monotonic() < until, seen
        if select.select([file], [], [], 0.1)[0]:
            seen += os.read(file, 65536)
    return seen


@pytest.mark.parametrize("streams", [1, 2])
def test_ctrl_c_says_how_to_go_on(stored: Any, run_cli: Cli, streams: int) -> None:
    """After Ctrl-C replay ends on a whole line, and prints a command that plays exactly the rest."""
    lines = [line for n in range(streams) for line in lines_of("r", f"s{n}", 200, every=5_000)]
    stored(lines)
    whole = run_cli("replay", "r", *SOURCE).stdout
    with spawned("--speed", "5") as child:
        out, said = _stopped(child)
    assert out.endswith(b"\n")
    assert 0 < out.count(b"\n") < whole.count("\n")
    [command] = [line for line in said.decode().splitlines() if "go on with: " in line]
    words = shlex.split(command.partition("go on with: ")[2])
    assert words[:3] == ["stepstream", "replay", "r"]
    assert "--speed" in words
    words[words.index("--speed") + 1] = "max"
    rest = subprocess.run([PROGRAM, *words[1:]], capture_output=True, text=True, timeout=60, check=True)
    assert out.decode() + rest.stdout == whole


def _stopped(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Send Ctrl-C to a replay in the middle of its lines, and return its stdout and stderr."""
    assert child.stdout is not None
    first = os.read(child.stdout.fileno(), 65536)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    rest, said = child.communicate(timeout=20)
    assert child.returncode == 130, said
    return first + rest, said


def test_one_key_one_step(stored: Any) -> None:
    """With `--step` each key plays one step and what follows it; `q` ends the replay."""
    stored(lines_of("r", "s", 3))
    with terminal() as (ours, its), spawned("--step", stdin=its) as child:
        assert child.stdout is not None
        out = child.stdout.fileno()
        seen = b""
        for number in range(1, 7):
            while seen.count(b'"type":"step"') < number:
                os.write(ours, b" ")  # a key that comes too early is dropped
                if select.select([out], [], [], 1)[0]:
                    seen += os.read(out, 65536)
        while child.poll() is None:
            os.write(ours, b"q")
            time.sleep(0.2)
        rest, said = child.communicate(timeout=20)
    assert child.returncode == 0, said
    steps = [
        json.loads(line)["step_index"] for line in (seen + rest).splitlines() if b'"type":"step"' in line
    ]
    assert steps == ([0, 1, 2, 3] * 3)[: len(steps)]
    assert 6 <= len(steps) < 12


def test_a_step_at_a_time_needs_a_terminal(stored: Any, run_cli: Cli) -> None:
    """`--step` without a terminal is refused, as there are no keys."""
    stored(lines_of("r", "s", 1))
    done = run_cli("replay", "r", *SOURCE, "--step", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert "stdin is no terminal" in done.stderr


def test_a_loop_begins_again(stored: Any, run_cli: Cli) -> None:
    """`--loop` plays the same lines again and again until Ctrl-C."""
    stored(lines_of("r", "s", 3))
    once = run_cli("replay", "r", *SOURCE).stdout.encode()
    with spawned("--loop") as child:
        assert child.stdout is not None
        seen = b""
        while len(seen) < 3 * len(once):
            seen += os.read(child.stdout.fileno(), 65536)
        child.send_signal(signal.SIGINT)
        rest, said = child.communicate(timeout=20)
    assert child.returncode == 130
    assert b"go on with" not in said
    whole = seen + rest
    assert whole == (once * (len(whole) // len(once) + 1))[: len(whole)]
    assert whole.endswith(b"\n")


@pytest.mark.parametrize("output", ["topic:x", "sql:sqlite:///x.db", "dashboard"])
def test_copies_are_not_looped(run_cli: Cli, home: Path, output: str) -> None:
    """`--loop` with a target is refused, as the target would get the same records again."""
    done = run_cli("replay", "r", "--loop", "--output", output)
    assert done.returncode == 2
    assert "--loop goes with --output jsonl or null" in done.stderr


def test_pauses_are_shortened(stored: Any, run_cli: Cli) -> None:
    """`--skip-idle` shortens an hour without lines, and no line is lost."""
    lines = lines_of("r", "s", 4)
    for _, fields in lines[10:]:
        fields["event_time"] += 3_600_000_000
    stored(lines)
    done = run_cli("replay", "r", *SOURCE, "--speed", "1", "--skip-idle", "0.2", timeout=60)
    assert done.returncode == 0
    assert done.stdout == run_cli("replay", "r", *SOURCE).stdout
    assert "paused" not in done.stderr
    wrong = run_cli("replay", "r", *SOURCE, "--skip-idle", "1")
    assert wrong.returncode == 2
    assert "give a --speed" in wrong.stderr


def test_a_long_pause_is_said(stored: Any) -> None:
    """Replay says how long the run paused, and that `--skip-idle` shortens the pause."""
    lines = lines_of("r", "s", 2)
    for _, fields in lines[5:]:
        fields["event_time"] += 3_600_000_000
    stored(lines)
    with spawned("--speed", "1") as child:
        assert child.stderr is not None
        assert b"paused for 1:00:00" in read_until(child.stderr.fileno(), b"--skip-idle")


def test_a_bar_on_a_terminal(stored: Any, tmp_path: Path) -> None:
    """A bar on the terminal shows progress, speed and remaining time; the lines go to stdout alone."""
    stored(lines_of("r", "s", 100, every=10_000))
    with (
        terminal() as (ours, its),
        (tmp_path / "out").open("wb") as out,
        spawned("--speed", "2", stdout=out, stderr=its) as child,
    ):
        seen = read_until(ours, b"/s")
        seen += read_until(ours, b"0:00:0")
        seen += read_until(ours, b"records played")
        assert child.wait(60) == 0
    text = seen.decode(errors="replace")
    assert "playing" in text
    assert "/503" in text
    assert "Traceback" not in text
    assert (tmp_path / "out").read_bytes().count(b"\n") == 503


def test_a_run_that_is_deleted_while_it_plays(stored: Any, run_cli: Cli) -> None:
    """When its run is deleted, replay ends with one sentence and exit code 1, after a whole line."""
    stored(lines_of("r", "s", 800))
    with spawned("--speed", "0.2") as child:
        assert child.stdout is not None
        first = os.read(child.stdout.fileno(), 65536)
        deleted = run_cli("runs", "delete", "r", "--yes")
        assert deleted.returncode == 0, deleted.stderr
        rest, said = child.communicate(timeout=60)
    assert child.returncode == 1
    assert said.decode().splitlines() == ["stepstream: Run 'r' was deleted while it was played."]
    assert (first + rest).endswith(b"\n")
    assert (first + rest).count(b"\n") == 999  # the lines of the page that it had read


def test_each_replay_is_a_run_of_its_own(settings: Settings) -> None:
    """Replays at once have different ids; one that lacks the run's end is completed when it is over."""
    sinks = [DashboardSink(settings, Records("r", checked_in), "r") for _ in range(5)]
    assert len({sink.run_id for sink in sinks}) == 5
    sinks[0].write(items_of(lines_of("r", "s", 2))[:5])
    assert shown(settings, sinks[0].run_id) == ("running", 4)
    for sink in sinks:
        sink.close()
    assert shown(settings, sinks[0].run_id) == ("completed", 4)


def shown(settings: Settings, run_id: str) -> tuple[str, int]:
    """Status and steps of a run, as the page's list has them."""

    async def rows() -> list[Any]:
        buffer = LiveBuffer(settings)
        try:
            return list(await buffer.runs())
        finally:
            await buffer.close()

    [row] = [row for row in asyncio.run(rows()) if row.run_id == run_id]
    return row.status, row.steps
