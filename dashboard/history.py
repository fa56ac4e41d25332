"""What was before, for panels: read from SQL when it is asked for, sized for the screen."""

from __future__ import annotations

from msgspec import Struct

from dashboard.sql.queries import Queries


class History(Struct, frozen=True):
    """The history of the run, and of the agent that is open."""

    queries: Queries
    run_id: str
    agent_id: str | None = None
