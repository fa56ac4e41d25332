"""One line of the run's records: muted while nothing is missing, marked when some are lost or late."""

from __future__ import annotations

from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import form
from dashboard.panel import Drawn, News, Panel, attrs, live, live_attr

LATE_MS = 5000
RUN = {
    "emitted": ("emitted", "Lines that the worker printed, as its forwarder counted them"),
    "kafka": ("on Kafka", "Lines that Kafka has acknowledged"),
    "sql": ("in SQL", "Rows in the database"),
    "dead": (
        "dead-lettered",
        "Lines that could not be used; each is kept with a reason: stepstream dlq list",
    ),
    "lost": ("dropped", "Lines that never left: the worker's disk or buffer was full"),
    "rate": ("steps/s", "Steps a second, all agents"),
    "latency": ("latency", "From the worker's clock to the live buffer, newest step of the run"),
    "lag": ("lag", "Records that wait on Kafka for the live path"),
}
AGENT = {
    "seen": ("seen", "Steps of this agent that the live path has read from Kafka"),
    "stored": ("stored", "Steps of this agent in the database"),
    "shown": ("shown", "Steps that reached this page since it was opened"),
    "thinned": ("thinned", "Steps left out of this page, as no eye follows more; the database has them"),
    "missed": ("missed", "Steps that came faster than this page could follow; the database has them"),
    "late": ("to the screen", "From the worker's clock to the painted page, newest step"),
}


LETTERS = "?panel=dead-letters"


class Plumbing(Panel):
    """One line for the run; opened, the run's and the open agent's numbers."""

    title, of_run = "Records", True

    def reset(self) -> None:
        self.counts: dict[str, Any] = {}
        self.run: dict[str, Any] = {}
        self._agent_anew()

    def _agent_anew(self) -> None:
        self.agent: dict[str, int] = {}
        self.shown = self.thinned = self.missed = 0
        self.late: float | None = None

    def layout(self) -> Component:
        letters = html.A(href=LETTERS, **live_attr(text="flow.letters"))
        said = [letters, live("flow", text="")]
        line = html.Summary(said, className="status", id="flow", **live_attr(data_status="flow.status"))
        lists = [
            _numbers("flow", RUN, "Records of this run"),
            _numbers("count", AGENT, "Steps of this agent"),
        ]
        return html.Details([line, html.Div(lists, className="card flow-card")], className="flow")

    def take(self, news: News) -> None:
        if news.first_of_agent:
            self._agent_anew()
        if news.run is not None:
            self.run = news.run
        if news.counts is not None:
            self.counts = news.counts
        if news.counters is not None:
            self.agent = {"seen": news.counters.seen, "stored": news.counters.stored}
        self.shown += len(news.steps)
        self.thinned += news.thinned
        self.missed += news.missed
        if news.lag_ms is not None:
            self.late = news.lag_ms + news.paint_ms

    def draw(self) -> Drawn:
        if not self.counts:
            return {}
        status, words = self._line()
        dead = self.counts["dead_letters"]
        texts = {"flow": words, "flow.status": status, "flow.letters": _letters(dead) if dead else ""}
        texts["tab.dead-letters"] = "yes" if dead else ""
        for name, value in self._values().items():
            kind = "flow" if name in RUN else "count"
            exact = isinstance(value, int)
            texts[f"{kind}.{name}"] = form.compact(value) if exact else value or form.NONE
            texts[f"{kind}.{name}.exact"] = str(value) if exact else ""
        return texts

    def _values(self) -> dict[str, Any]:
        counts, going = self.counts, self.run.get("status") == "running"
        agent = {name: self.agent.get(name, 0) for name in ("seen", "stored")}
        agent |= {"shown": self.shown, "thinned": self.thinned, "missed": self.missed}
        return agent | {
            "emitted": counts["emitted"],
            "kafka": counts["on_kafka"],
            "sql": counts["in_sql"],
            "dead": counts["dead_letters"],
            "lost": counts["dropped"],
            "lag": counts["lag"],
            "rate": form.rate(self.run.get("steps_per_second")) if going else "",
            "latency": form.short(counts["latency_ms"]) if going and counts["latency_ms"] else "",
            "late": form.short(self.late) if going and self.late is not None else "",
        }

    def _line(self) -> tuple[str, str]:
        """The line's text and its tone: `completed` and `idle` are muted."""
        counts, going = self.counts, self.run.get("status") == "running"
        emitted, missing = counts["emitted"], counts["emitted"] - counts["in_sql"]
        if counts["dropped"]:
            words = f"{_lines(counts['dropped'])} dropped before they were sent"
            return "failed", f" · {words}" if counts["dead_letters"] else words
        if counts["dead_letters"]:
            return "failed", ""
        if missing > 0 and not going:
            return "silent", f"{form.compact(missing)} of {form.compact(emitted)} lines are not stored yet"
        late = self.late if self.late is not None else counts["latency_ms"]
        behind = f", {form.short(late)} behind" if going and late else ""
        if going and (late or 0) > LATE_MS:
            return "silent", f"{form.short(late)} behind"
        if missing > 0:
            return "completed", f"{form.compact(emitted)} lines, {form.compact(missing)} on their way{behind}"
        return (
            "completed",
            f"{'the line is' if emitted == 1 else f'all {form.compact(emitted)} lines'} stored{behind}",
        )


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{form.compact(count)} lines"


def _letters(count: int) -> str:
    return f"{_lines(count)} could not be used"


def _numbers(kind: str, names: dict[str, tuple[str, str]], label: str) -> Component:
    cells = [
        html.Div(
            [html.Dt(_term(name, text)), html.Dd(form.NONE, id=f"{kind}-{name}", **_keys(f"{kind}.{name}"))],
            title=title,
        )
        for name, (text, title) in names.items()
    ]
    return html.Dl(cells, className=f"flow-numbers {kind}", **attrs(aria_label=label))


def _term(name: str, text: str) -> Any:
    return html.A(text, href=LETTERS) if name == "dead" else text


def _keys(key: str) -> dict[str, Any]:
    return live_attr(text=key, data_value=f"{key}.exact")
