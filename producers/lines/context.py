"""The ids of a stream, and what its earlier lines named. Saved with the checkpoint, so that a line that is
read again becomes the same event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schemas.topics import META_SUFFIX

NO_AGENT = "default"
SILENT, OPEN, ENDED = "silent", "open", "ended"
"""What a stream said of a run's life cycle: nothing; that it started; that it ended."""


@dataclass(frozen=True)
class Identity:
    """The stream's own ids.

    Args:
        run_id: the run of lines before which no run was named.
        agent_id: the agent of lines that name none; None: the one that `run_started` or `ready` names.
        sdk: our SDK writes it, so the SDK's own kinds and fields have their meaning.
    """

    stream_id: str
    run_id: str
    agent_id: str | None = None
    sdk: bool = False

    @property
    def meta(self) -> bool:
        """stepstream's own stream, beside a worker's."""
        return self.stream_id.endswith(META_SUFFIX)


@dataclass
class Context:
    """What earlier lines named.

    Args:
        run_id: the run named last.
        agent_id: the agent that `run_started` or `ready` named.
        monitor: a Monitor's header was read, so `t` is the time since then.
        runs: every run of the stream, with the state of its life cycle.
        steps: the names of the last step without a kind: a line with the same names is a step, too, even if
            it would be an episode on its own.
    """

    run_id: str | None = None
    agent_id: str | None = None
    monitor: bool = False
    runs: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The content of `place.json`."""
        return {
            "run_id": self.run_id,
            "agent_id": self.agent_id,
            "monitor": self.monitor,
            "runs": dict(self.runs),
            "steps": self.steps,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Context:
        """From `place.json`; missing fields have their initial values."""
        return cls(
            kept.get("run_id"),
            kept.get("agent_id"),
            kept.get("monitor", False),
            dict(kept.get("runs") or {}),
            list(kept.get("steps") or []),
        )
