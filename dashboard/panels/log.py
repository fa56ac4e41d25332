"""What a run's worker printed besides its events, newest at the end."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dash import Patch, html
from dash.development.base_component import Component

from dashboard import form
from dashboard.panel import Drawn, History, News, Panel, live
from dashboard.sql.queries import PageRequest
from dashboard.sql.rows import CUT

KEPT = 2000
PAGE = 500
WITHOUT_STDERR = (
    "This run has no stderr here. stepstream run -- python train.py records it; of a worker that was started "
    "otherwise it is where that was started"
)

_ANSI = re.compile(r"\x1b\[([0-9;]*)m")
_OTHER = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
"""Terminal sequences other than colours, such as those that move a cursor."""


class Line(NamedTuple):
    """A line of the log."""

    at: int
    """Whole ms since 1970."""
    source: str
    text: str


class LogLines(Panel):
    """The log; with a search, every line of the run that has its words."""

    title, every, width, of_run = "Log", 0.3, 12, True

    def reset(self) -> None:
        self.lines: deque[Line] = deque(maxlen=KEPT)
        self.fresh: list[Line] = []
        self.blocks: deque[int] = deque()
        """Lines in each block that is on the page."""
        self.words = self.address.get("q").lower()
        self.whole, self.dirty = True, True
        self.stderr: bool | None = None
        self.host = ""

    def layout(self) -> Component:
        lines = html.Div([html.Div(id="log-lines")], id="log", className="log", role="log", tabIndex="0")
        note = live("log.note", html.P, "", className="none muted")
        return html.Div([lines, note])

    def moved(self) -> None:
        self.words = self.address.get("q").lower()

    async def load(self, history: History) -> None:
        live_lines = filter(self._matches, self.lines)
        self.lines = deque(joined(await self._stored(history), live_lines), maxlen=KEPT)
        self.stderr = await self._has_stderr(history)
        self.whole, self.dirty = True, True

    def take(self, news: News) -> None:
        if news.run is not None:
            self.host = news.run.get("host") or ""
        came = [Line(row.event_time // 1000, row.source, row.line) for row in news.logs]
        self.stderr = self.stderr or any(line.source == "stderr" for line in came) or self.stderr
        came = [line for line in came if self._matches(line)]
        self.lines.extend(came)
        self.fresh += came
        self.dirty = self.dirty or bool(came)

    def draw(self) -> Drawn:
        lines = list(self.lines) if self.whole else self.fresh[-KEPT:]
        drawn: dict[str, Any] = {"log.note": self._note()}
        if self.whole:
            self.blocks = deque([len(lines)])
            drawn["log-lines"] = {"children": [block(lines)]}
        elif lines:
            drawn["log-lines"] = {"children": self._added(lines)}
        self.whole, self.fresh = False, []
        return drawn

    def _added(self, lines: Sequence[Line]) -> Any:
        patch = Patch()
        patch.append(block(lines))
        self.blocks.append(len(lines))
        while len(self.blocks) > 1 and sum(self.blocks) - self.blocks[0] >= KEPT:
            self.blocks.popleft()
            del patch[0]
        return patch

    def _matches(self, line: Line) -> bool:
        return self.words in line.text.lower()

    def _note(self) -> str:
        if self.stderr is None:
            return ""
        found = "" if self.lines else "No line. " if not self.words else "No line has these words. "
        if self.stderr:
            return found
        return found + WITHOUT_STDERR + (f": host {self.host}." if self.host else ".")

    async def _stored(self, history: History) -> list[Line]:
        """The newest lines that SQL has, the newest at the end."""
        words = {"filterType": "text", "type": "contains", "filter": self.words}
        filters = {"line": words} if self.words else {}
        found: list[dict[str, Any]] = []
        while len(found) < KEPT:
            asked = PageRequest(len(found), len(found) + PAGE, [], filters)
            page = await history.queries.logs(history.run_id, asked)
            found += page.rows
            if len(page.rows) < PAGE:
                break
        return [Line(row["event_time"], row["source"], row["line"]) for row in found[::-1]]

    async def _has_stderr(self, history: History) -> bool:
        asked = {"source": {"filterType": "text", "type": "equals", "filter": "stderr"}}
        page = await history.queries.logs(history.run_id, PageRequest(0, 1, [], asked))
        return bool(page.rows)


def joined(stored: Sequence[Line], live: Iterable[Line]) -> list[Line]:
    """Lines of SQL, and the live ones that SQL has not yet: of lines that are alike, so many more."""
    since = stored[0].at if stored else 0
    known = Counter((line.at, line.source, line.text[:CUT]) for line in stored)
    found = list(stored)
    for line in live:
        key = line.at, line.source, line.text[:CUT]
        known[key] -= 1
        if line.at >= since and known[key] < 0:
            found.append(line)
    return sorted(found, key=lambda line: line.at)


def block(lines: Iterable[Line]) -> Component:
    """Lines as one element: what is plain is one text, whatever a worker printed."""
    parts: list[Any] = []
    for line in lines:
        shown = [f"{form.clock(line.at)}  ", *coloured(line.text), "\n"]
        if line.source == "stderr":
            parts.append(html.Span(shown, className="stderr"))
            continue
        for part in shown:
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
    return html.Pre(parts)


def coloured(text: str) -> list[Any]:
    """A text with ANSI's colours as spans; other sequences of terminals are left out."""
    parts: list[Any] = []
    classes: list[str] = []
    at = 0
    for found in _ANSI.finditer(text):
        _add(parts, text[at : found.start()], classes)
        classes = _classes(classes, found[1])
        at = found.end()
    _add(parts, text[at:], classes)
    return parts


def _add(parts: list[Any], text: str, classes: Sequence[str]) -> None:
    clean = _OTHER.sub("", text)
    if clean:
        parts.append(html.Span(clean, className=" ".join(classes)) if classes else clean)


def _classes(before: Sequence[str], codes: str) -> list[str]:
    """Classes after some codes: bold and the eight colours, bright as plain."""
    classes = list(before)
    for code in (int(code or 0) for code in codes.split(";")):
        if code == 0:
            classes = []
        elif code == 1:
            classes.append("ansi-bold")
        elif 30 <= code <= 37 or 90 <= code <= 97:
            classes = [one for one in classes if one == "ansi-bold"] + [f"ansi-{code % 10}"]
        elif code == 39:
            classes = [one for one in classes if one == "ansi-bold"]
    return classes
