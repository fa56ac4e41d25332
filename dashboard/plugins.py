"""Panels of users: named by the setting `dashboard_panels` or by the entry point `stepstream.panels`.

Each is tried once, when the dashboard starts. What cannot be used stays a `Plugin`, so that its page and the
log can say why.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import structlog
from dash import html
from dash.development.base_component import Component

from dashboard.panel import Panel

GROUP = "stepstream.panels"
LAYOUT_S = 3.0
"""A layout that takes longer is none."""

log = structlog.get_logger(service="dashboard")


class Plugin:
    """A panel's class by its name, tried.

    Args:
        name: where it comes from, as `module:Class`.
        load: returns the class.
    """

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name, self.error = name, ""
        self._class: type[Panel] = Panel
        self._layout: Component | None = None
        try:
            self._class = _checked(load())
            self._layout = _within(LAYOUT_S, self.panel().layout)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.refuse(f"{type(error).__name__}: {error}")

    @property
    def usable(self) -> bool:
        """Whether it can stand on a page."""
        return not self.error

    @property
    def place(self) -> str:
        """The page it is for: agent, run or home."""
        return self._class.place

    def panel(self) -> Panel:
        """A new object for one who opens a page."""
        return self._class()

    @property
    def id(self) -> str:
        """Of its panels."""
        return self.panel().id

    @property
    def width(self) -> int:
        """Of 12 columns."""
        return min(max(int(self._class.width), 1), 12)

    def layout(self) -> Component:
        """Its components; or, in their place, why there are none."""
        if self._layout is not None and self.usable:
            return self._layout
        head = html.Div(html.H3(self.name), className="panel-head")
        return html.Section([head, html.P(self.error, className="panel-failure")], className="card")

    def refuse(self, why: str) -> None:
        """It cannot be used."""
        self.error = f"The panel {self.name} cannot be used. {why}"[:500]
        log.error("panel_refused", panel=self.name, error=why)


def load(named: str, points: Iterable[Any] | None = None) -> list[Plugin]:
    """All panels of users.

    Args:
        named: `module:Class`, comma-separated.
        points: entry points; default: those that are installed.
    """
    found = [Plugin(name.strip(), partial(_named, name.strip())) for name in named.split(",") if name.strip()]
    found += [
        Plugin(point.value, point.load) for point in (entry_points(group=GROUP) if points is None else points)
    ]
    first: dict[str, Plugin] = {}
    for plugin in found:
        if plugin.usable and (other := first.setdefault(plugin.id, plugin)) is not plugin:
            plugin.refuse(f"Its class has the same name as {other.name}: rename one of the two.")
    return found


def _named(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError("STEPSTREAM_DASHBOARD_PANELS names panels as module:Class")
    if os.getcwd() not in sys.path:  # a program that was installed does not look there by itself
        sys.path.insert(0, os.getcwd())
    return getattr(import_module(module), attribute)


def _checked(found: Any) -> type[Panel]:
    if not (isinstance(found, type) and issubclass(found, Panel)):
        raise TypeError("it is no class derived from dashboard.panel.Panel")
    if found.draw is Panel.draw:
        raise TypeError("it has no draw()")
    if found.place not in ("agent", "run", "home"):
        raise ValueError(f"its place is {found.place!r}, not agent, run or home")
    return found


def _within(seconds: float, call: Callable[[], Component]) -> Component:
    """What a call returns, if it does so in time."""
    answer: list[Any] = []

    def work() -> None:
        try:
            answer.append(call())
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer:
        raise TimeoutError(f"layout() took longer than {seconds:.0f} s")
    if isinstance(answer[0], Exception):
        raise answer[0]
    if not isinstance(answer[0], Component):
        raise TypeError(f"layout() returned a {type(answer[0]).__name__}, no Dash component")
    return answer[0]
