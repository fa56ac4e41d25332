"""What the address says about charts, and the inputs that say it. Pure."""

from __future__ import annotations

import dash_bootstrap_components as dbc
from dash import html
from dash.development.base_component import Component
from msgspec import Struct

from dashboard.address import Address
from dashboard.controls import select
from dashboard.panel import attrs
from infra.history.curves import AXES, SMOOTHINGS, Axis, Smoothing

FIRST = 24
"""Charts that are shown at first; the button under them shows more."""
DEFAULT = "default"
"""Each chart's own, as the address says it."""
X_AXES = {
    DEFAULT: "Default",
    "step": "Step",
    "episode": "Episode",
    "relative": "Relative time",
    "time": "Wall time",
}
KEPT = ("x", "smooth", "log", "central")
"""Parts of the address that a browser keeps for other runs."""


class Choice(Struct, frozen=True):
    """What the address says about the charts."""

    words: str = ""
    axis: Axis | None = None
    """None: each chart has its own."""
    log: bool = False
    outliers: bool = True
    smoothing: Smoothing | None = None
    """None: each chart has its own."""
    only: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    zoom: tuple[float, float] | None = None
    zoomed: Axis | None = None
    """The axis that the zoom is of; None: any."""
    full: str = ""
    count: int = FIRST
    agent: str = ""

    @classmethod
    def of(cls, address: Address) -> Choice:
        """From an address, whoever wrote it."""
        zoomed, colon, ends = address.get("zoom").rpartition(":")
        smooth = address.get("smooth")
        return cls(
            words=address.get("q").lower(),
            axis=_axis(address.get("x")),
            log=address.flag("log"),
            outliers=not address.flag("central"),
            smoothing=None if smooth in ("", DEFAULT) else Smoothing.read(smooth),
            only=tuple(address.all("metric")),
            pinned=tuple(address.all("pin")),
            hidden=tuple(address.all("hide")),
            zoom=zoom_of(ends) if not colon or _axis(zoomed) else None,
            zoomed=_axis(zoomed),
            full=address.get("full"),
            count=min(max(address.number("n") or FIRST, FIRST), 500),
            agent=address.get("agent"),
        )

    def shows(self, named: str) -> bool:
        """Whether a chart is wanted."""
        if named in self.hidden or (self.only and named not in self.only):
            return False
        return all(word in named.lower() for word in self.words.split())


def zoom_of(text: str) -> tuple[float, float] | None:
    """Two ends of the x axis."""
    low, _, high = text.partition(",")
    try:
        ends = float(low), float(high)
    except ValueError:
        return None
    return ends if -1e300 < ends[0] < ends[1] < 1e300 else None


def _axis(text: str) -> Axis | None:
    return next((axis for axis in AXES if axis == text), None)


def inputs(address: Address) -> list[Component]:
    """The inputs for axis, smoothing, log scale and outliers."""
    return [
        _select("x", "X axis", X_AXES, address),
        _select("smooth", "Smoothing", {DEFAULT: "Default"} | SMOOTHINGS, address),
        _check("log", "Log scale", address),
        _check("central", "Ignore outliers", address),
    ]


def _select(name: str, label: str, values: dict[str, str], address: Address) -> Component:
    return select(name, label, values, address.get(name, DEFAULT), default=DEFAULT)


def _check(name: str, label: str, address: Address) -> Component:
    box = dbc.Checkbox(id=f"check-{name}", label=label, value=address.flag(name))
    return html.Div(box, className="option", **attrs(data_address=name))
