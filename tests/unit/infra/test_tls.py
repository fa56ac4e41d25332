"""The reason why TLS with a broker fails, where librdkafka's message does not say it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from infra.kafka.tls import explained
from infra.settings import load


@pytest.fixture
def plain_port() -> Iterator[int]:
    """Serve a port without TLS, which closes every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_close_all, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def _close_all(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


@pytest.mark.parametrize("words", ["Disconnected: SSL connection closed by peer", "wrong version number"])
def test_a_port_without_tls_is_named(plain_port: int, words: str) -> None:
    """The missing TLS is named whether the broker answers in plain text or closes the connection."""
    settings = replace(load({}), kafka={"security.protocol": "SASL_SSL"})
    assert "speaks no TLS" in explained(settings, f"127.0.0.1:{plain_port}", words)


def test_a_closed_connection_of_a_port_that_does_not_answer_is_no_matter_of_tls() -> None:
    """The error of a broker that does not answer does not blame missing TLS."""
    settings = replace(load({}), kafka={"security.protocol": "SASL_SSL"})
    assert explained(settings, "127.0.0.1:1", "SSL connection closed by peer") == ""
