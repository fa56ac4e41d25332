"""A page: which addresses are its own, what stands on it, and where its news come from.

A page is a file in `pages/` with a class like this, named in `pages/__init__.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dash import Dash, dcc, html
from dash.development.base_component import Component
from dash_ag_grid import AgGrid

from dashboard.address import Address
from dashboard.live.feeds import Feed, Feeds
from dashboard.panel import Panel
from dashboard.plugins import Plugin
from dashboard.sql.queries import Queries
from infra.settings import Settings


@dataclass(frozen=True)
class Services:
    """What callbacks read with."""

    settings: Settings
    feeds: Feeds
    queries: Queries
    pages: Pages


class Page:
    """A page of the dashboard. One object serves all who look at it.

    Args:
        plugins: panels of the users' that stand on it.
    """

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self._plugins = list(plugins)

    def shows(self, address: Address) -> bool:
        """Whether this page is at an address."""
        raise NotImplementedError

    def key(self, address: Address) -> str:
        """Identifies its components: while the key stays the same, they stay while the address changes."""
        raise NotImplementedError

    def crumb(self, address: Address) -> str:
        """What stands beside the brand."""
        return ""

    def panels(self, address: Address) -> list[Panel]:
        """New panels for one who opens the page."""
        return []

    def plugins(self) -> list[Plugin]:
        """The users' panels on it."""
        return [plugin for plugin in self._plugins if plugin.usable]

    def layout(self, address: Address) -> Component:
        """Its components."""
        raise NotImplementedError

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """Where its news come from."""
        raise NotImplementedError

    def register(self, app: Dash, services: Services) -> None:
        """Its callbacks."""


def apart(layout: Component) -> tuple[Component, dict[str, Component]]:
    """A layout with an empty place for each chart and table, and those by the id of their place.

    Plotly and AG Grid take a browser longer than all the rest, so they come after the first numbers.
    """
    heavy = dict[str, Component]()
    return _emptied(layout, heavy), heavy


def _emptied(part: Any, heavy: dict[str, Component]) -> Any:
    if isinstance(part, list | tuple):
        return [_emptied(one, heavy) for one in part]
    if isinstance(part, dcc.Graph | AgGrid) and (id := getattr(part, "id", None)) is not None:
        place = "place-" + quote(str(id), safe="").replace(".", "%2E")  # Dash's ids have no dots or braces
        heavy[place] = part
        return html.Div(id=place, className="place", style=getattr(part, "style", None))
    if getattr(part, "children", None) is None:
        return part
    made = copy.copy(part)  # a user's panel has one layout for all pages
    made.children = _emptied(part.children, heavy)
    return made


class Pages:
    """All pages; the first that shows an address has it.

    Args:
        pages: the last one shows every address.
    """

    def __init__(self, pages: Sequence[Page]) -> None:
        self._pages = list(pages)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._pages)

    def of(self, address: Address) -> Page:
        """The page at an address."""
        return next(page for page in self._pages if page.shows(address))
