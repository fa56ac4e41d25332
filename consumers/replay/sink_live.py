"""Where a replay goes: the dashboard."""

from __future__ import annotations

import time

from consumers.live.state import LiveState
from consumers.replay.sinks import Lookup
from consumers.replay.tape import Item
from infra.redis.live_store import LiveStore
from infra.settings import Settings
from schemas.codec import Decoder
from schemas.errors import LiveBufferError
from schemas.topics import Kind


class Dashboard:
    """The live buffer, as a run of its own beside the one that is replayed.

    It is named after the run and the time of day, `RUN@replay-081500`, and forgotten as all live data is.
    Events happen when they are played, so that what the page says of the present is true of the replay.
    """

    kinds: tuple[Kind, ...] = tuple(Kind)

    def __init__(self, settings: Settings, lookup: Lookup, run_id: str) -> None:
        self.run_id = f"{run_id}@replay-{time.strftime('%H%M%S')}"
        self._store = LiveStore(settings)
        self._store.begin()
        self._decoders = {kind: Decoder(kind, lookup) for kind in Kind}
        megabytes = settings.live_buffer_mb
        self._state = LiveState(self._store.keys, settings.live_buffer_steps, megabytes * 1024 * 1024)

    def write(self, items: list[Item]) -> None:
        """Put records into the buffer."""
        now = time.time_ns() // 1000
        for item in items:
            record = self._decoders[item.kind](item.value)
            record |= {"run_id": self.run_id, "event_time": now}
            self._state.add(item.kind, record, now // 1000, len(item.value))
        self._flush(now)

    def close(self) -> None:
        """Write the last rows."""
        if self._state.dirty:
            self._flush(time.time_ns() // 1000)
        self._store.close()

    def _flush(self, now: int) -> None:
        state = self._state
        for run_id, held in self._store.runs(list(state.unknown_runs)).items():
            state.restore_run(run_id, held)
        for key, held_of_agent in self._store.agents(list(state.unknown_agents)).items():
            state.restore_agent(key, held_of_agent)
        if not self._store.write({}, {}, state.commands(time.monotonic(), now, {})):
            raise LiveBufferError("Redis was flushed during the replay: begin it again.")
