"""A panel: how often an agent chose each action.

STEPSTREAM_DASHBOARD_PANELS=actions:Actions stepstream dashboard
"""

from __future__ import annotations

from collections import Counter, deque

from dashboard import charts
from dashboard.panel import Panel

NEWEST = 2000
MOST = 20


class Actions(Panel):
    """The actions of the newest steps, the most frequent first."""

    title, every, width = f"Actions, newest {NEWEST:,} steps", 0.5, 6

    def reset(self):
        self.actions = deque(maxlen=NEWEST)

    def layout(self):
        return self.card(charts.bars("action-counts"))

    def take(self, news):
        self.actions.extend(str(step["action"]) for step in news.steps)
        self.dirty = True

    def draw(self):
        named = Counter(self.actions).most_common(MOST)
        return {"action-counts": charts.bars_drawn([name for name, _ in named], [n for _, n in named])}
