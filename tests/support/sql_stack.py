"""Kafka, `persist` and `forward` on one home, for tests of what ends in SQL: started once for a module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from infra import settings as settings_module
from infra.embedded import process
from infra.sql import engine as sql

PROGRAM = str(Path(sys.executable).with_name("stepstream"))


@dataclass
class SqlStack:
    """Services on one home.

    Args:
        env: variables of every program.
    """

    folder: Path
    env: dict[str, str]
    engine: Engine

    def cli(self, *arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the real program to its end; it must exit with this code."""
        options = {"capture_output": True, "text": True, "timeout": 240, "env": self.variables} | options
        done: subprocess.CompletedProcess[str] = subprocess.run([PROGRAM, *arguments], **options)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    @property
    def variables(self) -> dict[str, str]:
        """The environment of every program of the stack."""
        return {k: v for k, v in os.environ.items() if not k.startswith("STEPSTREAM_")} | self.env

    def summary(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Run a command with --json and return the object that it prints."""
        found: dict[str, Any] = json.loads(self.cli(*arguments, "--json", **options).stdout)
        return found

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of an SQL query; JSON comes as text."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def settled(self, said: dict[str, Any]) -> list[str]:
        """Wait until SQL has what a summary counts; returns the runs."""
        runs = said["run_ids"]
        for table in ("steps", "episodes", "metrics", "logs", "dead_letters"):
            wait_for(lambda table=table: self.count(table, runs) >= said[table], f"{table} of {runs}")
        return sorted(runs)

    def count(self, table: str, runs: list[str]) -> int:
        """How many rows of these runs a table has."""
        marks = ", ".join(f":r{number}" for number in range(len(runs))) or "''"
        values = {f"r{number}": run for number, run in enumerate(runs)}
        found: int = self.rows(f"SELECT count(*) FROM {table} WHERE run_id IN ({marks})", **values)[0][0]
        return found


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@contextmanager
def sql_stack(folder: Path, kafka: str, *services: str) -> Iterator[SqlStack]:
    """A stack with these services; its topics and its home are its own."""
    prefix = f"reports-{uuid.uuid4().hex[:8]}."
    env = {
        "STEPSTREAM_HOME": str(folder / "home"),
        "STEPSTREAM_BOOTSTRAP_SERVERS": kafka,
        "STEPSTREAM_TOPIC_PREFIX": prefix,
        "STEPSTREAM_GROUP_PREFIX": prefix,
        "STEPSTREAM_METRICS_PORT": "0",
    }
    if "STEPSTREAM_JARS_DIR" in os.environ:
        env["STEPSTREAM_JARS_DIR"] = os.environ["STEPSTREAM_JARS_DIR"]
    stack = SqlStack(folder, env, sql.engine(settings_module.load(env)))
    for command in (("topics", "create"), ("db", "upgrade")):
        stack.cli(*command)
    started = []
    try:
        for name in services:
            with (folder / f"{name}.log").open("ab") as log:
                started.append(process.spawn([PROGRAM, name], output=log, variables=env))
        yield stack
    finally:
        for child in started:
            process.end(child)
        stack.engine.dispose()
