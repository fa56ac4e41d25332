"""Two stacks that start at the same time never share a dashboard port."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from cli.stack import dashboard_address
from infra.embedded.ports import free_ports
from infra.lock import FileLock
from infra.settings import load
from schemas.errors import UsageError

Found = tuple[str, int, FileLock] | UsageError


@pytest.fixture
def start_at_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Found]]:
    """Let many stacks look for their port at the same time."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def one(port: int | None) -> Found:
        try:
            return dashboard_address(load(), port, Console(quiet=True))
        except UsageError as error:
            return error

    def many(count: int, port: int | None) -> list[Found]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, [port] * count))

    return many


@pytest.mark.parametrize("count", [2, 8])
def test_a_port_that_was_asked_for_goes_to_one(start_at_once: Callable[..., list[Found]], count: int) -> None:
    """One stack gets the port and the others report that it is taken; after its release it is free."""
    (port,) = free_ports([None])
    found = start_at_once(count, port)
    won = [one for one in found if not isinstance(one, UsageError)]
    assert [url for url, *_ in won] == [f"http://127.0.0.1:{port}"]
    assert all(f"Port {port} is taken" in str(one) for one in found if isinstance(one, UsageError))
    won[0][2].release(remove=True)
    assert not isinstance(start_at_once(1, port)[0], UsageError)


@pytest.mark.parametrize("port", [None, 0])
def test_others_get_ports_of_their_own(start_at_once: Callable[..., list[Found]], port: int | None) -> None:
    """Stacks without a wanted port get different ports."""
    found = start_at_once(8, port)
    taken = [one[1] for one in found if not isinstance(one, UsageError)]
    assert len(set(taken)) == 8


def test_a_port_in_use_is_taken(start_at_once: Callable[..., list[Found]]) -> None:
    """A port that any other program uses is refused."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        (found,) = start_at_once(1, other.getsockname()[1])
    assert isinstance(found, UsageError)
