"""A panel: a heat map of the states that an agent visited, for environments with numbered states.

STEPSTREAM_DASHBOARD_PANELS=visited:Visited stepstream dashboard
"""

from __future__ import annotations

import numpy as np

from dashboard import charts
from dashboard.panel import Option, Panel, live

MOST = 10_000


class Visited(Panel):
    """One cell for each state, in rows of a width that the viewer chooses: 4 for a lake of 4 × 4."""

    title, every, width = "Visited states", 1.0, 6
    options = (Option("columns", "Columns", default="4"),)

    def reset(self):
        self.counts = np.zeros(0, dtype=int)

    def layout(self):
        return self.card(charts.heat("visited-states"), head=[live("visited.seen", text="")])

    def moved(self):
        self.dirty = True

    def take(self, news):
        for step in news.steps:
            state = step["observation"]
            if isinstance(state, int) and 0 <= state < MOST:
                if state >= len(self.counts):
                    self.counts = np.pad(self.counts, (0, state + 1 - len(self.counts)))
                self.counts[state] += 1
        self.dirty = True

    def draw(self):
        columns = max(int(self.option("columns") or 1), 1)
        cells = np.pad(self.counts, (0, -len(self.counts) % columns)).reshape(-1, columns)
        return {"visited-states": charts.heat_drawn(cells), "visited.seen": f"{self.counts.sum():,} steps"}
