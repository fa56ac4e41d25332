"""A tab in the background. Playwright keeps every page visible, so this uses the DevTools protocol."""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.sync.client import connect

from tests.e2e.conftest import FLAGS, Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

STEPS = 150


class Chromium:
    """A headless Chromium that can have several tabs."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str) -> Any:
        """Send a request about tabs to Chromium and return its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request(method, path)
        answer = connection.getresponse().read().decode()
        connection.close()
        return json.loads(answer) if answer[:1] in "{[" else answer

    @contextmanager
    def tab(self, url: str) -> Iterator[Tab]:
        """Open a new tab in the foreground."""
        opened = self.ask("PUT", f"/json/new?{quote(url, safe=':/')}")
        with connect(opened["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Tab(self, opened["id"], socket)


class Tab:
    """One tab, controlled by the DevTools protocol."""

    def __init__(self, browser: Chromium, name: str, socket: Any) -> None:
        self._browser, self._name, self._socket = browser, name, socket
        self._numbers = itertools.count(1)
        self.deltas = 0
        """WebSocket messages that came since `listen`."""

    def listen(self) -> None:
        """Count the messages that the page's WebSockets receive from now on."""
        self.send("Network.enable")

    def send(self, method: str, **params: Any) -> Any:
        """Run a command and return its result, which is empty while the page is still being opened; count
        the WebSocket messages that arrive meanwhile."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=30))
            self.deltas += said.get("method") == "Network.webSocketFrameReceived"
            if said.get("id") == number:
                return said.get("result", {})

    def value(self, expression: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer.get("result", {}).get("value")

    def to_front(self) -> None:
        """Bring the tab to the front, as a click on it does."""
        self._browser.ask("GET", f"/json/activate/{self._name}")


@pytest.fixture
def tabs(chromium: str, tmp_path: Path) -> Iterator[Chromium]:
    """A Chromium that only this test uses."""
    arguments = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={tmp_path / 'profile'}"]
    with (tmp_path / "chromium.log").open("wb") as log:
        process = subprocess.Popen([chromium, *FLAGS, *arguments, "about:blank"], stdout=log, stderr=log)
    said = tmp_path / "profile" / "DevToolsActivePort"
    try:
        wait_for(lambda: said.exists() and len(said.read_text().splitlines()) == 2, 60)
        yield Chromium(int(said.read_text().splitlines()[0]))
    finally:
        process.terminate()
        process.wait(20)


def test_a_hidden_tab_costs_nothing_and_goes_on_where_it_was(
    stack: Stack, tabs: Chromium, run_id: str
) -> None:
    """A page in a hidden tab receives no message; in front again, it shows each step exactly once."""
    worker = stack.run(
        run_id,
        f"""
        for i in range({STEPS}):
            emit(type="step", agent_id="ada", episode_index=0, step_index=i, reward=i)
            time.sleep(0.1)
        """,
    )
    with tabs.tab(f"{stack.url}/runs/{run_id}?agent=ada&rows=newest") as page:
        page.listen()

        def newest() -> int:
            return int(page.value("document.getElementById('agent')?.dataset.seq") or 0)

        wait_for(lambda: newest() > 10, 60)
        assert page.value("document.visibilityState") == "visible"
        assert page.deltas > 0
        with tabs.tab("about:blank") as other:
            other.to_front()
            wait_for(lambda: page.value("document.visibilityState") == "hidden", 20)
            unpainted(page)
            before, seen = newest(), page.deltas
            time.sleep(4)
            assert (newest(), page.deltas) == (before, seen)
            page.to_front()
            wait_for(lambda: page.value("document.visibilityState") == "visible", 20)
            wait_for(lambda: newest() > before + 30, 20, "the page does not go on")
        assert worker.wait(60) == 0
        wait_for(lambda: newest() == STEPS, 30)
        shown = ("count-shown", "count-thinned", "count-missed")
        wait_for(lambda: [count(page, name) for name in shown] == [str(STEPS), "0", "0"], 30)
        page.value("navigator.clipboard.writeText = async (text) => { window.copied = text }")
        page.value("document.getElementById('copy-tsv').click()")
        wait_for(lambda: page.value("window.copied"), 30)
        rows = page.value("window.copied").splitlines()[1:]
    assert [int(row.split("\t")[3]) for row in rows] == list(range(STEPS - 1, -1, -1))


def count(page: Tab, name: str) -> Any:
    """The value of a counter on the page."""
    return page.value(f"document.getElementById('{name}').dataset.value")


def unpainted(page: Tab) -> None:
    """Wait until the delta that was under way, or asked for, when the tab was hidden has arrived."""

    def still() -> bool:
        seen = page.deltas
        time.sleep(1.5)  # timers of a hidden tab run once a second
        page.value("0")
        return page.deltas == seen

    wait_for(still, 20)
