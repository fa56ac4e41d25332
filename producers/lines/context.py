"""Whose a stream is, and what its earlier lines named. Small, and kept with the place in the spool, so that
a line that is read again is the same event again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schemas.topics import META_SUFFIX

NO_AGENT = "default"
SILENT, OPEN, ENDED = "silent", "open", "ended"
"""Of a run's life cycle a stream said nothing; that it started; that it ended."""


@dataclass(frozen=True)
class Identity:
    """Whose a stream is.

    Args:
        run_id: of lines before which no run was named.
        agent_id: of lines that name none; None: whom `run_started` or `ready` names.
        sdk: our own SDK writes it, so kinds and fields of its own have their meaning.
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
        runs: every run of the stream, and how its life cycle stands.
        steps: the names of the last step of no kind: a line of the same names is another one, also where it
            alone would pass for an episode.
    """

    run_id: str | None = None
    agent_id: str | None = None
    monitor: bool = False
    runs: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What `place.json` keeps."""
        return {
            "run_id": self.run_id,
            "agent_id": self.agent_id,
            "monitor": self.monitor,
            "runs": dict(self.runs),
            "steps": self.steps,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Context:
        """As kept; what is missing is as at the start."""
        return cls(
            kept.get("run_id"),
            kept.get("agent_id"),
            kept.get("monitor", False),
            dict(kept.get("runs") or {}),
            list(kept.get("steps") or []),
        )
