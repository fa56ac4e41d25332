"""The pages. One more is one more file here, and its class in this list."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard.page import Pages
from dashboard.pages.compare import ComparePage
from dashboard.pages.config import ConfigPage
from dashboard.pages.dead_letters import DeadLettersPage
from dashboard.pages.health import HealthPage
from dashboard.pages.log import LogPage
from dashboard.pages.metrics import MetricsPage
from dashboard.pages.rollouts import RolloutsPage
from dashboard.pages.run import AgentPage
from dashboard.pages.runs import RunsPage
from dashboard.plugins import Plugin


def every_page(plugins: Sequence[Plugin] = ()) -> Pages:
    """All of them; the last one has every address that no other has."""
    at = {
        place: [plugin for plugin in plugins if plugin.place == place] for place in ("agent", "run", "home")
    }
    run_pages = [MetricsPage(at["run"]), RolloutsPage(), LogPage(), ConfigPage(), DeadLettersPage()]
    return Pages([*run_pages, AgentPage(at["agent"]), ComparePage(), HealthPage(), RunsPage(at["home"])])
