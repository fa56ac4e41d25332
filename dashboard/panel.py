"""A panel: a piece of a page, in Python alone. The interface that the product's own panels use, too.

    from dashboard.panel import Panel, live

    class Visited(Panel):
        title, every, width = "Steps seen", 0.5, 4
        def reset(self): self.n = 0
        def layout(self): return self.card(live("visited"))
        def take(self, news):
            self.n += len(news.steps)
            self.dirty = True
        def draw(self): return {"visited": f"{self.n} steps"}

On an open page: `layout` once; `reset`, with `load` in the background; then `take` with each delta and
`draw` when its turn has come. One object serves all open pages of one address with the same settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import dash_bootstrap_components as dbc
from dash import html
from dash.development.base_component import Component
from msgspec import Struct

from dashboard.address import Address
from dashboard.history import History
from dashboard.live.news import News, Row
from infra.history.curves import Smoothing

__all__ = [
    "Address",
    "Drawn",
    "History",
    "News",
    "Option",
    "Panel",
    "Row",
    "Smoothing",
    "attrs",
    "live",
    "live_attr",
]

Drawn = Mapping[str, Any]
"""`{component id: {property: value}}` and `{key of a live leaf: text}`."""


class Option(Struct, frozen=True):
    """A choice that a panel offers. It is shown in its head and kept in the page's address."""

    name: str
    label: str
    default: str = ""
    values: tuple[str, ...] = ()
    """What can be chosen; none: any text."""


class Panel:
    """A piece of an agent's tab, of a run's metrics or of the home page."""

    title: str = ""
    every: float = 0.0
    """Seconds between two draws, at least; 0: with each delta, for what costs next to nothing."""
    width: int = 4
    """Of 12 columns."""
    place: ClassVar[Literal["agent", "run", "home"]] = "agent"
    of_run: ClassVar[bool] = False
    """It shows the run, not the agent: `reset` is not called when another agent is chosen."""
    options: ClassVar[tuple[Option, ...]] = ()
    row_ids: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """The field that identifies a row, by the id of each table that it changes by `rowTransaction`."""

    address = Address()
    """The page's address: set before `reset`, and whenever it changes."""
    settings: Mapping[str, Any] = MappingProxyType({})
    """This browser's settings: `buffer` (rows), `updates`, `theme`. Set before `reset` and on each change."""
    wake: Callable[[], None] = staticmethod(lambda: None)
    """Call it when there is something to draw that came neither by `take` nor by `load`."""
    dirty = False
    """Whether there is something to draw: `take` and `load` set it."""

    @property
    def id(self) -> str:
        """Names the panel on the page; a component of its own may have it as its id."""
        return re.sub(r"\W+", "-", type(self).__name__).lower()

    def option(self, name: str) -> str:
        """What is chosen."""
        default = next(option.default for option in self.options if option.name == name)
        return self.address.get(f"{self.id}.{name}", default)

    def reset(self) -> None:
        """Another agent was chosen, or everything is sent again: discard what was gathered."""

    def seek(self) -> None:
        """Another moment of the same agent is shown: discard what belongs to the last one."""
        self.reset()

    def layout(self) -> Component:
        """Its components. Built once for all pages: it must not depend on what was gathered."""
        raise NotImplementedError(f"{type(self).__name__} has no layout().")

    def take(self, news: News) -> None:
        """Gather what is new. It runs with every delta, so it must be cheap."""

    async def load(self, history: History) -> None:
        """Read history in the background: after each `reset`, and when the address has changed."""

    def draw(self) -> Drawn:
        """What to change on the page, by component id and by key of a live leaf."""
        return {}

    def moved(self) -> None:
        """The address has changed, but not the agent."""

    def card(self, *body: Any, head: Any = (), className: str = "") -> Component:  # noqa: N803 - as Dash has it
        """A card with the panel's title, and its options in its head."""
        inputs = [_input(f"{self.id}.{option.name}", option) for option in self.options]
        space = html.Span(className="flex-fill")
        top = html.Div([html.H3(self.title), space, *inputs, *head], className="panel-head")
        return html.Section([top, *body], className=f"card {className}".strip())


def attrs(**named: Any) -> dict[str, Any]:
    """Attributes whose names have dashes: `attrs(data_key="j", aria_label="Next agent")`."""
    return {name.replace("_", "-"): value for name, value in named.items()}


def live(key: str, tag: Any = html.Span, text: str = "–", **more: Any) -> Component:
    """A leaf whose text the push sets by its key: no component is rendered anew for it."""
    made: Component = tag(text, **attrs(data_live=key), **more)
    return made


def live_attr(**keys: str) -> dict[str, Any]:
    """Marks of a component whose attributes the push sets by keys: `live_attr(data_status="run.status")`.
    The attribute `text` is its text.
    """
    names = " ".join(name.replace("_", "-") for name in keys)
    return attrs(data_live=" ".join(keys.values()), data_live_attr=names)


def _input(name: str, option: Option) -> Component:
    """An input whose value is a part of the address."""
    if option.values:
        words = [{"label": value, "value": value} for value in option.values]
        made: Any = dbc.Select(id=name, options=words, value=option.default, size="sm")
    else:
        made = dbc.Input(id=name, value=option.default, size="sm", debounce=True)
    marks = attrs(data_address=name, data_default=option.default)
    return html.Label([option.label, made], className="option", **marks)
