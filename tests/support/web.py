"""Serves an ASGI application on a real port, and sends it requests."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from websockets.sync.client import connect


@dataclass
class Server:
    """A server on a loopback port."""

    port: int

    def ask(
        self,
        path: str = "/",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: Any = None,
        **options: Any,
    ) -> tuple[int, dict[str, str], str]:
        """Send a request; returns status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, headers or {}, **options)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def socket(self, origin: str | None, **headers: str) -> Any:
        """Open a WebSocket as a page of this origin does."""
        return connect(f"ws://127.0.0.1:{self.port}/ws", origin=origin, additional_headers=headers)  # type: ignore[arg-type]


@contextmanager
def served(app: ASGIApp) -> Iterator[Server]:
    """Serve the application within the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws_max_size=2**20))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Server(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
