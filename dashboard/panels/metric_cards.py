"""A chart's card: its name, its newest value, and what can be done with it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import charts
from dashboard.controls import patch
from dashboard.panel import attrs, live, live_attr
from dashboard.panels.chart import Chart
from dashboard.panels.chart_choice import Choice

HEIGHT = 180


def group(name: str, cards: list[Component]) -> Component:
    """Some cards under one head."""
    summary = html.Summary([html.H2(name), html.Small(f"{len(cards)}", className="muted")])
    return html.Details(
        [summary, html.Div(cards, className="small-charts")], open=True, className="metric-group"
    )


def card(
    chart: Chart,
    choice: Choice,
    title: str = "",
    *,
    height: int = HEIGHT,
    head: Sequence[Component] = (),
    pinned: bool | None = None,
) -> Component:
    """A chart in its card.

    Args:
        chart: its series.
        choice: how it is drawn.
        title: instead of the series' name.
        height: of the chart, in pixels.
        head: more for its head.
        pinned: whether it stands first; None: it can be neither pinned nor hidden.
    """
    full = chart.named == choice.full
    top = html.Div(
        [
            html.H3(title or chart.title, title=chart.series.name),
            html.Span(className="flex-fill"),
            *([] if pinned is None else _pin_and_hide(chart, choice, pinned)),
            *_tools(chart, full),
            *head,
            live(f"value.{chart.id}", text=chart.newest, className="value muted"),
        ],
        className="panel-head",
    )
    graph = charts.graph(
        chart.graph(choice),
        2,
        height,
        x_title=chart.scale(choice).title,
        names=[chart.series.name],
        buttons=True,
    )
    marks = live_attr(aria_label=f"label.{chart.id}")
    box = html.Div(graph, role="img", **marks, **attrs(aria_label=chart.series.name))
    return html.Section([top, box], className="card metric full" if full else "card metric")


def _pin_and_hide(chart: Chart, choice: Choice, pinned: bool) -> list[Component]:
    name = chart.named
    pin = _tool("◆" if pinned else "◇", "Unpin" if pinned else "Pin", pin=_toggled(choice.pinned, name))
    return [pin, _tool("✕", "Hide", hide=_toggled(choice.hidden, name))]


def _tools(chart: Chart, full: bool) -> list[Component]:
    link = {"href": chart.csv, "download": ""} | live_attr(href=f"csv.{chart.id}")
    csv = html.A("CSV", className="tool", title="Every point", **link)
    sized = "Leave full screen" if full else "Full screen"
    close = attrs(data_key="Escape") if full else {}
    return [csv, _tool("✕" if full else "⤢", sized, **close, full=None if full else chart.named)]


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
