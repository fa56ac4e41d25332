"""The stack as processes and a real browser in front of it; each test has its own runs."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from infra.embedded import process
from tests.support import needs
from tests.support.processes import wait_for

PROGRAM = str(Path(sys.executable).with_name("stepstream"))
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NOISE = "ERR_NETWORK_CHANGED"
"""Chromium logs this error when a container on the machine starts or stops."""

expect.set_options(timeout=45_000)


@dataclass
class Stack:
    """Services on one home, and the page's address."""

    folder: Path
    env: dict[str, str]
    port: int
    services: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address of the home page."""
        return f"http://127.0.0.1:{self.port}"

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the real program to its end; it must exit with code 0."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=120,
            **options,
        )
        assert done.returncode == 0, done.stderr
        return done

    def start(self, name: str, *arguments: str) -> None:
        """Start a service in the background."""
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [PROGRAM, name, *arguments]
            self.services[name] = process.spawn(command, output=log, variables=self.env)

    def stop(self, name: str) -> None:
        """End a service."""
        process.end(self.services.pop(name))

    def start_dashboard(self) -> None:
        """Start the dashboard and wait until it answers."""
        self.start("dashboard", "--port", str(self.port))
        wait_for(lambda: answers(self.port), 180, "the dashboard does not answer")

    @contextmanager
    def other_dashboard(self, name: str, **env: str) -> Iterator[str]:
        """Run a second dashboard with these settings and yield its address; its log is `name`.log."""
        port = free_port()
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [PROGRAM, "dashboard", "--port", str(port)]
            served = process.spawn(command, output=log, variables=self.env | env)
        try:
            wait_for(lambda: answers(port), 180, "the dashboard does not answer")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.end(served)

    def worker(self, name: str, source: str) -> Path:
        """Write a worker's program, in which `emit` prints one JSON line at once."""
        path = self.folder / f"{name}.py"
        head = "import json, sys, time\ndef emit(**line): print(json.dumps(line), flush=True)\n"
        path.write_text(head + textwrap.dedent(source))
        return path

    def run(self, run_id: str, source: str) -> subprocess.Popen[bytes]:
        """Start a worker with `stepstream run` and return while it runs."""
        command = [PROGRAM, "run", "--run-id", run_id, "--", sys.executable, str(self.worker(run_id, source))]
        with (self.folder / f"run-{uuid.uuid4().hex[:6]}.log").open("wb") as log:
            return process.spawn(command, output=log, variables=self.env)

    def ingest(self, run_id: str, lines: str) -> None:
        """Send these lines with `stepstream ingest` and wait until it ends."""
        self.cli("ingest", "-", "--run-id", run_id, input=lines)


@pytest.fixture(scope="session")
def stack(kafka: str, valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """persist, live and the dashboard, as a cluster would run them."""
    folder, prefix = tmp_path_factory.mktemp("e2e"), f"e2e-{uuid.uuid4().hex[:6]}."
    env = {
        "STEPSTREAM_HOME": str(folder),
        "STEPSTREAM_BOOTSTRAP_SERVERS": kafka,
        "STEPSTREAM_TOPIC_PREFIX": prefix,
        "STEPSTREAM_GROUP_PREFIX": prefix,
        "STEPSTREAM_REDIS_URL": valkey,
        "STEPSTREAM_REDIS_PREFIX": prefix,
        "STEPSTREAM_HEARTBEAT_SECONDS": "0.5",
    }
    made = Stack(folder, env, free_port())
    made.cli("topics", "create")
    made.cli("db", "upgrade")
    made.start("persist")
    made.start("live")
    made.start_dashboard()
    yield made
    for name in list(made.services):
        made.stop(name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium and end it with the module, because its event loop occupies the thread."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=needs.chromium_path(), args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def forgiven() -> list[str]:
    """Parts of the console errors that a test causes itself and that do not fail it."""
    return [NOISE]


@pytest.fixture
def open_page(browser: Browser, stack: Stack, forgiven: list[str]) -> Iterator[Callable[..., Page]]:
    """`open_page("/runs/x", color_scheme="dark")` opens a page; errors and foreign requests fail the test."""
    complaints: list[str] = []
    contexts = []

    def open_one(path: str = "/", **options: Any) -> Page:
        context = browser.new_context(
            viewport=options.pop("viewport", {"width": 1280, "height": 720}), **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and complain(said.text))
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("request", lambda request: foreign(request.url) and complain(f"asked {request.url}"))
        page.goto(stack.url + path)
        return page

    def complain(text: str) -> None:
        if not any(part in text for part in forgiven):
            complaints.append(text)

    def foreign(url: str) -> bool:
        return not url.startswith((stack.url, stack.url.replace("http", "ws", 1), "data:", "blob:"))

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def run_id() -> str:
    """A run id that only this test uses."""
    return f"run-{uuid.uuid4().hex[:8]}"


def answers(port: int) -> bool:
    """Whether a dashboard answers on this port."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
