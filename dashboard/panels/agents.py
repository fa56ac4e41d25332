"""The agents of a run: a tab each, born with its first event; beyond some dozens a list to search."""

from __future__ import annotations

import time
from typing import Any, ClassVar
from urllib.parse import quote

from dash import Patch, html
from dash.development.base_component import Component

from dashboard import form, grids
from dashboard.controls import patched, search
from dashboard.live.merge import natural
from dashboard.live.types import AgentRow
from dashboard.panel import Drawn, News, Panel, attrs, live, live_attr

MANY = 40
"""More agents are a list that costs what is in sight of it."""
SEARCH_FROM = 9
LIVE_MS = 10_000
SPARK = (44, 16)
COLUMN = {"field": "agent_id", "cellRenderer": "AgentTab", "flex": 1}


def tab_text(agent_id: str) -> str:
    """What stands on an agent's tab."""
    return f"Live-{agent_id}-Training"


def tone(key: str) -> str:
    """One of the six series colours, the same for one key everywhere."""
    found = 2166136261
    for char in key:
        found = ((found ^ ord(char)) * 16777619) & 0xFFFFFFFF
    return f"var(--series-{found % 6})"


class Agents(Panel):
    """Tabs, or the list; the chosen one, and its neighbours for the keys."""

    title, every, of_run = "Agents", 0.25, True
    row_ids: ClassVar = {"agent-list": "agent_id"}

    def reset(self) -> None:
        self.rows: dict[str, AgentRow] = {}
        self.chosen: str | None = None
        self.status = "running"
        self.shown: list[str] = []
        """What the page has, in order."""
        self.listed: dict[str, dict[str, Any]] = {}
        """The list's rows as the page has them."""
        self.order: list[str] = []
        self.made: dict[str, tuple[Any, dict[str, Any]]] = {}
        """What a row of the list was made of, and the row."""
        self.found = ""
        self.scrolled: str | None = None

    def layout(self) -> Component:
        head = html.Div([html.H2("Agents"), live("agents.count", text="")], className="agents-head")
        marks = attrs(aria_label="Agents") | live_attr(data_some="agents.some")
        tabs = html.Div(id="agent-tabs", className="agent-tabs", role="tablist", **marks)
        options = {"headerHeight": 0, "rowHeight": 32, "rowClassRules": {"chosen": "params.data.chosen"}}
        by = f"params.data.{self.row_ids['agent-list']}"
        listed = grids.grid("agent-list", [COLUMN], by, options=options, rowData=[])
        many = html.Div(listed, className="agent-many", role="tablist", **attrs(aria_label="Agents"))
        keys = [_key("next", "j"), _key("previous", "k")]
        find = search("find", "Find an agent", id="agent-search")
        body = [head, find, tabs, many, live("agents.none", html.P, "", className="muted"), *keys]
        return html.Aside(body, className="agents", id="agents", **attrs(aria_label="Agents"))

    def moved(self) -> None:
        self.dirty = True

    def take(self, news: News) -> None:
        if news.run is not None:
            self.status = news.run.get("status") or "running"
        for row in news.agents:
            before = self.rows.get(row.agent_id)
            if before is None or _acts(before) != _acts(row):
                self.order = []
            self.rows[row.agent_id] = row
        self.dirty = self.dirty or bool(news.agents) or news.run is not None or news.agent != self.chosen
        self.chosen = news.agent

    def draw(self) -> Drawn:
        order = self._ordered()
        words = self.address.get("find").lower().split()
        found = [name for name in order if all(word in name.lower() for word in words)]
        count = len(order)
        size = "many" if count > MANY else "some" if count > 1 else "one"
        texts = {"agents.count": f"{count:,}", "agents.size": size}
        texts["agents.search"] = "yes" if count >= SEARCH_FROM else "no"
        texts["agents.some"] = "yes" if found else ""
        texts["agents.none"] = "No agent matches." if words and not found else self._unknown(size)
        texts["agent.tone"] = f"--tone:{tone(self.chosen)}" if self.chosen else ""
        texts |= self._neighbours(found)
        return texts | (self._list(order) if size == "many" else self._tabs(found))

    def _unknown(self, size: str) -> str:
        """An address may name an agent that the run does not have. A long list comes in parts: who knows?"""
        unknown = self.chosen and self.rows and self.chosen not in self.rows and size != "many"
        return f"This run has no agent {self.chosen} yet: choose one." if unknown else ""

    def _ordered(self) -> list[str]:
        """Who only logs metrics stands below those who act."""
        if not self.order:
            self.order = sorted(self.rows, key=lambda name: (not _acts(self.rows[name]), natural(name)))
        return self.order

    def _neighbours(self, found: list[str]) -> dict[str, str]:
        at = found.index(self.chosen) if self.chosen in found else -1
        ways = {"next": found[(at + 1) % len(found)], "previous": found[max(at, 0) - 1]} if found else {}
        return {f"agents.{way}": _chosen(name) for way, name in ways.items()}

    def _tabs(self, found: list[str]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for i, name in enumerate(found):
            made |= self._tab_texts(i, name)
        if found != self.shown:
            self.shown = found
            made["agent-tabs"] = {"children": [self._tab(i, name) for i, name in enumerate(found)]}
        return made

    def _tab_texts(self, i: int, name: str) -> dict[str, str]:
        chosen = name == self.chosen
        return {
            f"tab.{i}.status": self._state(self.rows[name]),
            f"tab.{i}.chosen": "true" if chosen else "false",
            f"tab.{i}.index": "0" if chosen else "-1",
            f"tab.{i}.spark": _mask(self.rows[name], name),
            f"tab.{i}.title": self._title(self.rows[name]),
        }

    def _tab(self, i: int, name: str) -> Component:
        said = self._tab_texts(i, name)
        mask = dict(part.split(":", 1) for part in said[f"tab.{i}.spark"].split(";", 1))
        style = {"maskImage" if key == "mask-image" else key: value for key, value in mask.items()}
        spark = html.I(
            className="spark", style=style, **live_attr(style=f"tab.{i}.spark"), **attrs(aria_hidden="true")
        )
        names = html.Span(tab_text(name), className="tab-name")
        marks = {"aria_selected": "chosen", "tabindex": "index", "data_status": "status", "title": "title"}
        return html.A(
            [names, spark],
            key=name,
            href=f"?agent={quote(name, safe='')}",
            role="tab",
            className="agent-tab status",
            title=said[f"tab.{i}.title"],
            tabIndex=said[f"tab.{i}.index"],
            **live_attr(**{attribute: f"tab.{i}.{key}" for attribute, key in marks.items()}),
            **attrs(aria_selected=said[f"tab.{i}.chosen"], data_status=said[f"tab.{i}.status"]),
            **attrs(aria_controls="agent", aria_label=tab_text(name), data_patch=_chosen(name)),
        )

    def _list(self, order: list[str]) -> dict[str, Any]:
        """The list gets what changed in it."""
        made = {name: self._row(name) for name in order}
        changed = {name: row for name, row in made.items() if self.listed.get(name) is not row}
        add = [row for name, row in changed.items() if name not in self.listed]
        update = [row for name, row in changed.items() if name in self.listed]
        props: dict[str, Any] = {}
        if not self.listed or order[: len(self.listed)] != list(self.listed):
            props["rowData"] = list(made.values())
        elif changed:
            props["rowTransaction"] = {"add": add, "update": update, "async": False}
        if (words := self.address.get("find")) != self.found:
            self.found = words
            patch = Patch()
            patch["quickFilterText"] = words
            props["dashGridOptions"] = patch
        if self.chosen != self.scrolled and self.chosen in self.listed:
            self.scrolled = self.chosen
            props["scrollTo"] = {"rowId": self.chosen, "rowPosition": "middle"}
        self.dirty = self.chosen != self.scrolled
        self.listed = made
        return {"agent-list": props} if props else {}

    def _row(self, name: str) -> dict[str, Any]:
        """Its row in the list; the same object while it stays the same, as a thousand cost the page 90 ms."""
        of = self.rows[name].returns, name == self.chosen, self._state(self.rows[name])
        known = self.made.get(name)
        if known is None or known[0] != of:
            known = self.made[name] = of, _made(name, *of)
        return known[1]

    def _state(self, row: AgentRow) -> str:
        """An agent that still acts is running, one that does not is idle while the run goes on."""
        if self.status != "running":
            return self.status
        return "running" if time.time() * 1000 - row.last_seen_at < LIVE_MS else "idle"

    def _title(self, row: AgentRow) -> str:
        state = self._state(row)
        speed = (
            f" · {form.rate(row.steps_per_second)} steps/s"
            if row.steps_per_second and state == "running"
            else ""
        )
        return f"{row.agent_id} · {state}{speed}"


def _made(name: str, returns: list[float], chosen: bool, state: str) -> dict[str, Any]:
    return {
        "agent_id": name,
        "text": tab_text(name),
        "patch": _chosen(name),
        "spark": grids.spark(returns, *SPARK),
        "tone": tone(name),
        "chosen": chosen,
        "status": state,
        "title": f"{name} · {state}",
    }


def _key(way: str, key: str) -> Component:
    """What a key clicks to go to the neighbour."""
    marks = attrs(data_key=key, aria_hidden="true") | live_attr(data_patch=f"agents.{way}")
    return html.A(tabIndex="-1", className="visually-hidden", **marks)


def _chosen(name: str) -> str:
    """The change of the address that opens an agent."""
    return patched(agent=name, episode=None, at=None)


def _acts(row: AgentRow) -> bool:
    """Whether it has acted, or only logged metrics."""
    return bool(row.steps or row.episodes)


def _mask(row: AgentRow, name: str) -> str:
    """A sparkline in the agent's colour: its path is cut out of the colour, so that a theme can change it."""
    path = grids.spark(row.returns, *SPARK)
    if not path:
        return "visibility:hidden"
    width, height = SPARK
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'>"
        f"<path d='{path}' fill='none' stroke='#000' stroke-width='1.25'/></svg>"
    )
    return f'--tone:{tone(name)};mask-image:url("data:image/svg+xml,{quote(svg)}")'
