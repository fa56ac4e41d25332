"""Three real brokers on one machine, to kill one after the other."""

from __future__ import annotations

import base64
import subprocess
import time
import uuid
from pathlib import Path

from infra.embedded import ports, process
from infra.embedded.kafka import NODE, java_command

_API_VERSIONS = bytes.fromhex("0000000a0012000000000001ffff")
SIZE = 3


class Cluster:
    """Three KRaft nodes, each broker and controller; topics have three replicas and want two."""

    def __init__(self, folder: Path, jars: list[Path]) -> None:
        self._folder = folder
        self._jars = jars
        found = ports.free_ports([0] * (2 * SIZE))
        self._ports, self._controllers = found[:SIZE], found[SIZE:]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all three nodes."""
        return ",".join(f"{ports.LOOPBACK}:{port}" for port in self._ports)

    def __enter__(self) -> Cluster:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for node in range(SIZE):
            self._format(node, cluster)
        for node in range(SIZE):
            self._spawn(node)
        for node in range(SIZE):
            self._wait(node)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._processes.values():
            child.kill()
            child.wait()

    def kill(self, node: int) -> None:
        """Kill a node by SIGKILL."""
        self._processes[node].kill()
        self._processes[node].wait()

    def start(self, node: int) -> None:
        """Start a node again, and wait until it answers."""
        self._spawn(node)
        self._wait(node)

    def _spawn(self, node: int) -> None:
        folder = self._folder / f"node-{node}"
        with (folder / "log").open("ab") as log:
            command = java_command(self._jars, "256m", "kafka.Kafka", str(folder / "server.properties"))
            self._processes[node] = process.spawn(command, output=log)

    def _wait(self, node: int) -> None:
        deadline = time.monotonic() + 60
        while not ports.answers(self._ports[node], _API_VERSIONS, prefix=b"\0\0"):
            assert time.monotonic() < deadline, (self._folder / f"node-{node}" / "log").read_text()[-2000:]
            time.sleep(0.1)

    def _format(self, node: int, cluster: str) -> None:
        folder = self._folder / f"node-{node}"
        folder.mkdir(parents=True)
        voters = ",".join(f"{i + 1}@{ports.LOOPBACK}:{port}" for i, port in enumerate(self._controllers))
        ours = {
            "node.id": str(node + 1),
            "listeners": f"PLAINTEXT://{ports.LOOPBACK}:{self._ports[node]},"
            f"CONTROLLER://{ports.LOOPBACK}:{self._controllers[node]}",
            "advertised.listeners": f"PLAINTEXT://{ports.LOOPBACK}:{self._ports[node]}",
            "controller.quorum.voters": voters,
            "log.dirs": str(folder / "data"),
            "broker.session.timeout.ms": "3000",
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "share.coordinator.state.topic.replication.factor": "3",
        }
        known = dict(line.split("=", 1) for line in NODE.splitlines()) | ours
        properties = folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in known.items()))
        arguments = ["format", "--cluster-id", cluster, "--config", str(properties)]
        command = java_command(self._jars, "256m", "kafka.tools.StorageTool", *arguments)
        subprocess.run(command, check=True, capture_output=True)
