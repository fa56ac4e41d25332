"""Charts: Plotly figures that are cheap to draw again. Pure.

Colours come from `theme.css`, so a change of theme draws nothing, and figures know no theme. Texts in a
figure are HTML to Plotly: whatever a worker has named goes through `plain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from dash import Patch, dcc

POINTS = 500
"""Of a line that is drawn live: more are no wider on the screen."""

_AXIS = {"zeroline": False, "automargin": False, "tickangle": 0, "ticklabeloverflow": "allow"}
"""Labels that Plotly need not measure: a third of what a redraw costs."""
_CONFIG: Any = {"displayModeBar": False, "doubleClick": "reset", "showTips": False}


def plain(text: str) -> str:
    """A text of a worker's for a figure."""
    return escape(text)


def graph(id: str, lines: int = 1, height: int = 150, x_title: str = "", y_title: str = "") -> dcc.Graph:
    """An empty line chart. With two lines, the first is the raw one under the second."""
    raw = {"type": "scatter", "mode": "lines", "x": [], "y": [], "hoverinfo": "x+y"}
    data = [
        raw | {"line": {"width": 1 if lines > 1 and not i else 1.5, "simplify": True}} for i in range(lines)
    ]
    return _graph(id, data, height, x_title, y_title)


def bars(id: str, x: Sequence[Any] = (), y: Sequence[Any] = (), height: int = 150) -> dcc.Graph:
    """A bar chart."""
    return _graph(id, [{"type": "bar", "x": list(x), "y": list(y)}], height, "", "")


def _graph(id: str, data: list[dict[str, Any]], height: int, x_title: str, y_title: str) -> dcc.Graph:
    layout = {
        "margin": {"l": 48, "r": 10, "t": 6, "b": 38 if x_title else 24},
        "showlegend": False,
        "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "family": "system-ui, sans-serif"},
        "uirevision": "keep",
        "xaxis": _AXIS | {"showgrid": False, "nticks": 6, "title": {"text": x_title, "standoff": 6}},
        "yaxis": _AXIS | {"nticks": 5 if height > 200 else 4, "fixedrange": True, "title": {"text": y_title}},
    }
    figure = {"data": data, "layout": layout}
    style = {"height": f"{height}px"}
    return dcc.Graph(id=id, figure=figure, responsive=True, config=_CONFIG, style=style)


def drawn(*series: tuple[Sequence[Any], Sequence[Any]]) -> dict[str, Any]:
    """New points for a chart's lines: a Patch, so a zoom stays."""
    patch = Patch()
    for i, (x, y) in enumerate(series):
        patch["data"][i]["x"], patch["data"][i]["y"] = thin(x, y)
    return {"figure": patch}


def thin(x: Sequence[Any], y: Sequence[Any], points: int = POINTS) -> tuple[list[Any], list[Any]]:
    """At most so many points: of each stretch the lowest and the highest."""
    count = len(x)
    if count <= points:
        return list(x), list(y)
    at = np.fromiter(x, float, count)
    value = np.array([np.nan if one is None else one for one in y], float)
    edges = np.linspace(0, count, points // 2 + 1).astype(int)
    low, high = np.where(np.isnan(value), np.inf, value), np.where(np.isnan(value), -np.inf, value)
    kept = sorted(
        {begin + int(pick(side[begin:end])) for begin, end in pairwise(edges)
         for pick, side in ((np.argmin, low), (np.argmax, high))}
    )  # fmt: skip
    return at[kept].tolist(), [None if math.isnan(one) else one for one in value[kept].tolist()]
