"""The live path on a real Kafka and a real Valkey: records in, what a page gets out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from consumers.live import Live
from dashboard.buffer import Delta, LiveBuffer, View
from infra import kafka
from infra.live_store import LiveStore
from infra.settings import Settings
from infra.tail import Tail
from schemas.codec import Decoder
from schemas.topics import Kind
from tests.support.records import Sender, step

Start = Callable[[], "Running"]


class Running:
    """A live process in a thread."""

    def __init__(self, settings: Settings) -> None:
        tail = Tail(settings, [kind.topic(settings.topic_prefix) for kind in Kind])
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
    kafka.ensure_topics(settings)
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


class Viewer:
    """A page: it keeps what it was given, as the page's script does."""

    def __init__(self, buffer: LiveBuffer, view: View) -> None:
        self.buffer, self.view = buffer, view
        self.cursor: str | None = None
        self.seqs: list[int] = []
        self.resets = self.missed = 0
        self.agent_steps = 0
        self.last: Delta | None = None

    async def look(self, seconds: float = 1.0) -> Delta:
        """One delta."""
        delta = await self.buffer.wait(self.view, self.cursor, seconds)
        if delta.reset:
            self.seqs, self.resets = [], self.resets + 1
        if delta.agent is not None:
            self.agent_steps = delta.agent.steps
        self.seqs += [live.seq for live in delta.steps]
        self.cursor, self.missed, self.last = delta.cursor, self.missed + delta.missed, delta
        return delta

    async def until(self, reached: Callable[[], bool], seconds: float = 20) -> None:
        """Look until something holds."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"never: {self.seqs[-3:]} {self.last}"
            await self.look()


async def test_a_page_gets_every_step_once_in_order(settings: Settings, start: Start, sender: Sender) -> None:
    """Each step reaches an open page once, in its order; the counters say how many there are."""
    start()
    viewer = Viewer(LiveBuffer(settings), View("run", "a", max_steps=10_000))
    await viewer.look()
    for begin in range(1, 1001, 100):
        sender.send(Kind.STEPS, [step(seq) for seq in range(begin, begin + 100)])
        await viewer.look()
    await viewer.until(lambda: len(viewer.seqs) >= 1000)
    assert viewer.seqs == list(range(1, 1001))
    await viewer.until(lambda: viewer.agent_steps == 1000)
    run = await viewer.buffer.run("run")
    assert run is not None
    assert (run.steps, run.agents, run.status) == (1000, 1, "running")
    await viewer.buffer.close()
