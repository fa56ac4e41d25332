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
    """A Chromium with tabs, as a person has it, but without a window."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str) -> Any:
        """What Chromium answers to a request over its tabs."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request(method, path)
        answer = connection.getresponse().read().decode()
        connection.close()
        return json.loads(answer) if answer[:1] in "{[" else answer

    @contextmanager
    def tab(self, url: str) -> Iterator[Tab]:
        """A new tab, in front."""
        opened = self.ask("PUT", f"/json/new?{quote(url, safe=':/')}")
        with connect(opened["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Tab(self, opened["id"], socket)


class Tab:
    """One tab, by the DevTools protocol."""

    def __init__(self, browser: Chromium, name: str, socket: Any) -> None:
        self._browser, self._name, self._socket = browser, name, socket
        self._numbers = itertools.count(1)
        self.deltas = 0
        """WebSocket messages that came since `listen`."""

    def listen(self) -> None:
        """Count what its WebSockets get from now on."""
        self.send("Network.enable")

    def send(self, method: str, **params: Any) -> Any:
        """A command's result, empty where it is refused, as while the page is still being opened; what
        Chromium tells meanwhile is counted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=30))
            self.deltas += said.get("method") == "Network.webSocketFrameReceived"
            if said.get("id") == number:
                return said.get("result", {})

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer.get("result", {}).get("value")

    def to_front(self) -> None:
        """As a click on the tab does."""
        self._browser.ask("GET", f"/json/activate/{self._name}")


@pytest.fixture
def tabs(chromium: str, tmp_path: Path) -> Iterator[Chromium]:
    """A Chromium of this test's own."""
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
    """No message while it is behind another; in front again, each step is there once."""
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
    """A counter of the page."""
    return page.value(f"document.getElementById('{name}').dataset.value")


def unpainted(page: Tab) -> None:
    """The delta that was under way when the tab went behind has come, and waits to be painted."""

    def still() -> bool:
        seen = page.deltas
        time.sleep(0.5)
        page.value("0")
        return page.deltas == seen

    wait_for(still, 20)
