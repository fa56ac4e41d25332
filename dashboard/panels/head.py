"""The run: its name, state and facts."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from dash import html
from dash.development.base_component import Component

from dashboard import form
from dashboard.panel import Drawn, News, Panel, live, live_attr

FACTS = {
    "run_id": "",
    "env_id": "Environment",
    "algorithm": "Algorithm",
    "project": "Project",
    "started": "Started",
    "duration": "Duration",
    "host": "Host",
    "git_commit": "Commit",
    "attempt": "Attempt",
}


SIGNS = {"running": "●", "completed": "✓", "failed": "✕"}
INKS = {"running": "#3fb27f", "completed": "#3fb27f", "failed": "#f0716b"}
MARKS = {"failed": "M17 17l12 12M29 17L17 29", "completed": "M15 24l6 6 9-12"}


def icon(status: str) -> str:
    """The favicon with a run's status, as an address."""
    mark, ink = MARKS.get(status, "M23 23h.01"), INKS.get(status, "#9aa3b2")
    wide = 5 if status in MARKS else 15
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M3 9h14M3 16h9M3 23h6" '
        'stroke="#6aa8ff" stroke-width="4" stroke-linecap="round"/>'
        f'<path d="{mark}" stroke="{ink}" stroke-width="{wide}" stroke-linecap="round" '
        'stroke-linejoin="round" fill="none"/></svg>'
    )
    return f"data:image/svg+xml,{quote(svg)}"


class Head(Panel):
    """Name, state, facts, and of a failed run why."""

    of_run = True

    def reset(self) -> None:
        self.run: dict[str, Any] = {}
        self.known = True
        self.attempts = 0
        self.agent: str | None = None
        self.second = 0
        """Of what the page says last; 0: something else is to be said."""

    def layout(self) -> Component:
        facts = [
            html.Span(
                [f"{name} " if name else "", live(f"fact.{key}", html.B, "")],
                className=f"fact fact-{key}",
                **live_attr(data_some=f"fact.{key}"),
            )
            for key, name in FACTS.items()
        ]
        name = live("run.name", html.H1, "", id="run-name")
        said = live_attr(text="run.status", data_status="run.status")
        status = html.Span(className="status", id="run-status", **said)
        why = [live("run.reason", html.B, ""), live("run.last-words", html.Pre, "")]
        some = live_attr(data_some="run.reason")
        failure = html.Div(why, className="failure", role="alert", id="run-failure", **some)
        title = html.Div([name, status], className="run-title")
        return html.Header([title, html.Div(facts, className="facts"), failure], className="run-head")

    def take(self, news: News) -> None:
        known = self.known if news.known is None else news.known
        if (known, news.agent) != (self.known, self.agent) or news.run is not None or news.first:
            self.second = 0
        self.known, self.agent = known, news.agent
        if news.first:
            self.attempts = len(news.attempts)
        if news.run is not None:
            self.run = news.run

    def draw(self) -> Drawn:
        """What is new. Else nothing within a second, as it costs more than all the numbers."""
        run, before, self.second = self.run, self.second, int(time.time())
        if before == self.second:
            return {}
        state = "unknown" if not self.known else "known" if run else "waiting"
        if not run:
            return {"run.state": state, "page.title": "○ stepstream", "page.icon": icon("")}
        tabs = {"tab.rollouts": "yes" if run.get("rollouts") else ""}
        return {"run.state": state} | tabs | self._names() | self._facts() | self._failure()

    def _names(self) -> dict[str, str]:
        name, status = self.run.get("name") or self.run["run_id"], self.run["status"]
        who = f"{self.agent} · " if self.agent else ""
        title = f"{SIGNS.get(status, '○')} {who}{name} · stepstream"
        said = {"run.name": name, "run.status": status, "page.crumb": name}
        return said | {"page.title": title, "page.icon": icon(status)}

    def _facts(self) -> dict[str, str]:
        run, started = self.run, self.run.get("started_at")
        going = run["status"] == "running"
        end = time.time() * 1000 if going else run.get("ended_at") or run.get("last_seen_at") or 0
        named = run.get("name") and run["name"] != run["run_id"]
        facts = {name: run.get(name) or "" for name in ("env_id", "algorithm", "project", "host")}
        facts |= {
            "run_id": run["run_id"] if named else "",
            "git_commit": (run.get("git_commit") or "")[:10],
            "attempt": str(self.attempts) if self.attempts > 1 else "",
            "started": form.moment(started) if started else "",
            "duration": form.duration(end - started) if started else "",
        }
        return {f"fact.{name}": text for name, text in facts.items()}

    def _failure(self) -> dict[str, str]:
        run = self.run
        failed = run["status"] == "failed" or (run["status"] == "lost" and run.get("reason"))
        if not failed:
            return {"run.reason": "", "run.last-words": ""}
        words = "\n".join(run.get("last_lines") or ())
        return {"run.reason": run.get("reason") or "The worker said no reason.", "run.last-words": words}
