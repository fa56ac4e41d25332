"""Figures show workers' names as text, and redraw only what changed."""

from __future__ import annotations

from math import isfinite, log2, log10
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import axes, charts
from dashboard.axes import Scale
from infra.history.curves import Curve

HOSTILE = "<img src=x onerror=alert(1)>"


def texts_in(value: Any) -> list[str]:
    """Every text in a figure."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for part in parts for text in texts_in(part)]


def figures(name: str) -> list[dict[str, Any]]:
    """Every kind of figure, with this name wherever a worker's name can stand."""
    curve = Curve(x=[1.0, 2.0], y=[1.0, 2.0], mean_x=[2.0], mean=[1.5])
    made: list[Any] = [
        charts.graph("g", 2, x_title=name, y_title=name, names=[name, name]),
        charts.bars("b", [name], [1]),
        charts.heat("h", [[1, 2], [3, 4]]),
    ]
    return [
        *(graph.figure for graph in made),
        charts.curve_figure(curve, name, Scale("relative", log=True), name),
        charts.bars_drawn([name], [1])["figure"].to_plotly_json(),
        charts.curve_drawn(curve, name, Scale(), name)["figure"].to_plotly_json(),
    ]


@settings(deadline=None)
@given(st.text(max_size=50).map(lambda text: text + HOSTILE))
def test_no_name_is_markup(name: str) -> None:
    """No text of a figure holds markup, because Plotly takes titles, names and notes as HTML."""
    for figure in figures(name):
        for text in texts_in(figure):
            assert "<" not in text.replace("<extra></extra>", "")


def test_what_is_made_is_a_figure_of_plotlys() -> None:
    """Plotly's own checks accept each figure."""
    for figure in figures("loss")[:4]:
        go.Figure(figure)


def test_a_curve_says_what_it_is_and_what_is_not_there() -> None:
    """A chart's title names its axes and smoothing and says that it is a sample; an empty chart says so."""
    curve = Curve(x=[1.0], y=[1.0], sampled=True)
    title = charts.curve_figure(curve, "loss", Scale(), "exponential 0.9")["layout"]["title"]
    assert title["text"] == "loss over step · exponential 0.9 · a sample, reading the rest"
    (empty,) = charts.curve_figure(Curve(), "loss", Scale())["layout"]["annotations"]
    assert empty["text"] == "nothing yet"
    whole = charts.curve_figure(Curve(x=[1.0], y=[1.0]), "loss", Scale())["layout"]
    assert (whole["title"]["text"], whole["annotations"]) == ("loss over step", [])
    long = charts.curve_figure(curve, "l" * 100, Scale("relative"))["layout"]["title"]["text"]
    assert long.startswith("l" * 31 + "… over time since the start (s)")


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50), st.sampled_from([0.0, 1e9, -1e15]))
def test_values_have_the_digits_that_are_seen(values: list[float], offset: float) -> None:
    """A value keeps six digits, and six digits of its place in the chart; none has more than it had."""
    given_ = np.array(values) + offset
    found = charts.rounded(given_)
    wrong, span = np.abs(found - given_), np.ptp(given_)
    assert (wrong <= 1e-5 * np.abs(given_)).all()
    assert (wrong <= 1e-5 * span).all() or span == 0
    assert all(len(str(a)) <= len(str(b)) + 1 for a, b in zip(found.tolist(), given_.tolist(), strict=True))


def test_a_worker_writes_no_digits_that_nobody_sees() -> None:
    """Values of single precision are as short as the worker meant them."""
    assert charts.rounded(np.array([np.float32(0.1), np.float32(0.30000001)], dtype=float)).tolist() == [
        0.1,
        0.3,
    ]


@given(st.floats(-1e9, 1e9), st.lists(st.floats(1, 1e9), min_size=1, max_size=200))
def test_the_range_of_x_holds_all_points_and_grows_in_steps(start: float, lengths: list[float]) -> None:
    """The range of x ends at most 1/8 of the span after the newest point; 9 changes double the span."""
    x, ends = [start], set()
    for length in lengths:
        x.append(x[-1] + length)
        begin, end = axes.x_axis(Curve(x=list(x), y=[0.0] * len(x)), Scale())["range"]
        assert begin == start
        assert x[-1] <= end <= x[-1] + (x[-1] - start) / 8
        ends.add(end)
    assert len(ends) <= 9 * (2 + log2((x[-1] - start) / (x[1] - start)))


def test_a_chart_that_starts_again_keeps_its_range() -> None:
    """An axis of a line that starts again holds what lines before it reached; of time it is the page's."""
    curve, reach = Curve(x=[0.0, 1.0], y=[0.0, 1.0]), (np.array([0.0, 8.0]), np.array([-8.0, 1.0]))
    assert axes.x_axis(curve, Scale(reach=reach))["range"] == [0, 8]
    low, high = axes.y_axis(curve, Scale(reach=reach))["range"]
    assert low < -8
    assert 1 < high < 2.1
    assert axes.x_axis(curve, Scale("time", reach=reach)) == {}


@given(st.lists(st.floats(allow_nan=False), max_size=20), st.booleans())
def test_the_range_of_y_holds_all_values(y: list[float], log: bool) -> None:
    """The range of y holds each value that can be drawn, and a third more at most; else it is Plotly's."""
    axis = axes.y_axis(Curve(x=[float(n) for n in range(len(y))], y=y), Scale(log=log))
    drawn = [log10(value) if log else value for value in y if isfinite(value) and (value > 0 or not log)]
    if axis["autorange"]:
        finest = max(map(abs, drawn), default=0) * 1e-11
        assert not drawn or not max(finest, 1e-280) < ((max(drawn) - min(drawn)) or 2) < 1e280
    else:
        low, high = axis["range"]
        assert low < min(drawn) <= max(drawn) < high
        assert high - low <= 4 / 3 * ((max(drawn) - min(drawn)) or 2)


def test_the_scale_of_a_chart() -> None:
    """A chart can be logarithmic, over time, or without outliers; a log axis leaves none out."""
    y = [*np.linspace(0, 1, 100).tolist(), 1e9]
    curve = Curve(x=[float(n) for n in range(101)], y=y)
    layout = charts.curve_figure(curve, "loss", Scale("time", log=True, outliers=False))["layout"]
    assert (layout["xaxis"]["type"], layout["yaxis"]["type"]) == ("date", "log")
    assert layout["yaxis"]["range"][1] > 9
    assert charts.curve_figure(curve, "loss", Scale(outliers=False))["layout"]["yaxis"]["range"][1] < 2


@pytest.mark.parametrize(
    ("y", "wide"), [([119_960.0, 119_999.0], True), ([0.0, 1e9], False), ([0.1, 0.2], False)]
)
def test_long_labels_have_room(y: list[float], wide: bool) -> None:
    """Values of many digits that lie close together have a wider margin for their labels."""
    layout = charts.curve_figure(Curve(x=[0.0, 1.0], y=y), "reward", Scale())["layout"]
    assert (layout["margin"]["l"] > axes.LEFT) == wide


def test_new_points_keep_the_zoom() -> None:
    """New points patch only the data of a figure, never an axis's range."""
    patch = charts.drawn(([1], [2]), ([1], [2]))["figure"].to_plotly_json()
    assert {tuple(part["location"]) for part in patch["operations"]} == {
        ("data", i, name) for i in (0, 1) for name in ("x", "y")
    }


@pytest.mark.parametrize("count", [0, 3, 10_000])
def test_a_live_line_is_thinned(count: int) -> None:
    """A live line keeps a limited number of points, and its extremes among them."""
    y: list[float | None] = [float(n % 7) for n in range(count)]
    if count > 5:
        y[5] = None
    x, thin = charts.thin(list(range(count)), y)
    assert len(x) == len(thin) <= charts.POINTS
    if count > 100:
        assert {0.0, 6.0} <= set(thin)


def test_a_heat_map_has_a_cell_for_each_value() -> None:
    """A heat map has a cell for each value: rows go down, columns to the right."""
    graph: Any = charts.heat("h", [[1, 2, 3], [4, 5, 6]])
    cells = graph.figure["data"][0]
    assert list(zip(cells["base"], cells["x"], cells["marker"]["color"], strict=True))[3] == (1, 0, 4.0)
    assert charts.heat_drawn(np.zeros((0, 3)))["figure"] is not None


@pytest.mark.parametrize(
    ("y", "log", "said"),
    [
        ([], False, "nothing yet"),
        ([-1.0, 0.0], True, "nothing above 0"),
        ([-1.0], False, ""),
        ([1.0], True, ""),
    ],
)
def test_an_empty_chart_says_why(y: list[float], log: bool, said: str) -> None:
    """A chart without a point says whether there is none, or none that a log scale can show."""
    curve = Curve(x=[float(n) for n in range(len(y))], y=y)
    notes = charts.curve_figure(curve, "loss", Scale(log=log))["layout"]["annotations"]
    assert [note["text"][: len(said)] for note in notes] == ([said] if said else [])
