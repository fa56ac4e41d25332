"""What a viewer's address says of time, and news that are put together for him. Pure."""

from __future__ import annotations

import math

import msgspec

from dashboard.address import Address
from dashboard.live.news import News
from dashboard.time.clock import SPEEDS

PARTS = ("at", "episode", "step", "follow")
"""Of the address, what names a moment."""


def of_run(news: News, first: bool = False) -> News:
    """What belongs to the run, without what its open agent did."""
    names = ("run", "attempts", "counts", "agents", "agent", "known", "notice", "points", "logs")
    return News(first=first, first_of_agent=first, **{name: getattr(news, name) for name in names})


def joined(run: News, there: News) -> News:
    """The first delta of a page that is opened at a moment."""
    names = ("steps", "episodes", "frame", "frame_said", "counters", "returns", "row", "clock", "address")
    return msgspec.structs.replace(run, **{name: getattr(there, name) for name in names})


def where(address: Address) -> str:
    """The moment that an address names, in the words of a position."""
    if at := address.get("at"):
        return at
    step = address.get("step")
    return f"episode:{address.get('episode')}" + (f"/{step}" if step else "")


def speed_of(address: Address) -> float:
    """The speed that an address names."""
    wanted = number(address.get("speed"))
    return wanted if wanted in SPEEDS else 1.0


def number(text: str) -> float:
    """A number of the address; 0 where there is none."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return min(max(found, 0.0), 1e6) if math.isfinite(found) else 0.0


def lasting(micros: int) -> str:
    """A time in words."""
    seconds = micros / 1e6
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def names_moment(address: Address) -> bool:
    """Whether an address is of a moment, or of another viewer."""
    return any(address.get(name) for name in ("at", "episode", "follow"))


def spoken(address: Address, at: str, news: News) -> dict[str, str | None]:
    """What changes in an address when its viewer is elsewhere; a chosen episode follows him."""
    changes: dict[str, str | None] = {"at": at, "step": None, "follow": None}
    chosen = address.number("episode")
    now = news.steps[-1]["episode_index"] if news.steps else None
    if chosen is not None and chosen != now:
        changes["episode"] = None if now is None else str(now)
    return changes
