"""The newest picture: an image, a grid of cells, or a terminal's text with colours."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from dash import html
from dash.development.base_component import Component

from dashboard.live.news import parsed
from dashboard.panel import Drawn, News, Panel, attrs, live, live_attr
from dashboard.panels.agents import tone
from schemas.live import LiveFrame

HEIGHT, WIDTH, LARGEST = 164, 268, 44
"""Pixels of a grid, and of one of its cells."""
MOST_CELLS = 4096
_PLACES = ("agent_position", "agent_pos", "agent", "position")
_INKS = ("#808080", "--bad", "--good", "--warn", "--series-0", "--series-3", "--series-5", "--text")
_ESCAPES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Frame(Panel):
    """An image is one attribute, set with every delta; of cells and text few are drawn a second."""

    title, every = "Frame", 0.1

    def reset(self) -> None:
        self.frame: LiveFrame | None = None
        self.said = ""
        """What is to know of it."""
        self.cells = False
        """Whether cells or text may still stand there."""

    def layout(self) -> Component:
        image = html.Img(className="frame-image", **live_attr(src="frame", alt="frame.alt"))
        said = live("frame.said", html.P, "", className="of")
        return html.Div([image, html.Div(id="frame-cells"), said], className="frame", id="frame")

    def take(self, news: News) -> None:
        if news.frame is not None or ((news.first or news.seek) and news.pictures):
            self.frame, self.said, self.dirty = news.frame, news.frame_said, True

    def draw(self) -> Drawn:
        texts = {
            "agent.framed": "yes" if self.frame or self.said else "",
            "frame.said": self.said,
            "frame": "",
        }
        if self.frame is None:
            return texts | {"frame-cells": {"children": []}}
        if is_image(self.frame):
            texts |= {"frame": source(self.frame), "frame.alt": _alt(self.frame)}
            return texts | ({"frame-cells": {"children": []}} if self.cells else {})
        self.cells = True
        return texts | {"frame-cells": {"children": drawing(self.frame)}}


def is_image(frame: LiveFrame) -> bool:
    """Whether a browser shows it as it is."""
    return frame.media_type.startswith("image/")


def source(frame: LiveFrame) -> str:
    """An image as the address of an `Img`."""
    media_type = re.sub(r"[^a-z0-9/+.-]", "", frame.media_type.lower())
    return f"data:{media_type};base64,{base64.b64encode(frame.data).decode()}"


def picture(frame: LiveFrame) -> Component:
    """Any picture as a component."""
    if is_image(frame):
        return html.Img(className="frame-image", src=source(frame), alt=_alt(frame))
    return drawing(frame)


def _alt(frame: LiveFrame) -> str:
    known = [form if form is not None else "–" for form in (frame.episode_index, frame.step_index)]
    return f"Frame of episode {known[0]}, step {known[1]}"


def drawing(frame: LiveFrame) -> Component:
    """A grid or a terminal's text."""
    text = frame.data.decode(errors="replace")
    if frame.media_type == "application/json" and (cells := grid(parsed(text))) is not None:
        return cells
    return html.Pre(list(ansi(text)))


def grid_of(extras: str | None) -> LiveFrame | None:
    """The grid that a step out of SQL carries."""
    found = parsed(extras)
    payload = found.get("render_payload") if isinstance(found, dict) else None
    if not isinstance(payload, dict) or payload.get("mode") != "grid":
        return None
    return LiveFrame(0, None, None, "application/json", None, None, 0, msgspec.json.encode(payload))


def grid(payload: Any) -> Component | None:
    """A grid of letters or numbers, as FrozenLake's: one colour a value, where the agent is has a ring."""
    if not isinstance(payload, dict) or not isinstance(payload.get("grid"), list):
        return None
    table = [list(row) if isinstance(row, str | list) else [row] for row in payload["grid"]]
    columns = max([1, *map(len, table)])
    if columns * len(table) > MOST_CELLS:
        return html.P(f"A grid of {len(table)} by {columns} cells is too large to be drawn.")
    size = max(6, min(HEIGHT // max(len(table), 1) - 2, WIDTH // columns - 2, LARGEST))
    at = next((payload[name] for name in _PLACES if isinstance(payload.get(name), list)), None)
    cells = [
        _cell(value, size, value == "agent" or at == [r, c])
        for r, row in enumerate(table)
        for c, value in enumerate(row)
    ]
    style = {"gridTemplateColumns": f"repeat({columns}, {size}px)", "gridAutoRows": f"{size}px"}
    label = attrs(role="img", aria_label=f"Grid, {len(table)} by {columns}")
    return html.Div(cells, className="cells", style=style, **label)


def _cell(value: Any, size: int, here: bool) -> Component:
    words = str(value)
    letter = min(size / max(len(words), 2) * 1.5, 15)
    ground = f"color-mix(in srgb, {tone(f'cell {words}')} 22%, var(--card))"
    style = {"background": ground, "fontSize": f"{letter:.1f}px"}
    return html.Span(words if letter >= 7 else "", className="here" if here else "", title=words, style=style)


def ansi(text: str) -> Iterator[Any]:
    """Text with ANSI colours as spans; every other escape is left out."""
    style: dict[str, str] = {}
    last = 0
    for found in _ESCAPES.finditer(text):
        yield from _styled(text[last : found.start()], style)
        last = found.end()
        if found[2] == "m":
            for code in found[1].split(";"):
                style = _after(style, int(code) if code.isdigit() else 0)
    yield from _styled(text[last:], style)


def _styled(text: str, style: dict[str, str]) -> Iterator[Any]:
    if text:
        yield html.Span(text, style=style) if style else text


def _after(style: dict[str, str], code: int) -> dict[str, str]:
    if code == 0:
        return {}
    if code == 1:
        return style | {"fontWeight": "600"}
    if code == 39:
        return {name: value for name, value in style.items() if name != "color"}
    if 30 <= code <= 37 or 90 <= code <= 97:
        return style | {"color": _ink(code % 10)}
    if 40 <= code <= 47:
        return style | {"background": _ink(code - 40), "color": "var(--page)"}
    return style


def _ink(number: int) -> str:
    name = _INKS[number]
    return f"var({name})" if name.startswith("--") else name
