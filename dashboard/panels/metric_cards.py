"""What is shown of a run's numbers: the choice in the address, and each chart's card. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2s
from typing import Any
from urllib.parse import urlencode

from dash import html
from dash.development.base_component import Component
from msgspec import Struct, field

from dashboard import charts, form
from dashboard.address import Address
from dashboard.charts import Scale
from dashboard.controls import patch
from dashboard.panel import attrs, live
from infra.history.curves import AXES, Axis, Curve, Smoothing
from infra.history.series import Series

FIRST = 24
"""Charts that are shown at first; the button under them shows more."""
HEIGHT = 180
OF_EPISODES = {"episode_return": "return", "episode_length": "length"}
OF_STEPS = {"reward": "reward"}
TITLES = {"metrics": {}, "episodes": OF_EPISODES, "steps": OF_STEPS}


class Choice(Struct, frozen=True):
    """What the address says about the charts."""

    words: str = ""
    scale: Scale = Scale()
    smoothing: Smoothing = Smoothing()
    only: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    zoom: tuple[float, float] | None = None
    full: str = ""
    count: int = FIRST
    agent: str = ""

    @classmethod
    def of(cls, address: Address) -> Choice:
        """From an address, whoever wrote it."""
        return cls(
            words=address.get("q").lower(),
            scale=Scale(_axis(address), bool(address.get("log")), not address.get("central")),
            smoothing=Smoothing.read(address.get("smooth")),
            only=tuple(address.all("metric")),
            pinned=tuple(address.all("pin")),
            hidden=tuple(address.all("hide")),
            zoom=zoom_of(address.get("zoom")),
            full=address.get("full"),
            count=min(max(address.number("n") or FIRST, FIRST), 500),
            agent=address.get("agent"),
        )

    def shows(self, named: str) -> bool:
        """Whether a chart is wanted."""
        if named in self.hidden or (self.only and named not in self.only):
            return False
        return all(word in named.lower() for word in self.words.split())


class Chart(Struct):
    """One chart: which series, what is read of it, what came since."""

    series: Series
    curve: Curve = field(default_factory=Curve)
    fresh: bool = True
    """It is drawn as a whole next time."""
    grown: bool = False

    @property
    def named(self) -> str:
        """As the address names it."""
        return named(self.series)

    @property
    def title(self) -> str:
        """As the page names it."""
        name = self.series.name
        return TITLES[self.series.source].get(name, name.partition("/")[2] or name)

    @property
    def newest(self) -> str:
        """Its newest value."""
        return form.number(self.curve.y[-1]) if self.curve.y else ""

    @property
    def id(self) -> str:
        """Of its component."""
        return f"metric-{blake2s(self.named.encode(errors='replace'), digest_size=6).hexdigest()}"

    @property
    def graph(self) -> dict[str, str]:
        """Of its graph."""
        return {"type": "zoomed", "name": self.id}

    @property
    def graph_id(self) -> str:
        """The same, as the push names it."""
        return json.dumps(self.graph, sort_keys=True, separators=(",", ":"))

    @property
    def group(self) -> str:
        """The part of its name before the slash; of episodes and steps what they are."""
        if self.series.source != "metrics":
            return {"episodes": "Episodes", "steps": "Steps"}[self.series.source]
        head, slash, _ = self.series.name.partition("/")
        return head if slash else "Metrics"


def named(series: Series) -> str:
    """A series as an address names it: a metric by its name, others with their source."""
    return series.name if series.source == "metrics" else f"{series.source}:{series.name}"


def zoom_of(text: str) -> tuple[float, float] | None:
    """Two ends of the x axis."""
    low, _, high = text.partition(",")
    try:
        ends = float(low), float(high)
    except ValueError:
        return None
    return ends if -1e300 < ends[0] < ends[1] < 1e300 else None


def _axis(address: Address) -> Axis:
    return next((axis for axis in AXES if axis == address.get("x")), "step")


def group(name: str, cards: list[Component]) -> Component:
    """Some cards under one head."""
    summary = html.Summary([html.H2(name), html.Small(f"{len(cards)}", className="muted")])
    return html.Details(
        [summary, html.Div(cards, className="small-charts")], open=True, className="metric-group"
    )


def card(chart: Chart, choice: Choice) -> Component:
    """A chart with its name, its newest value and what can be done with it."""
    full = chart.named == choice.full
    head = html.Div(
        [
            html.H3(chart.title, title=chart.series.name),
            html.Span(className="flex-fill"),
            *_buttons(chart, choice, full),
            live(f"value.{chart.id}", text=chart.newest, className="value muted"),
        ],
        className="panel-head",
    )
    graph = charts.graph(
        chart.graph, 2, HEIGHT, x_title=choice.scale.title, names=[chart.series.name], buttons=True
    )
    box = html.Div(graph, id=f"{chart.id}-box", role="img", **attrs(aria_label=chart.series.name))
    return html.Section([head, box], className="card metric full" if full else "card metric")


def _buttons(chart: Chart, choice: Choice, full: bool) -> list[Component]:
    name, pinned, hidden = chart.named, chart.named in choice.pinned, choice.hidden
    close = attrs(data_key="Escape") if full else {}
    csv = html.A("CSV", href=csv_link(chart.series), className="tool", title="Every point", download="")
    sized = "Leave full screen" if full else "Full screen"
    return [
        _tool("◆" if pinned else "◇", "Unpin" if pinned else "Pin", pin=_toggled(choice.pinned, name)),
        *([] if full else [_tool("✕", "Hide", hide=_toggled(hidden, name))]),
        csv,
        _tool("✕" if full else "⤢", sized, **close, full=None if full else name),
    ]


def _tool(sign: str, words: str, **changes: Any) -> Component:
    marks = {name: value for name, value in changes.items() if name.startswith("data-")}
    wanted = {name: value for name, value in changes.items() if name not in marks}
    marks |= attrs(aria_label=words) | patch(wanted)
    return html.Button(sign, type="button", className="tool", title=words, **marks)


def button(text: str, changes: dict[str, Any]) -> Component:
    """A button that changes the address."""
    return html.Button(text, type="button", className="btn btn-sm btn-outline-secondary", **patch(changes))


def _toggled(names: Sequence[str], name: str) -> list[str]:
    return [one for one in names if one != name] if name in names else [*names, name]


def csv_link(series: Series) -> str:
    """Where every point of a series is as CSV."""
    asked = {"kind": "series", "run": series.run_id, "source": series.source, "name": series.name}
    return "/download?" + urlencode(asked | ({"agent": series.agent_id} if series.agent_id else {}))
