"""On a real Kafka and a real Valkey the live path brings the records to a page."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.live import service as live_module
from consumers.live.service import TAIL, Live
from dashboard.live.buffer import Delta, LiveBuffer, View
from infra.embedded.valkey import ValkeyServer
from infra.kafka import topics
from infra.kafka.tail_consumer import Tail
from infra.redis import client as redis_clients
from infra.redis.live_store import LiveStore, delete_run
from infra.settings import Settings
from schemas.codec import Decoder
from schemas.errors import LiveBufferError
from schemas.live import Keys
from schemas.topics import Kind
from tests.support.processes import wait_for
from tests.support.records import Sender, record, step

Start = Callable[[], "Running"]


class Running:
    """A live process in a thread."""

    def __init__(self, settings: Settings) -> None:
        tail = Tail(settings, [kind.topic(settings.topic_prefix) for kind in TAIL])
        self.stop = threading.Event()
        self.service = Live(settings, LiveStore(settings), tail, Decoder)
        self._thread = threading.Thread(target=self.service.run, args=(self.stop,))
        self._thread.start()

    def end(self) -> None:
        """Stop it."""
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Start a live process; it ends with the test."""
    topics.ensure_topics(settings)
    started: list[Running] = []

    def begin() -> Running:
        started.append(Running(settings))
        return started[-1]

    yield begin
    for running in started:
        running.end()


@pytest.fixture
def sender(settings: Settings) -> Sender:
    """Puts records on Kafka."""
    return Sender(settings)


@pytest.fixture
async def buffer(settings: Settings) -> AsyncIterator[LiveBuffer]:
    """The reader of the live buffer that the dashboard uses."""
    made = LiveBuffer(settings)
    yield made
    await made.close()


async def eventually(holds: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """What `holds` answers once it is true."""
    deadline = time.monotonic() + seconds
    while not (answer := await holds()):
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.05)
    return answer


class Viewer:
    """A page: it keeps what it was given, as the page's script does."""

    def __init__(self, buffer: LiveBuffer, view: View) -> None:
        self.buffer, self.view = buffer, view
        self.cursor: str | None = None
        self.seqs: list[int] = []
        self.resets = self.missed = 0
        self.agent_steps = 0
        self.frames: list[int | None] = []
        self.rows: dict[str, int] = {}
        self.last: Delta | None = None

    async def look(self, seconds: float = 1.0) -> Delta:
        """Wait for one delta, and take it as the page does."""
        delta = await self.buffer.wait(self.view, self.cursor, seconds)
        if delta.reset:
            self.seqs, self.resets = [], self.resets + 1
        if delta.agent is not None:
            self.agent_steps = delta.agent.steps
        if delta.frame is not None:
            self.frames.append(delta.frame.step_index)
        self.rows |= {row.run_id: row.steps for row in delta.runs}
        self.seqs += [live.seq for live in delta.steps]
        self.cursor, self.missed, self.last = delta.cursor, self.missed + delta.missed, delta
        return delta

    async def until(self, reached: Callable[[], bool], seconds: float = 20) -> None:
        """Look until something holds."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"never: {self.seqs[-3:]} {self.last}"
            await self.look()


async def test_a_page_gets_every_step_once_in_order(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """Each step reaches an open page once and in order; the counters say how many there are."""
    start()
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    await viewer.look()
    for begin in range(1, 1001, 100):
        sender.send(Kind.STEPS, [step(seq) for seq in range(begin, begin + 100)])
        await viewer.look()
    await viewer.until(lambda: len(viewer.seqs) >= 1000)
    assert viewer.seqs == list(range(1, 1001))
    await viewer.until(lambda: viewer.agent_steps == 1000)
    run = await buffer.run("run")
    assert run is not None
    assert (run.steps, run.agents, run.status) == (1000, 1, "running")


async def test_a_restart_neither_skips_nor_doubles(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """When one live process ends and another begins while records come, the page has each step once."""
    first = start()
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    sender.send(Kind.STEPS, [step(seq) for seq in range(1, 301)])
    await viewer.until(lambda: len(viewer.seqs) >= 300)
    first.end()
    sender.send(Kind.STEPS, [step(seq) for seq in range(301, 601)])
    start()
    sender.send(Kind.STEPS, [step(seq) for seq in range(601, 901)])
    await viewer.until(lambda: len(viewer.seqs) >= 900)
    assert viewer.seqs == list(range(1, 901))
    assert (viewer.resets, viewer.missed) == (1, 0)
    await viewer.until(lambda: viewer.agent_steps == 900)


async def test_a_deleted_run_leaves_the_page_and_is_begun_anew(
    settings: Settings, start: Start, sender: Sender, buffer: LiveBuffer
) -> None:
    """A deleted run leaves nothing in Redis; its later records count from zero, and other runs stay."""
    start()
    sender.send(Kind.STEPS, [step(seq) for seq in range(1, 301)])
    sender.send(Kind.STEPS, [step(1, "other")])
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    await viewer.until(lambda: viewer.agent_steps == 300)
    delete_run(settings, "run")
    client = redis_clients.client(settings)
    await asyncio.sleep(2)
    assert await buffer.run("run") is None
    assert list(client.scan_iter(f"{settings.redis_prefix}run:run*")) == []
    sender.send(Kind.STEPS, [step(seq) for seq in range(301, 306)])
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    await viewer.until(lambda: viewer.agent_steps == 5 and len(viewer.seqs) >= 5)
    run = await buffer.run("run")
    assert run is not None
    assert (run.steps, viewer.seqs) == (5, [301, 302, 303, 304, 305])
    assert await buffer.run("other") is not None


async def test_a_killed_process_is_gone_on_after(
    settings: Settings,
    spawn_cli: Callable[..., subprocess.Popen[bytes]],
    sender: Sender,
    buffer: LiveBuffer,
) -> None:
    """After SIGKILL the next `live` shows what arrived meanwhile, and nothing twice."""
    topics.ensure_topics(settings)
    killed = spawn_cli("live")
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    sender.send(Kind.STEPS, [step(seq) for seq in range(1, 301)])
    await viewer.until(lambda: len(viewer.seqs) > 0)
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    sender.send(Kind.STEPS, [step(seq) for seq in range(301, 601)])
    spawn_cli("live")
    await viewer.until(lambda: len(viewer.seqs) >= 600, seconds=40)
    assert viewer.seqs == list(range(1, 601))
    assert viewer.resets == 1
    await viewer.until(lambda: viewer.agent_steps == 600)


async def test_two_processes_share_the_partitions(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """A second process joins and the first one leaves, while runs go on: each step is shown once."""
    runs = [f"run-{number}" for number in range(8)]
    viewers = [Viewer(buffer, View(run_id, "a", max_steps=10_000)) for run_id in runs]
    first = start()

    def send(begin: int) -> None:
        for run_id in runs:
            sender.send(Kind.STEPS, [step(seq, run_id) for seq in range(begin, begin + 100)])

    send(1)
    await viewers[0].until(lambda: len(viewers[0].seqs) >= 100)
    start()
    send(101)
    await asyncio.sleep(1)
    send(201)
    for viewer in viewers:
        await viewer.until(lambda viewer=viewer: len(viewer.seqs) >= 300)  # type: ignore[misc]
    first.end()
    send(301)
    for viewer in viewers:
        await viewer.until(lambda viewer=viewer: len(viewer.seqs) >= 400)  # type: ignore[misc]
        assert viewer.seqs == list(range(1, 401))
        assert viewer.missed == 0


async def test_a_flushed_redis_fills_again(
    settings: Settings, start: Start, sender: Sender, buffer: LiveBuffer
) -> None:
    """After a flush the newest part of the log is read back, and an open page begins anew with it."""
    start()
    sender.send(Kind.STEPS, [step(seq) for seq in range(1, 201)])
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    await viewer.until(lambda: len(viewer.seqs) >= 200)
    client = redis_clients.client(settings)
    for key in client.scan_iter(match=f"{settings.redis_prefix}*"):
        client.delete(key)
    await viewer.until(lambda: viewer.resets >= 2 and len(viewer.seqs) >= 200)
    assert viewer.seqs == list(range(1, 201))
    sender.send(Kind.STEPS, [step(seq) for seq in range(201, 301)])
    await viewer.until(lambda: len(viewer.seqs) >= 300)
    assert viewer.seqs == list(range(1, 301))
    run = await buffer.run("run")
    assert run is not None
    assert run.steps == 300


async def test_redis_away_and_back_empty(
    settings: Settings, start: Start, sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is away the page says so; when it is back empty, it is filled again."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    mine = replace(settings, redis_url=server.address)
    running, buffer = Running(mine), LiveBuffer(mine)
    try:
        sender.send(Kind.STEPS, [step(seq) for seq in range(1, 101)])
        viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
        await viewer.until(lambda: len(viewer.seqs) >= 100)
        server.stop()
        with pytest.raises(LiveBufferError, match="does not answer"):
            await viewer.look()
        sender.send(Kind.STEPS, [step(seq) for seq in range(101, 201)])
        for dump in (tmp_path / "valkey").glob("*.rdb"):
            dump.unlink()
        server.start()
        await viewer.until(lambda: len(viewer.seqs) >= 200)
        assert viewer.seqs == list(range(1, 201))
    finally:
        running.end()
        await buffer.close()
        server.stop()


async def test_a_backlog_is_jumped_over_and_counted(
    start: Start, sender: Sender, buffer: LiveBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When `live` is far behind the log, it jumps to the newest records and counts those it skipped."""
    running = start()
    sender.send(Kind.STEPS, [step(1)])
    await eventually(lambda: buffer.run("run"))
    running.end()
    old = time.time_ns() // 1_000_000 - 60_000
    sender.send(Kind.STEPS, [step(seq) for seq in range(2, 5001)], timestamp=old)
    monkeypatch.setitem(live_module.TAIL, Kind.STEPS, 1000)
    monkeypatch.setattr(live_module, "RECORDS", 100)
    start()
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    await viewer.until(lambda: bool(viewer.seqs) and viewer.seqs[-1] == 5000)
    await eventually(lambda: _skipped(buffer))
    assert (await buffer.service()).skipped == 5000 - 1 - 1000
    assert viewer.seqs == [1, *range(4001, 5001)]


async def _skipped(buffer: LiveBuffer) -> int:
    return (await buffer.service()).skipped


async def test_who_woke_up_too_late_cannot_write(settings: Settings) -> None:
    """A process that lost its partitions, or whose Redis was flushed, writes nothing."""
    one, other = LiveStore(settings), LiveStore(settings)
    one.begin()
    one.place({"t:0": 5})
    assert one.write({"t:0": 5}, {"t:0": 6}, [("SET", one.keys.run("x"), "1")])
    other.begin()
    other.place({"t:0": 9})
    assert not one.write({"t:0": 6}, {"t:0": 7}, [("SET", one.keys.run("x"), "2")])
    client = redis_clients.client(settings)
    assert client.get(one.keys.run("x")) == b"1"
    client.delete(one.keys.buffer_id)
    assert not other.known()
    assert not other.write({"t:0": 9}, {"t:0": 10}, [])


async def test_a_repeated_window_is_shown_once(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """The page shows a window once that a forwarder sends again after a kill."""
    start()
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    sender.send(Kind.STEPS, [step(seq) for seq in range(1, 101)])
    sender.send(Kind.STEPS, [step(seq) for seq in range(51, 151)])
    await viewer.until(lambda: len(viewer.seqs) >= 150)
    assert viewer.seqs == list(range(1, 151))


async def test_what_is_known_of_a_run(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """The page has a run's name, environment, status, reason, heartbeat, counts and newest returns."""
    start()
    told = {"name": "Lake", "config": {"env_id": "FrozenLake-v1", "algorithm": "q"}, "git_commit": "abc"}
    events = [("run_started", told), ("heartbeat", {"read": 7}), ("run_failed", {"reason": "exit code 3"})]
    sender.send(
        Kind.RUNS,
        [
            record(Kind.RUNS, seq=seq, stream_id="s.meta", event=event, payload=json.dumps(payload))
            for seq, (event, payload) in enumerate(events, 1)
        ],
    )
    sender.send(Kind.EPISODES, [record(Kind.EPISODES, seq=n, episode_return=float(n)) for n in range(1, 201)])
    sender.send(Kind.METRICS, [record(Kind.METRICS, seq=300, metrics='{"loss": 0.5, "kl": "NaN"}')])
    sender.send(Kind.LOGS, [record(Kind.LOGS, seq=301, source="stdout", line="<b>hello</b>")])
    sender.send(Kind.DLQ, [record(Kind.DLQ, seq=302, reason="broken_json", message="…", raw=b"{")])
    viewer = Viewer(buffer, View("run", "a", metrics=True, logs=True))

    async def all_there() -> Any:
        row = await buffer.run("run")  # each kind is a topic of its own, and any may come last
        told = row and row.status == "failed" and row.dead_letters and row.metrics and row.logs
        return row if row and told and row.episodes == 200 and row.returns[-1:] == [200.0] else None

    row = await eventually(all_there)
    assert (row.name, row.env_id, row.algorithm, row.git_commit) == ("Lake", "FrozenLake-v1", "q", "abc")
    assert (row.status, row.reason) == ("failed", "exit code 3")
    assert json.loads(row.heartbeat) == {"read": 7}
    assert (row.episodes, row.metrics, row.logs, row.dead_letters, row.run_events) == (200, 1, 1, 1, 0)
    assert row.mean_return == sum(range(101, 201)) / 100
    delta = await viewer.look()
    assert [point.metrics for point in delta.metrics] == [{"loss": 0.5}]
    assert [(line.source, line.line) for line in delta.logs] == [("stdout", "<b>hello</b>")]
    assert [episode.episode_return for episode in delta.episodes] == [float(n) for n in range(1, 201)]
    assert delta.agent is not None
    assert (delta.agent.newest_return, delta.agent.best_return) == (200.0, 200.0)


async def test_the_newest_picture_only(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """Only the newest picture is kept, and it is sent only to pages that have not painted it."""
    start()
    viewer = Viewer(buffer, View("run", "a"))
    pictures = [
        record(Kind.FRAMES, seq=n, media_type="image/png", data=bytes([n]), step_index=n, thinned=2)
        for n in range(1, 31)
    ]
    sender.send(Kind.FRAMES, pictures)
    await eventually(lambda: buffer.frame("run", "a"))
    await viewer.until(lambda: viewer.frames[-1:] == [30])
    again = await viewer.look(0.3)
    assert again.frame is None
    run = await buffer.run("run")
    assert run is not None
    assert (run.frames, run.thinned) == (30, 60)


async def test_a_grid_is_a_picture_too(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """A step with a grid to draw gives a picture of media type application/json."""
    start()
    grid = {"mode": "grid", "grid": [[0, 1], [2, 3]], "player_position": [0, 1]}
    sender.send(Kind.STEPS, [step(1, extras=json.dumps({"render_payload": grid}))])
    frame = await eventually(lambda: buffer.frame("run", "a"))
    assert (frame.media_type, json.loads(frame.data)) == ("application/json", grid)


async def test_ids_are_only_names(
    settings: Settings, start: Start, sender: Sender, buffer: LiveBuffer
) -> None:
    """Ids with colons, blanks, line ends, markup or a thousand characters name only themselves."""
    start()
    hostile = ["run:a:steps", "a b\r\nSET x y", "<script>", "é" * 1000, "*", "run", "epoch"]
    for run_id in hostile:
        sender.send(Kind.STEPS, [step(1, run_id, agent_id) for agent_id in hostile[:1]])
        sender.send(Kind.STEPS, [step(2, run_id, agent_id) for agent_id in hostile[-1:]])

    async def all_there() -> bool:
        return {row.run_id for row in await buffer.runs()} == set(hostile)

    await eventually(all_there)
    for run_id in hostile:
        assert [row.agent_id for row in await buffer.agents(run_id)] == sorted({hostile[0], hostile[-1]})
        assert (await buffer.wait(View(run_id, hostile[0]))).steps[0].seq == 1
    assert Keys(settings.redis_prefix).run("run:a") != Keys(settings.redis_prefix).agent("run", "a", "steps")


async def test_memory_of_an_agent_is_bounded(
    settings: Settings, start: Start, sender: Sender, buffer: LiveBuffer
) -> None:
    """A long stream of large steps leaves only the newest, by number and by bytes; long texts are cut."""
    start()
    text = json.dumps("x" * 30_000)
    sender.send(Kind.STEPS, [step(seq, observation=text, info=text) for seq in range(1, 1501)])
    viewer = Viewer(buffer, View("run", "a", max_steps=10_000))
    await viewer.until(lambda: 1500 in viewer.seqs)
    client = redis_clients.client(settings)
    held = client.memory_usage(Keys(settings.redis_prefix).agent("run", "a", "steps"), samples=0)
    assert held < 6 * 1024 * 1024
    assert viewer.last is not None
    newest = (await buffer.wait(View("run", "a", max_steps=10))).steps[-1]
    assert newest.seq == 1500
    assert json.loads(newest.observation or "").startswith("xxx")


async def test_a_list_of_runs_is_woken(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """An open list of runs gets a run's row after its first event, and again after each change."""
    start()
    viewer = Viewer(buffer, View())
    await viewer.look(0.1)
    sender.send(Kind.STEPS, [step(1, "first")])
    await viewer.until(lambda: "first" in viewer.rows)
    sender.send(Kind.STEPS, [step(2, "first"), step(1, "second")])
    await viewer.until(lambda: viewer.rows.get("first") == 2 and viewer.rows.get("second") == 1)


async def test_hundreds_of_pages_wait(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """Each of three hundred pages that wait at once gets the step when it comes."""
    start()
    viewers = [Viewer(buffer, View("run", "a", agents=False)) for _ in range(300)]
    await asyncio.gather(*(viewer.look() for viewer in viewers))
    waiting = [asyncio.create_task(viewer.until(lambda v=viewer: bool(v.seqs))) for viewer in viewers]  # type: ignore[misc]
    await asyncio.sleep(0.5)
    await asyncio.to_thread(sender.send, Kind.STEPS, [step(1)])
    await asyncio.gather(*waiting)
    assert [viewer.seqs for viewer in viewers] == [[1]] * 300


async def test_a_thousand_agents(start: Start, sender: Sender, buffer: LiveBuffer) -> None:
    """All agents of a large run are listed, each with its own steps."""
    start()
    steps = [step(seq, agent_id=f"agent-{seq % 1000:04}") for seq in range(1, 5001)]
    sender.send(Kind.STEPS, steps)

    async def all_there() -> Any:
        rows = await buffer.agents("run")
        return rows if len(rows) == 1000 and all(row.steps == 5 for row in rows) else None

    rows = await eventually(all_there)
    assert rows[7].agent_id == "agent-0007"
    first = await buffer.wait(View("run", "agent-0007"))
    assert [live.seq for live in first.steps] == [7, 1007, 2007, 3007, 4007]
    assert first.run is not None
    assert first.run.agents == 1000


def test_wrong_use_is_a_sentence(
    topic_prefix: str, run_cli: Callable[..., subprocess.CompletedProcess[str]], spawn_cli: Callable[..., Any]
) -> None:
    """`live` ends without the address of a Redis; it waits for one that does not answer, and says so."""
    missing = run_cli("live")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "STEPSTREAM_REDIS_URL" in missing.stderr
    assert run_cli("topics", "create").returncode == 0
    away = spawn_cli("live", env={"STEPSTREAM_REDIS_URL": "redis://127.0.0.1:1/0"})
    wait_for(lambda: "Redis at redis://127.0.0.1:1/0 does not answer" in away.log.read_text())
    assert away.poll() is None
    assert "Traceback" not in away.log.read_text()


def test_it_ends_in_order(settings: Settings, spawn_cli: Callable[..., subprocess.Popen[bytes]]) -> None:
    """SIGTERM ends `live` with exit code 0."""
    topics.ensure_topics(settings)
    running = spawn_cli("live")
    deadline = time.monotonic() + 30
    while b"reads" not in Path(running.log).read_bytes():  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.terminate()
    assert running.wait(10) == 0
