"""A panel: the distribution of a number that the steps carry.

STEPSTREAM_DASHBOARD_PANELS=histogram:Histogram stepstream dashboard
"""

from __future__ import annotations

from collections import deque

import numpy as np

from dashboard import charts
from dashboard.panel import Option, Panel

NEWEST = 2000


class Histogram(Panel):
    """The newest values in 30 bars; which number, the viewer chooses."""

    title, every, width = "Distribution", 0.5, 6
    options = (Option("metric", "Number", default="td_error"),)

    def reset(self):
        self.values = deque(maxlen=NEWEST)
        self.shown = self.option("metric")

    def layout(self):
        return self.card(charts.bars("distribution"))

    def moved(self):
        if self.option("metric") != self.shown:
            self.reset()

    async def load(self, history):
        """What was before this page was opened."""
        before = await history.latest("steps", self.shown, NEWEST)
        self.values.extendleft(reversed(before.y[: NEWEST - len(self.values)]))
        self.dirty = True

    def take(self, news):
        self.values.extend(news.metric(self.shown))
        self.dirty = True

    def draw(self):
        counts, edges = np.histogram(list(self.values), 30)
        return {"distribution": charts.bars_drawn(edges[:-1].round(6), counts)}
