"""Charts: Plotly figures that are cheap to draw again. Pure.

    graph("loss", lines=2, x_title="Step")        # {"loss": drawn((x, y), (mean_x, mean))}
    bars("actions", ["left", "right"], [12, 30])  # {"actions": bars_drawn(x, y)}
    heat("visited", counts)                       # {"visited": heat_drawn(counts)}

The first makes a component for a panel's layout, the second what its `draw` returns. Colours come from
`theme.css`, so a change of theme draws nothing, and figures know no theme. Texts in a figure are HTML to
Plotly: whatever a worker has named goes through `plain`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from math import floor, isnan, log10
from typing import Any

import numpy as np
from dash import Patch, dcc

from dashboard import axes
from dashboard.axes import LEFT, Scale
from infra.history.curves import Curve, Numbers, downsampled

POINTS = 500
"""Of a line that is drawn live: more are no wider on the screen."""
DIGITS = 6
"""Of a value, and of its place in the span of its line: more are not seen, and cost their reading."""
MOST_PLACES = 15
"""After the point: what needs more stays as it is."""
HEIGHT = 180
"""Of a curve out of SQL, in pixels."""
MAX_NAME = 32
"""Characters of a series' name below its chart."""
MAX_TEXT = 200
"""Characters of a worker's text in a figure."""
FONT = "system-ui, sans-serif"

_AXIS = {"zeroline": False, "automargin": False, "tickangle": 0, "ticklabeloverflow": "allow"}
"""Labels that Plotly need not measure: a third of what a redraw costs."""
_CONFIG = {"displayModeBar": False, "doubleClick": "autosize", "showTips": False}
_BUTTONS = [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]]

Figure = dict[str, Any]

_SAID: Figure = {"x": 0.5, "xref": "paper", "xanchor": "center", "y": 0, "yref": "container"}
_SAID |= {"yanchor": "bottom", "pad": {"b": 6}, "font": {"size": 11}, "automargin": False}
"""Words below a chart. An axis' own title measures each label, a fifth of a redraw; a chart's does not."""


def plain(text: Any) -> str:
    """A text of a worker's for a figure: never markup, never endless."""
    return escape(str(text)[:MAX_TEXT])


def graph(
    id: Any,
    lines: int = 1,
    height: int = 150,
    *,
    x_title: str = "",
    y_title: str = "",
    names: Sequence[str] = (),
    buttons: bool = False,
    dots: bool = False,
) -> dcc.Graph:
    """An empty line chart. With two lines, the first is the raw one under the second, unless they have dots.

    Args:
        names: of the lines, for the hover, and of a PNG.
        buttons: PNG and zoom, shown while the pointer is on the chart.
        dots: at each point, so that a lone one is seen.
    """
    data = [line((), (), faint=lines > 1 and not i and not dots) for i in range(lines)]
    for trace, name in zip(data, names, strict=False):
        trace["name"] = plain(name)
    if dots:
        data = [trace | {"mode": "lines+markers", "marker": {"size": 4}} for trace in data]
    return _graph(
        id, data, height, line_layout(height, x_title, y_title), file_name(*names[:1]) if buttons else ""
    )


def line(x: Sequence[Any], y: Sequence[Any], name: str = "", faint: bool = False) -> Figure:
    """One line. `faint`: the raw one under a smoothed one."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "name": plain(name),
        "hovertemplate": "%{y:.5~g}",
        "line": {"width": 1 if faint else 1.5, "simplify": True},
        "opacity": 0.4 if faint else 1,
    }


def drawn(*series: tuple[Sequence[Any], Sequence[Any]]) -> dict[str, Any]:
    """New points for a chart's lines: a Patch, so a zoom stays."""
    patch = Patch()
    for i, (x, y) in enumerate(series):
        patch["data"][i]["x"], patch["data"][i]["y"] = thin(x, y)
    return {"figure": patch}


def thin(x: Sequence[Any], y: Sequence[Any], points: int = POINTS) -> tuple[list[Any], list[Any]]:
    """At most so many points: of each stretch the lowest and the highest, with the digits that are seen."""
    values = np.array(y, dtype=np.float64)  # None is NaN
    chosen = downsampled(values, points)
    kept = [None if isnan(value) else value for value in rounded(values[chosen]).tolist()]
    return [x[i] for i in chosen.tolist()] if len(chosen) < len(x) else list(x), kept


def rounded(values: Numbers) -> Numbers:
    """With six digits at least, and so many that the values' differences have six."""
    sizes = np.abs(values)
    known = np.isfinite(sizes) & (sizes > 0)
    if not known.any():
        return values
    span = float(np.ptp(values[np.isfinite(values)]))
    places = DIGITS - 1 - np.floor(np.log10(np.where(known, sizes, 1.0)))
    if span > 0:
        places = np.maximum(places, DIGITS - 1 - floor(log10(span)))
    scale = 10.0 ** np.clip(places, 0, MOST_PLACES)
    scaled = values * scale
    fits = known & (places <= MOST_PLACES) & (np.abs(scaled) < 2.0**52)
    return np.where(fits, np.round(scaled) / scale, values)


def curve_figure(curve: Curve, name: str, scale: Scale, smoothed: str = "", points: int = POINTS) -> Figure:
    """A curve from SQL as a whole figure.

    Args:
        curve: its points, and its smoothed line where there is one.
        name: what the line is; a worker's word.
        scale: how the axes are drawn.
        smoothed: how it was smoothed, in words; said below the chart.
        points: of a line, at most.
    """
    data = [line(*thin(curve.x, curve.y, points), name, faint=bool(smoothed))]
    data.append(line(*thin(curve.mean_x, curve.mean, points), smoothed) if smoothed else line((), ()))
    layout = line_layout(HEIGHT, said(curve, name, scale, smoothed))
    layout["xaxis"]["type"] = "date" if scale.x == "time" else "linear"
    for part, values in axes.layout(curve, scale).items():
        layout[part] |= values
    layout["annotations"] = _nothing(curve, scale)
    return {"data": data, "layout": layout}


def curve_drawn(
    curve: Curve, name: str, scale: Scale, smoothed: str = "", points: int = POINTS
) -> dict[str, Any]:
    """New points of a curve for its chart: a Patch, so a zoom stays."""
    patch = Patch()
    for i, (x, y) in enumerate(((curve.x, curve.y), (curve.mean_x, curve.mean))):
        patch["data"][i]["x"], patch["data"][i]["y"] = thin(x, y, points)
    patch["layout"]["title"]["text"] = plain(said(curve, name, scale, smoothed))
    patch["layout"]["annotations"] = _nothing(curve, scale)
    for part, values in axes.layout(curve, scale).items():
        for key, value in values.items():
            patch["layout"][part][key] = value
    return {"figure": patch}


def said(curve: Curve, name: str, scale: Scale, smoothed: str) -> str:
    """What stands below a chart: what its axes are, how the line is smoothed, and what is not there."""
    name = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    axes = f"{name} over {scale.title[0].lower()}{scale.title[1:]}"
    sample = "a sample, reading the rest" if curve.sampled else ""
    return " · ".join(filter(None, (axes, smoothed, sample)))


def _nothing(curve: Curve, scale: Scale) -> list[Figure]:
    """Why a chart is empty."""
    drawn = any(value > 0 for value in curve.y) if scale.log else bool(curve.x)
    words = "nothing above 0, and a log scale shows no other" if curve.x else "nothing yet"
    return [] if drawn else [note(words) | {"x": 0.5, "y": 0.5, "xanchor": "center"}]


def area(x: Sequence[float], low: Sequence[float], high: Sequence[float], fill: str) -> Figure:
    """The area between two lines; the pointer passes it over."""
    return {
        "type": "scatter",
        "mode": "none",
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": fill,
        "hoverinfo": "skip",
    }


def bars(id: str, x: Sequence[Any] = (), y: Sequence[Any] = (), height: int = 150) -> dcc.Graph:
    """A bar chart; `height` in pixels."""
    data = [{"type": "bar", "x": _named(x), "y": list(y), "hovertemplate": "%{y:.5~g}<extra></extra>"}]
    return _graph(id, data, height, line_layout(height))


def bars_drawn(x: Sequence[Any], y: Sequence[Any]) -> dict[str, Any]:
    """New bars for a bar chart."""
    patch = Patch()
    patch["data"][0]["x"], patch["data"][0]["y"] = _named(x), list(y)
    return {"figure": patch}


def heat(id: str, counts: Any = ((0,),), height: int = 220) -> dcc.Graph:
    """A heat map of a matrix, `height` pixels high, row 0 at the top. Its cells are bars of a bar chart."""
    layout = line_layout(height) | {"bargap": 0, "hovermode": "closest"}
    layout["yaxis"] |= {"autorange": "reversed", "showgrid": False}
    cells: Figure = {
        "type": "bar",
        "y": [],
        "width": 1,
        "hovertemplate": "row %{base}, column %{x}: %{marker.color}<extra></extra>",
    }
    _fill_heat(cells, counts)
    return _graph(id, [cells], height, layout)


def heat_drawn(counts: Any) -> dict[str, Any]:
    """New values for a heat map."""
    patch = Patch()
    _fill_heat(patch["data"][0], counts)
    return {"figure": patch}


HEAT = [[0, "rgba(57, 135, 229, 0.08)"], [1, "rgb(57, 135, 229)"]]
"""From nothing to the accent colour, on either ground."""


def _fill_heat(trace: Any, counts: Any) -> None:
    matrix = np.asarray(counts, dtype=np.float64)
    rows, columns = np.indices(matrix.shape)
    trace["x"], trace["base"] = columns.ravel().tolist(), rows.ravel().tolist()
    trace["y"] = [1] * matrix.size
    trace["marker"] = {"color": matrix.ravel().tolist(), "colorscale": HEAT}


def _named(x: Sequence[Any]) -> list[Any]:
    return [plain(value) if isinstance(value, str) else value for value in x]


def _graph(id: Any, data: list[Figure], height: int, layout: Figure, image: str = "") -> dcc.Graph:
    config: Any = dict(_CONFIG)
    if image:
        config |= {"displayModeBar": "hover", "displaylogo": False, "modeBarButtons": _BUTTONS}
        config["toImageButtonOptions"] = {"format": "png", "scale": 2, "filename": image}
    style = {"height": f"{height}px"}
    figure = {"data": data, "layout": layout}
    return dcc.Graph(id=id, figure=figure, responsive=True, config=config, style=style)


def line_layout(height: int, x_title: str = "", y_title: str = "") -> Figure:
    """A line chart's layout; `height` in pixels. `x_title` stands below the chart."""
    return {
        "margin": {"l": 62 if y_title else LEFT, "r": 10, "t": 6, "b": 38 if x_title else 24},
        "showlegend": False,
        "hovermode": "x unified",
        "dragmode": "zoom",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "family": FONT},
        "separators": ". ",
        "uirevision": "keep",
        "title": _SAID | {"text": plain(x_title)},
        "xaxis": _AXIS | {"showgrid": False, "nticks": 6, "ticklabelstandoff": 4},  # clear of y's lowest
        "yaxis": _AXIS | {"nticks": 5 if height > 200 else 4, "title": {"text": plain(y_title)}}
        | {"fixedrange": True, "exponentformat": "e"},
    }  # fmt: skip


def note(text: str) -> Figure:
    """Words in a chart's upper right corner."""
    place = {"xref": "paper", "yref": "paper", "x": 1, "y": 1, "xanchor": "right", "yanchor": "top"}
    return place | {"text": plain(text), "showarrow": False, "font": {"size": 11}, "captureevents": False}


def file_name(text: str = "chart") -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:60] or "chart"
