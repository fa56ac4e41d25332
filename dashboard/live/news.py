"""What came for an open page since its last delta, as panels read it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from dashboard.live.types import AgentRow
from schemas.live import LiveEpisode, LiveFrame, LiveStep, LogRow, MetricPoint

T = TypeVar("T")

_JSON = frozenset({"observation", "action", "info", "metrics", "extras"})


class Row(Mapping[str, Any]):
    """A step or an episode by the names of its columns in SQL. Columns of JSON are parsed when first read;
    `event_time` is in ms since 1970 (UTC).
    """

    __slots__ = ("agent_id", "record")

    def __init__(self, record: LiveStep | LiveEpisode, agent_id: str) -> None:
        self.record, self.agent_id = record, agent_id

    def __getitem__(self, name: str) -> Any:
        if name in _JSON:
            return self.once(name, lambda: parsed(getattr(self.record, name, None)))
        if name == "agent_id":
            return self.agent_id
        if name == "event_time":
            return self.record.event_time / 1000
        try:
            return getattr(self.record, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(("agent_id", *self.record.__struct_fields__))

    def __len__(self) -> int:
        return len(self.record.__struct_fields__) + 1

    def text(self, name: str) -> str | None:
        """A JSON column as the worker wrote it."""
        found: str | None = getattr(self.record, name, None)
        return found

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What is made of it, once for all who look at it. `name`: what it is called there."""
        made = self.record.__dict__
        if name not in made:
            made[name] = make()
        return made[name]  # type: ignore[no-any-return]

    @property
    def numbers(self) -> dict[str, float]:
        """The finite numbers that it carries under names of its own."""
        return self.once("numbers", self._numbers)

    def _numbers(self) -> dict[str, float]:
        found = self["metrics"]
        told = found if isinstance(found, dict) else {}
        return {name: value for name, value in told.items() if finite(value)}


class Counters(Struct):
    """Steps of the open agent: how many, and how many of them are stored."""

    seen: int = 0
    stored: int = 0
    rate: float = 0.0
    """Steps per second."""
    waiting: int = 0
    """Records of the run's partition that wait on Kafka."""


class Clock(Struct):
    """Where this viewer stands in time, as the time bar shows it. Shares are of the bar's width, 0 to 1."""

    state: Literal["live", "paused", "replay"] = "live"
    axis: str = "step"
    low: float = 0.0
    high: float = 0.0
    """The ends of what is shown of the axis."""
    newest: float = 0.0
    """Where live is on it."""
    value: float = 0.0
    words: str = ""
    """Where it stands, in words."""
    said: str = ""
    """What is not there, or why."""
    meanwhile: int = 0
    """Steps that came since."""
    speed: float = 1.0
    loop: tuple[float, float] | None = None
    axes: tuple[str, ...] = ()
    """Those that the run has."""
    viewer: str = ""
    """What `follow=` names this viewer by."""
    drawing: Any = None
    """A `dashboard.time.marks.Drawing`, where it is another than before."""


class News(Struct):
    """A delta. Empty lists and None: nothing new of it."""

    first: bool = False
    """This delta holds everything: panels discard what they gathered before."""
    first_of_agent: bool = False
    """Another agent was chosen: panels discard what they gathered of the last one."""
    notice: str = ""
    """What the page cannot show now, and why."""
    known: bool | None = None
    """Whether the run is known; None: as before."""
    run: dict[str, Any] | None = None
    """The columns of `runs`, and what is known live: steps_per_second, mean_return, returns …"""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Starts of the run, the first one first; with the first delta."""
    counts: dict[str, Any] | None = None
    """Where the run's records are: emitted, on_kafka, in_sql, dead_letters, dropped, latency_ms, lag."""
    runs: list[dict[str, Any]] = field(default_factory=list)
    """New and changed runs; on the home page."""
    agents: list[AgentRow] = field(default_factory=list)
    """New and changed agents."""
    agent: str | None = None
    """The open agent."""
    row: AgentRow | None = None
    """The open agent's counts and returns."""
    steps: list[Row] = field(default_factory=list)
    """Of the open agent, oldest first."""
    episodes: list[Row] = field(default_factory=list)
    frame: LiveFrame | None = None
    """The newest picture."""
    frame_said: str = ""
    """What is to know of the picture, where a moment of the past is shown: whose it is, why there is none."""
    seek: bool = False
    """With `first_of_agent`: not another agent, another moment. Panels' `seek` is called."""
    clock: Clock | None = None
    """Where the viewer stands in time, where that has changed."""
    address: dict[str, Any] | None = None
    """Parts of the page's address that changed."""
    pictures: bool = True
    """Whether a first delta without a frame means that there is none."""
    counters: Counters | None = None
    returns: dict[str, list[Any]] | None = None
    """Return per episode over the whole run, with the first delta of an agent: `x`, `y`, its rolling mean
    `mean_x`, `mean`; `tail`, the newest returns, from which the mean goes on; `best`, the best one and its
    episode."""
    thinned: int = 0
    """Steps left out of `steps`, as nobody can follow more."""
    missed: int = 0
    """Steps that came faster than the page could follow."""
    lag_ms: float | None = None
    """From the worker's clock to now, of the newest step."""
    paint_ms: float = 0.0
    """How long the last delta took from the socket to the screen."""
    points: list[MetricPoint] = field(default_factory=list)
    """The run's metrics; where they are on screen."""
    logs: list[LogRow] = field(default_factory=list)
    """The run's log; where it is on screen."""
    _made: dict[str, Any] = {}
    _of: list[Row] | None = None

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What is made of its steps, once for all panels. `name`: what it is called there."""
        if self._of is not self.steps:  # a copy with other steps
            self._made, self._of = {}, self.steps
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]  # type: ignore[no-any-return]

    def numbers(self) -> set[str]:
        """The names of the numbers that steps carry."""
        return self.once("numbers", lambda: set().union(*(step.numbers for step in self.steps)))

    def metric(self, name: str) -> list[float]:
        """The values of one of the numbers that steps carry, oldest first."""
        return [step.numbers[name] for step in self.steps if name in step.numbers]

    @property
    def going(self) -> bool | None:
        """Whether the run is running; None: nothing new of it."""
        return None if self.run is None else self.run.get("status") == "running"


def parsed(text: str | None) -> Any:
    """The value of a JSON text; what is none stays text."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError):
        return text


def finite(value: Any) -> bool:
    """A number that can be drawn."""
    is_number = type(value) is float or (isinstance(value, int | float) and not isinstance(value, bool))
    return is_number and math.isfinite(value)
