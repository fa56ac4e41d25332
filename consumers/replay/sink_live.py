"""Where a replay goes: the dashboard."""

from __future__ import annotations

import secrets
import time

from consumers.live.state import LiveState
from infra.history.items import Item, Records
from infra.redis.live_store import LiveStore
from infra.settings import Settings
from schemas.codec import Record, current_schema
from schemas.errors import LiveBufferError
from schemas.topics import META_SUFFIX, Kind


class DashboardSink:
    """The live buffer, as a run of its own beside the one that is replayed.

    It is named after the run and the time of day, `RUN@replay-081500-3f2a`, and forgotten as all live data
    is. Events happen when they are played, so that what the page says of the present is true of the replay.

    Args:
        settings: which Redis.
        records: how items are read.
        run_id: the run that is replayed.
    """

    def __init__(self, settings: Settings, records: Records, run_id: str) -> None:
        self.run_id = f"{run_id}@replay-{time.strftime('%H%M%S')}-{secrets.token_hex(2)}"
        self._store = LiveStore(settings)
        self._store.begin()
        self._records = records
        self._ended = False
        megabytes = settings.live_buffer_mb
        self._state = LiveState(self._store.keys, settings.live_buffer_steps, megabytes * 1024 * 1024)

    def write(self, items: list[Item]) -> None:
        """Put records into the buffer."""
        now = time.time_ns() // 1000
        for item in items:
            record = self._records(item)
            record |= {"run_id": self.run_id, "event_time": now}
            if item.kind is Kind.RUNS and record["event"] in _LIFE:
                self._ended = record["event"] != "run_started"
            size = len(item.load) if isinstance(item.load, bytes) else _size(item)
            self._state.add(item.kind, record, now // 1000, size)
        self._flush(now)

    def close(self) -> None:
        """Write the last rows; a part that did not hold the run's end is ended here, as it is over."""
        now = time.time_ns() // 1000
        if not self._ended:
            self._state.add(Kind.RUNS, self._end(now), now // 1000, 0)
        if self._state.dirty:
            self._flush(now)
        self._store.close()

    def _end(self, now: int) -> Record:
        absent: Record = {field["name"]: None for field in current_schema(Kind.RUNS)["fields"]}
        who = {"run_id": self.run_id, "stream_id": f"replay{META_SUFFIX}", "seq": 1, "agent_id": "default"}
        return absent | who | {"event_time": now, "event": "run_completed", "payload": "{}"}

    def _flush(self, now: int) -> None:
        state = self._state
        for run_id, held in self._store.runs(list(state.unknown_runs)).items():
            state.restore_run(run_id, held)
        for key, held_of_agent in self._store.agents(list(state.unknown_agents)).items():
            state.restore_agent(key, held_of_agent)
        if not self._store.write({}, {}, state.commands(time.monotonic(), now, {})):
            raise LiveBufferError("Redis was flushed during the replay: begin it again.")


_LIFE = {"run_started", "run_completed", "run_failed", "run_cancelled"}


def _size(item: Item) -> int:
    """About the bytes of a row from SQL."""
    return sum(len(value) for value in item.load if isinstance(value, str | bytes)) + 64
