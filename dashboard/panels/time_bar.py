"""The time bar: where this viewer stands in the run, and the controls that move him.

A control is a button that says `data-act` to the server, or an option in the address. No move is a callback:
the feed of the page moves, and every panel gets the moment as its news.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import dash_bootstrap_components as dbc
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html
from dash.development.base_component import Component

from dashboard import form
from dashboard.address import Address
from dashboard.controls import patch, select
from dashboard.live.news import Clock
from dashboard.panel import Drawn, News, Panel, attrs, live, live_attr
from dashboard.time.axis import AXES
from dashboard.time.clock import DELAYS, SPEEDS
from dashboard.time.marks import Drawing, Mark

STATES = {"live": ("Live", "running"), "paused": ("Paused", "silent"), "replay": ("Replay", "replay")}
"""State → its word, its tone."""
ZOOMS = {"1": "all", "10": "a tenth", "100": "a hundredth", "1000": "a thousandth"}
LEVELS, NEAR = 3, 0.008
"""Marks below each other, and the share of the width within which they would lie upon each other."""
KEYS = (
    ("Space", "Play and pause"),
    ("← →", "One step; with Shift one episode, with Ctrl one training step"),
    ("Home, End", "The beginning; live again (Esc, too)"),
    ("[ ]", "Begin and end of the loop"),
    ("1 – 9", "Speed, from 0.1 to 100 ×"),
)


class TimeBar(Panel):
    """One line of controls, and the run's whole length below it."""

    title, width = "Time", 12

    def reset(self) -> None:
        self.clock: Clock = getattr(self, "clock", Clock())
        self.drawing: Drawing = getattr(self, "drawing", Drawing())
        self.marks: list[tuple[Mark, float]] | None = None
        self.viewer = ""

    def seek(self) -> None:
        """It stands where it is told."""

    def layout(self) -> Component:
        marks = live_attr(data_time_state="time.state", data_axes="time.axes", data_loop="time.looped")
        named = attrs(aria_label="Time")
        return html.Section([_controls(), _track(), _options()], className="card time-bar", **marks, **named)

    def take(self, news: News) -> None:
        if news.clock is None:
            return
        self.clock = news.clock
        if isinstance(news.clock.drawing, Drawing):
            self.drawing = news.clock.drawing

    def draw(self) -> Drawn:
        clock, drawing = self.clock, self.drawing
        word, tone = STATES[clock.state]
        texts: dict[str, Any] = {
            "time.state": clock.state,
            "time.word": word,
            "time.tone": tone,
            "time.play": "▶" if clock.state == "paused" else "❚❚",
            "time.where": clock.words,
            "time.said": clock.said,
            "time.back": _back(clock.meanwhile),
            "time.speed": f"{clock.speed:g}",
            "time.axes": " ".join(clock.axes),
            "time.min": f"{clock.low:g}" if clock.axes else "0",
            "time.max": _number(clock.high),
            "time.value": _number(clock.value),
            "time.cursor": f"left: {100 * _share(clock, clock.value):.3f}%",
            "time.now": f"left: {100 * _share(clock, clock.newest):.3f}%",
            "time.curve": f"mask-image: {drawing.curve}" if drawing.curve else "display: none",
            "time.pictures": _stretch(drawing.pictures),
            "time.loop": _stretch(_loop(clock)),
            "time.looped": "yes" if clock.loop else "",
            "time.low": _end(clock, clock.low),
            "time.high": _end(clock, clock.high),
        }
        if self.viewer != clock.viewer:
            self.viewer = clock.viewer
            texts["copy-follow"] = {"data-viewer": clock.viewer}
        if self.marks != drawing.marks:
            self.marks = drawing.marks
            texts["time-marks"] = {"children": _marks(drawing)}
        return texts


def register(app: Dash) -> None:
    """Copy a link to this moment, or to this viewer."""

    @app.callback(
        Output("time-copied", "data-text"),
        Output("time-copied", "children"),
        Input("copy-link", "n_clicks"),
        Input("copy-follow", "n_clicks"),
        State("url", "href"),
        State("copy-follow", "data-viewer"),
        prevent_initial_call=True,
    )
    async def link(_: Any, __: Any, href: str, viewer: str) -> Any:
        follow = ctx.triggered_id == "copy-follow"
        # The browser knows where it is; Dash may not have heard of the newest moment yet.
        copied = {"at": time.time()} | ({"text": following(href, viewer)} if follow else {})
        words = "Link copied: who opens it goes where you go" if follow else "Link to this moment copied"
        return copied, words

    copy_it, in_browser = ClientsideFunction("stepstream", "copy"), cast("Any", app.clientside_callback)
    copied = Input("time-copied", "data-text")
    in_browser(copy_it, Output("time-copied", "title"), copied, prevent_initial_call=True)


def following(href: str, viewer: str) -> str:
    """The link to the same page, which goes where a viewer goes."""
    parts = urlsplit(href)
    moment = dict.fromkeys(("at", "episode", "step", "loop"))
    return f"{parts.scheme}://{parts.netloc}{Address.of(href).to(**moment, follow=viewer)}"


def _controls() -> Component:
    state = html.Span(className="status time-word", **live_attr(text="time.word", data_status="time.tone"))
    moves = [
        _button("home", "⇤", "Beginning", "Home"),
        _button("training", "⋘", "Training step before", "Ctrl+ArrowLeft", "-1"),
        _button("episode", "«", "Episode before", "Shift+ArrowLeft", "-1"),
        _button("step", "\u2039", "Step before", "ArrowLeft", "-1"),
        html.Button(
            type="button",
            className="chip",
            title="Play or pause (Space)",
            **attrs(data_act="play", data_key="Space", aria_label="Play or pause"),
            **live_attr(text="time.play"),
        ),
        _button("step", "\u203a", "Step after", "ArrowRight", "1"),
        _button("episode", "»", "Episode after", "Shift+ArrowRight", "1"),
        _button("training", "⋙", "Training step after", "Ctrl+ArrowRight", "1"),
    ]
    back = html.Button(
        live("time.back", text="Back to live"),
        type="button",
        className="btn btn-sm time-back",
        title="Back to live (End)",
        **attrs(data_act="live", data_key="End Escape"),
    )
    links = [
        html.Button("Copy link", id="copy-link", type="button", className="btn btn-sm"),
        html.Button(
            "Follow link",
            id="copy-follow",
            type="button",
            className="btn btn-sm",
            title="A link by which others go where you go",
            **attrs(data_act="lead"),
        ),
    ]
    where = live("time.where", className="time-where", text="")
    said = live("time.said", className="time-said muted", text="", role="status")
    return html.Div(
        [state, html.Span(moves, className="time-moves"), where, said, *links, back],
        className="time-controls",
    )


def _button(act: str, sign: str, label: str, key: str, value: str = "") -> Component:
    marks = attrs(data_act=act, data_value=value, data_key=key, aria_label=label)
    return html.Button(sign, type="button", className=f"chip time-{act}", title=f"{label} ({key})", **marks)


def _track() -> Component:
    """The run from end to end: curve, marks, cursor, and the slider over them."""
    slider = dbc.Input(type="range", min=0, max=1, value=0, step="any", id="time-slider", debounce=False)
    over = html.Span(
        slider,
        className="time-slide",
        **attrs(data_act="scrub"),
        **live_attr(min="time.min", max="time.max", value="time.value"),
    )
    parts = [
        html.Span(
            className="time-pictures",
            title="Kafka still holds pictures of this part",
            **_styled("time.pictures"),
        ),
        html.Span(className="time-loop", **_styled("time.loop")),
        html.Span(className="time-curve", **_styled("time.curve")),
        html.Span(className="time-cursor", **_styled("time.cursor")),
        html.Span("now", className="time-now", **_styled("time.now")),
        over,
        html.Span(id="time-marks", className="time-marks"),
    ]
    ends = [live("time.low", text=""), live("time.high", text="")]
    return html.Div([html.Div(parts, className="time-track"), html.Div(ends, className="time-ends muted")])


def _styled(key: str) -> dict[str, Any]:
    return live_attr(style=key)


def _options() -> Component:
    loop = html.Span(
        [
            _button("from", "[", "Loop from here", "["),
            _button("to", "]", "Loop to here", "]"),
            html.Button(
                "Loop ✕", type="button", className="chip time-unloop", **patch({"loop": None}, replace=True)
            ),
        ],
        className="time-moves",
    )
    speeds = [
        html.Button(
            f"{speed:g}×",
            type="button",
            title=f"{speed:g} × (key {number})",
            **attrs(data_value=f"{speed:g}", data_key=str(number), aria_pressed="false"),
            **patch({"speed": f"{speed:g}"}, replace=True),
        )
        for number, speed in enumerate(SPEEDS, 1)
    ]
    speed = html.Div(
        speeds,
        className="segments",
        **attrs(role="group", aria_label="Speed"),
        **live_attr(data_chosen="time.speed"),
    )
    selects = [
        _select("axis", "Axis", AXES),
        _select("zoom", "Shows", ZOOMS),
        _select("behind", "Behind live", DELAYS),
    ]
    toast = html.Div(id="time-copied", className="toast-box", role="status")
    return html.Div([loop, speed, *selects, toast], className="time-options")


def _select(name: str, label: str, values: Mapping[str, str]) -> Component:
    default = next(iter(values))
    return select(name, label, values, default, default=default, of="time")


def _marks(drawing: Drawing) -> list[Component]:
    """The marks from left to right, those that would lie upon each other one below the other."""
    made, last, level = [], -1.0, 0
    for mark, share in sorted(drawing.marks, key=lambda each: each[1]):
        level = (level + 1) % LEVELS if share - last < NEAR else 0
        last = share
        made.append(_mark(mark, share, level))
    return made


def _mark(mark: Mark, share: float, level: int) -> Component:
    style = {"left": f"{100 * share:.3f}%", "top": f"{12 * level}px"}
    link = patch({"at": mark.at, "episode": None, "step": None})
    label = attrs(aria_label=mark.words)
    return html.Button(
        type="button",
        key=f"{mark.kind} {mark.at}",
        title=mark.words,
        className=f"time-mark {mark.kind}",
        style=style,
        **label,
        **link,
    )


def _back(meanwhile: int) -> str:
    """The way back to live says how much is missed."""
    if not meanwhile:
        return "Back to live"
    return f"Back to live · {meanwhile:,} new step{'' if meanwhile == 1 else 's'}"


def _share(clock: Clock, value: float) -> float:
    width = clock.high - clock.low
    return min(max((value - clock.low) / width, 0.0), 1.0) if width else 1.0


def _loop(clock: Clock) -> tuple[float, float] | None:
    return (_share(clock, clock.loop[0]), _share(clock, clock.loop[1])) if clock.loop else None


def _stretch(shares: tuple[float, float] | None) -> str:
    if shares is None or shares[1] < shares[0]:
        return "display: none"
    return f"left: {100 * shares[0]:.3f}%; width: {100 * (shares[1] - shares[0]):.3f}%"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _end(clock: Clock, value: float) -> str:
    if not clock.axes:
        return ""
    return form.clock(value) if clock.axis == "time" else f"{value:,.0f}"
