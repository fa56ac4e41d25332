"""The dashboard's reads from Redis. Asynchronous; whatever is asked, the answer is bounded.

    buffer = LiveBuffer(settings)
    await buffer.runs(); await buffer.run(run_id); await buffer.agents(run_id)
    delta = await buffer.wait(View(run_id, agent_id), None)         # what is there: reset=True
    delta = await buffer.wait(View(run_id, agent_id), delta.cursor) # what came since, at once

A delta costs one round trip while only steps, episodes, frames, metrics or logs are new: XREAD waits on
all the streams of the view at once. Counters come with the run's notifications, four times a second at most.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from dashboard.live import decode
from dashboard.live.cursor import Cursor, streams_of
from dashboard.live.shared import Shared
from dashboard.live.types import AgentRow, Delta, RunRow, ServiceRow, View
from infra.redis import client as redis
from infra.settings import Settings
from schemas.live import Keys, LiveFrame
from schemas.topics import Partition

__all__ = ["AgentRow", "Delta", "LiveBuffer", "LiveFrame", "RunRow", "ServiceRow", "View"]

MAX_RUNS = 500
AGENTS_AT_ONCE = 100
AGENTS_PARTS = 4
"""More agents come in parts of this size: a thousand rows at once would delay a frame."""
AGENTS_EVERY_MS = 1000
"""Changed rows of agents are sent to a viewer at most this often."""
AGENTS_SHARED_S = 0.5
"""For this long all viewers of a run share one reading of its agents."""
PULSE_SHARED_S = 0.2
"""Pages that saw the same notification of a run share one reading of its counters, which are as new as it."""
LONGEST_WAIT_S = 8.0
"""Below the socket's own time-out."""


class _Head(NamedTuple):
    """Counters of a run and of one of its agents, and which Redis says so."""

    epoch: str
    run: RunRow | None
    agent: AgentRow | None


class LiveBuffer:
    """Reads what pages show live. One per process and event loop; viewers share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis: Any = redis.async_client(settings)
        self._keys = Keys(settings.redis_prefix)
        self._lost_seconds = settings.lost_seconds
        self._agents: Shared[list[AgentRow]] = Shared(self._read_agents, AGENTS_SHARED_S)
        self._heads: Shared[_Head] = Shared(self._read_head, PULSE_SHARED_S, kept=PULSE_SHARED_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def runs(self) -> list[RunRow]:
        """All runs known live, the one heard of last first; at most 500.

        Raises:
            LiveBufferError: Redis does not answer (as in every method here).
        """
        with redis.errors_translated(self._settings):
            newest = await self._redis.zrevrange(self._keys.runs, 0, MAX_RUNS - 1)
            return await self._run_rows([name.decode() for name in newest])

    async def run(self, run_id: str) -> RunRow | None:
        """One run; None where the live path does not know it (any more)."""
        with redis.errors_translated(self._settings):
            return (await self._read_head(run_id)).run

    async def agents(self, run_id: str) -> list[AgentRow]:
        """All agents of a run by id, thousands at most; not older than half a second."""
        with redis.errors_translated(self._settings):
            return await self._agents(run_id, fresh=True)

    async def frame(self, run_id: str, agent_id: str) -> LiveFrame | None:
        """The newest picture of an agent."""
        with redis.errors_translated(self._settings):
            found = await self._redis.xrevrange(self._keys.agent(run_id, agent_id, "frame"), count=1)
        return decode.frame(found)

    async def service(self) -> ServiceRow:
        """The state of the live service, over all its processes."""
        with redis.errors_translated(self._settings):
            return decode.service_row(await self._redis.hgetall(self._keys.service), _now_ms())

    async def positions(self) -> dict[Partition, int]:
        """Up to which offset the live path has read each partition of Kafka."""
        with redis.errors_translated(self._settings):
            found = await self._redis.hgetall(self._keys.positions)
        split = ((*name.decode().rpartition(":")[::2], int(offset)) for name, offset in found.items())
        return {Partition(topic, int(number)): offset for topic, number, offset in split}

    async def wait(self, view: View, since: str | None = None, seconds: float = 5.0) -> Delta:
        """What came after a cursor for what is on screen; returns at once where something did.

        Args:
            view: what is on screen.
            since: the cursor of the delta painted last; None, or one of another view: from scratch.
            seconds: how long to wait; then a delta with fresh rows and nothing else returns (a heartbeat).
        """
        cursor = Cursor.read(since, view)
        with redis.errors_translated(self._settings):
            if cursor is None:
                return await self._snapshot(view, gap=False)
            streams = streams_of(view, self._keys)
            where = {key: cursor.ids.get(name, "0-0") for name, key in streams.items()}
            found = await self._redis.xread(where, block=_block_ms(cursor, seconds))
            return await self._delta(view, cursor, streams, found)

    async def _snapshot(self, view: View, gap: bool) -> Delta:
        streams = streams_of(view, self._keys)
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(self._keys.buffer_id)
        for name, key in streams.items():
            pipe.xrevrange(key, count=decode.first_entries(name, view))
        epoch, *found = await pipe.execute()
        cursor = Cursor(view=Cursor.of(view), epoch=_text(epoch))
        delta = Delta(cursor="", reset=True, gap=gap)
        for name, entries in zip(streams, found, strict=True):
            decode.add(delta, cursor, name, entries[::-1], view)
        delta.missed = 0
        await self._rows(view, cursor, delta, None)
        delta.cursor = cursor.text()
        return delta

    async def _delta(self, view: View, cursor: Cursor, streams: dict[str, str], found: Any) -> Delta:
        names = {key.encode(): name for name, key in streams.items()}
        entries = {names[key]: rows for key, rows in found}
        delta = Delta(cursor="")
        for name, rows in entries.items():
            decode.add(delta, cursor, name, rows, view)
        if not delta.reset and (not entries or "notification" in entries):
            await self._rows(view, cursor, delta, entries.get("notification"))
        if delta.reset:
            return await self._snapshot(view, gap=True)
        delta.cursor = cursor.text()
        return delta

    async def _rows(self, view: View, cursor: Cursor, delta: Delta, notification: Any) -> None:
        """The counters of what is on screen; `notification` None: of everything, read now.

        A Redis that was flushed since, or replaced, resets the delta. One that was empty when the page began
        is no other.
        """
        if view.run_id is None:
            epoch = _text(await self._redis.get(self._keys.buffer_id))
            delta.runs = await (
                self._run_rows(sorted(decode.changed_runs(notification))) if notification else self.runs()
            )
            delta.service = await self.service()
        else:
            read, of = self._heads if notification else self._read_head, (view.run_id, view.agent_id or "")
            epoch, delta.run, delta.agent = await read(*of, cursor.ids.get("notification", ""))
            cursor.agents_due = view.agents
            if view.agents and _now_ms() >= cursor.agents_next:
                delta.agents = _some(await self._agents(view.run_id, fresh=True), cursor)
        delta.reset = delta.reset or cursor.epoch not in ("", epoch)
        cursor.epoch = cursor.epoch or epoch

    async def _read_head(self, run_id: str, agent_id: str = "", _notification: str = "") -> _Head:
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(self._keys.buffer_id)
        pipe.hgetall(self._keys.run(run_id))
        pipe.hlen(self._keys.run(run_id, "agents"))
        pipe.hget(self._keys.run(run_id, "agents"), agent_id)
        pipe.hget(self._keys.run(run_id, "returns"), agent_id)
        epoch, fields, agents, steps, returns = await pipe.execute()
        run = decode.run_row(run_id, fields, agents, _now_ms(), self._lost_seconds) if fields else None
        agent = decode.agent_row(agent_id, steps, returns, _now_ms()) if steps or returns else None
        return _Head(_text(epoch), run, agent)

    async def _run_rows(self, run_ids: list[str]) -> list[RunRow]:
        pipe = self._redis.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.hgetall(self._keys.run(run_id))
            pipe.hlen(self._keys.run(run_id, "agents"))
        found = await pipe.execute() if run_ids else []
        now = _now_ms()
        return [
            decode.run_row(run_id, fields, agents, now, self._lost_seconds)
            for run_id, fields, agents in zip(run_ids, found[::2], found[1::2], strict=True)
            if fields
        ]

    async def _read_agents(self, run_id: str) -> list[AgentRow]:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self._keys.run(run_id, "agents"))
        pipe.hgetall(self._keys.run(run_id, "returns"))
        steps, returns = await pipe.execute()
        now = _now_ms()
        return [
            decode.agent_row(name.decode(), steps.get(name), returns.get(name), now)
            for name in sorted({*steps, *returns})
        ]


def _some(agents: list[AgentRow], cursor: Cursor) -> list[AgentRow]:
    """The rows that changed since they were read last: all at first, then some, in the order of their ids."""
    if not cursor.agents_after:  # once more from the first
        cursor.agents_seen, cursor.agents_newest = (
            cursor.agents_newest,
            max((row.last_seen_at for row in agents), default=0),
        )
    most = max(AGENTS_AT_ONCE, len(agents) // AGENTS_PARTS) if cursor.agents_seen else len(agents)
    changed = [row for row in agents if row.last_seen_at >= cursor.agents_seen]
    rest = [row for row in changed if row.agent_id > cursor.agents_after]
    cursor.agents_due = len(rest) > most
    cursor.agents_after = rest[most - 1].agent_id if cursor.agents_due else ""
    cursor.agents_next = _now_ms() + AGENTS_EVERY_MS // (AGENTS_PARTS if len(agents) > AGENTS_AT_ONCE else 1)
    return rest[:most]


def _block_ms(cursor: Cursor, seconds: float) -> int:
    block = int(min(seconds, LONGEST_WAIT_S) * 1000)
    if cursor.agents_due:  # rows were held back: the last of them must not wait for the next event
        block = min(block, cursor.agents_next - _now_ms())
    return max(1, block)


def _text(epoch: bytes | None) -> str:
    return (epoch or b"").decode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
