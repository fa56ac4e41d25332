"""Limits the pictures of each agent per second: the newest is sent, the others are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from producers.lines.frames import Picture
from producers.lines.normalise import IDENTITY
from producers.spool.format import Checkpoint

Record = dict[str, Any]


@dataclass
class _Agent:
    due: int
    waiting: tuple[Record, Picture] | None = None
    before: Checkpoint | None = None
    """A checkpoint before the line of the waiting picture."""
    thinned: int = 0


class FrameSampler:
    """Chooses the pictures that are sent to the frames topic.

    Args:
        per_second: pictures of one agent per second of its own time (`event_time`); 0: none.
    """

    def __init__(self, per_second: float) -> None:
        self._pause = int(1_000_000 / per_second) if per_second > 0 else None
        self._agents: dict[tuple[str, str], _Agent] = {}

    def offer(self, record: Record, picture: Picture, before: Checkpoint) -> tuple[Record, Picture] | None:
        """Take a line's picture; returns the one to send now, if any.

        Args:
            before: a checkpoint before that line.
        """
        if self._pause is None:
            return None
        key = record["run_id"], record["agent_id"]
        agent = self._agents.setdefault(key, _Agent(record["event_time"]))
        agent.thinned += picture.thinned
        if agent.waiting is not None:
            agent.thinned += 1
        agent.waiting, agent.before = (_frame(record), picture), before
        now = record["event_time"]
        if agent.due - 60_000_000 > now:  # the clock went back
            agent.due = now
        return self._send(agent, now) if now >= agent.due else None

    def late(self, now: int) -> list[tuple[Record, Picture]]:
        """Waiting pictures whose turn has come without a newer one.

        Args:
            now: the time, µs since 1970.
        """
        late = [agent for agent in self._agents.values() if agent.waiting and agent.due <= now]
        return [self._send(agent, now) for agent in late]

    def rest(self) -> list[tuple[Record, Picture]]:
        """All waiting pictures: the last of a stream."""
        return [self._send(agent, agent.due) for agent in self._agents.values() if agent.waiting]

    def before(self) -> Checkpoint | None:
        """The checkpoint before all waiting pictures; None: none waits."""
        places = [agent.before for agent in self._agents.values() if agent.waiting and agent.before]
        return min(places, key=lambda place: place.line, default=None)

    def _send(self, agent: _Agent, now: int) -> tuple[Record, Picture]:
        assert agent.waiting is not None
        assert self._pause is not None
        record, picture = agent.waiting
        record["thinned"] = agent.thinned
        agent.waiting, agent.thinned = None, 0
        agent.due = max(agent.due + self._pause, now + self._pause // 2)
        return record, picture


def _frame(record: Record) -> Record:
    frame = {name: record[name] for name in IDENTITY}
    frame["episode_index"] = record.get("episode_index")
    frame["step_index"] = record.get("step_index")
    return frame
