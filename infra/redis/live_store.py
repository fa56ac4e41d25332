"""The live consumer's writes to Redis: all of a poll or nothing, and only if Redis was not flushed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.redis import client as redis
from infra.settings import Settings
from schemas.live import FIELD, HeldAgent, HeldRun, Keys

Command = tuple[bytes | str | int | float, ...]

AWAY = redis.ANY_ERROR
"""Redis does not answer, or refuses. What the last write did is unknown: read the positions again."""

DELETIONS_KEPT, DELETIONS_KEPT_S = 1000, 3600

_WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local at = 3 + 2 * tonumber(ARGV[2])
for i = 3, at - 1, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
while at <= #ARGV do
  local behind = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, behind))
  at = behind + 1
end
return 1
"""


class LiveStore:
    """The connection of one live process to Redis.

    The script writes only if the buffer id and the positions are still those that this process read. So a
    flushed Redis is noticed, and a suspended process whose partitions were reassigned does no harm. There
    are no retries: a write that timed out may have been done.

    Raises:
        UsageError: no Redis is set. One that is away is no error before the first call.
    """

    def __init__(self, settings: Settings) -> None:
        redis.url_of(settings)
        self.keys = Keys(settings.redis_prefix)
        self._settings = settings
        self._buffer_id = b""
        self._deletion = ""
        """The newest entry of `deletions` that this process knows."""

    @cached_property
    def _redis(self) -> Any:
        made = redis.client(self._settings)
        made.set_retry(Retry(NoBackoff(), 0))
        return made

    @cached_property
    def _write(self) -> Any:
        return self._redis.register_script(_WRITE)

    def begin(self) -> dict[str, int]:
        """Read the buffer id, or create one; returns the positions written last."""
        self._redis.set(self.keys.buffer_id, os.urandom(8).hex(), nx=True)
        self._buffer_id = self._redis.get(self.keys.buffer_id)
        if not self._deletion:  # earlier deletions do not concern this process
            newest = self._redis.xrevrange(self.keys.deletions, count=1)
            self._deletion = newest[0][0].decode() if newest else "0-0"
        held = self._redis.hgetall(self.keys.positions)
        return {name.decode(): int(offset) for name, offset in held.items()}

    def place(self, positions: Mapping[str, int]) -> None:
        """Set the positions of partitions; their previous owner can then no longer write."""
        if positions:
            self._redis.hset(self.keys.positions, mapping=dict(positions))

    def write(self, before: Mapping[str, int], after: Mapping[str, int], commands: Sequence[Command]) -> bool:
        """Run commands if the positions are those `before`; False: they are not, or Redis was flushed."""
        args: list[Any] = [self._buffer_id, len(before)]
        for name, offset in before.items():
            args += (name, offset)
        for command in commands:
            args.append(len(command))
            args += command
        if after:
            args += (2 + 2 * len(after), "HSET", self.keys.positions)
            for name, offset in after.items():
                args += (name, offset)
        return bool(self._write(keys=[self.keys.buffer_id, self.keys.positions], args=args))

    def known(self) -> bool:
        """Whether Redis still has the buffer id of this process, so was not flushed."""
        return bool(self._redis.get(self.keys.buffer_id) == self._buffer_id)

    def runs(self, run_ids: Sequence[str]) -> dict[str, HeldRun]:
        """What Redis holds of some runs, in one round trip."""
        if not run_ids:
            return {}
        pipe = self._redis.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.hgetall(self.keys.run(run_id))
            for what in ("metrics", "logs"):
                pipe.xrevrange(self.keys.run(run_id, what), count=1)
        found = iter(pipe.execute())
        return {run_id: HeldRun(next(found), _last(next(found)), _last(next(found))) for run_id in run_ids}

    def agents(self, named: Sequence[tuple[str, str]]) -> dict[tuple[str, str], HeldAgent]:
        """What Redis holds of some agents (run id, agent id), in one round trip."""
        if not named:
            return {}
        pipe = self._redis.pipeline(transaction=False)
        for run_id, agent_id in named:
            for what in ("agents", "returns"):
                pipe.hget(self.keys.run(run_id, what), agent_id)
            for what in ("steps", "episodes"):
                pipe.xrevrange(self.keys.agent(run_id, agent_id, what), count=1)
        found = iter(pipe.execute())
        return {
            name: HeldAgent(next(found), next(found), _last(next(found)), _last(next(found)))
            for name in named
        }

    def deleted(self) -> list[str]:
        """Runs that were deleted since the last call; deletes what Redis still holds of them."""
        found = self._redis.xrange(self.keys.deletions, min=f"({self._deletion}") if self._deletion else []
        if not found:
            return []
        self._deletion = found[-1][0].decode()
        run_ids = [fields[b"r"].decode() for _, fields in found]
        for run_id in run_ids:
            _delete(self._redis, self.keys, run_id)
        return run_ids

    def close(self) -> None:
        """Close the connection, if there is one."""
        if "_redis" in vars(self):
            self._redis.close()


def delete_run(settings: Settings, run_id: str) -> None:
    """Remove a run from the live buffer: deletes its keys and notifies live processes.

    Raises:
        LiveBufferError: Redis does not answer.
    """
    keys = Keys(settings.redis_prefix)
    with redis.errors_translated(settings):
        client = redis.client(settings)
        _delete(client, keys, run_id)
        client.xadd(keys.deletions, {"r": run_id}, maxlen=DELETIONS_KEPT)
        client.expire(keys.deletions, DELETIONS_KEPT_S)
        client.xadd(keys.notifications, {"r": json.dumps([run_id])}, maxlen=100)
        client.close()


def _delete(client: Any, keys: Keys, run_id: str) -> None:
    agent_ids = [name.decode() for name in client.hkeys(keys.run(run_id, "agents"))]
    pipe = client.pipeline()
    pipe.zrem(keys.runs, run_id)
    for key in keys.of_run(run_id, agent_ids):  # a cluster's client sends no command of several keys here
        pipe.delete(key)
    pipe.execute()


def _last(entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> bytes | None:
    return entries[0][1].get(FIELD) if entries else None
