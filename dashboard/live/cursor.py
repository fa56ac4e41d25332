"""Where a page stands in the streams it shows."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from dashboard.live.types import View
from schemas.live import Keys


def streams_of(view: View, keys: Keys) -> dict[str, str]:
    """Name → key of every stream that a view waits on."""
    if view.run_id is None:
        return {"notification": keys.notifications}
    streams = {"notification": keys.run(view.run_id, "notification")}
    if view.metrics:
        streams["metrics"] = keys.run(view.run_id, "metrics")
    if view.logs:
        streams["logs"] = keys.run(view.run_id, "logs")
    if view.agent_id is not None:
        for what in ("steps", "episodes", "frame"):
            streams[what] = keys.agent(view.run_id, view.agent_id, what)
    return streams


class Cursor(Struct, omit_defaults=True):
    """Opaque to the page, which gives it back as text."""

    view: list[str | None]
    epoch: str
    ids: dict[str, str] = field(default_factory=dict)
    """Stream → the last entry read."""
    counts: dict[str, int] = field(default_factory=dict)
    """Stream → how many of its records came before; the next entry must begin there."""
    agents_next: int = 0
    """When rows of agents are due again, ms."""
    agents_due: bool = False
    """There are some that were not sent."""
    agents_after: str = ""
    """The last one that was sent; empty: all were."""
    agents_seen: int = 0
    """Those heard of since then are sent."""
    agents_newest: int = 0
    """The newest when the first of them was sent."""

    @staticmethod
    def of(view: View) -> list[str | None]:
        """What makes a cursor worthless for another view."""
        return [view.run_id, view.agent_id]

    @classmethod
    def read(cls, text: str | None, view: View) -> Cursor | None:
        """The cursor in a text; None where there is none for this view. It may come from anybody."""
        if not text or len(text) > 10_000:
            return None
        try:
            cursor = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, ValueError):
            return None
        wanted = {"notification", "metrics", "logs", "steps", "episodes", "frame"}
        valid = all(name in wanted and _is_entry_id(value) for name, value in cursor.ids.items())
        return cursor if valid and cursor.view == cls.of(view) else None

    def text(self) -> str:
        """As the page keeps it."""
        return msgspec.json.encode(self).decode()


def carried(to: str | None, of: str | None) -> str | None:
    """The cursor of another agent, knowing which rows of agents the page has: they are not sent again."""
    if to is None or of is None:
        return to
    new, old = (msgspec.json.decode(text, type=Cursor) for text in (to, of))
    for name in ("agents_next", "agents_due", "agents_after", "agents_seen", "agents_newest"):
        setattr(new, name, getattr(old, name))
    return new.text()


def _is_entry_id(text: str) -> bool:
    time, dash, number = text.partition("-")
    return len(text) < 45 and time.isdecimal() and dash == "-" and number.isdecimal()
