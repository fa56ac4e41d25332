"""What SQL knows of runs that are about to be taken; where it cannot be asked, it knows nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Executable

from infra.settings import Settings
from infra.sql import engine as sql
from producers.lines.times import microseconds
from schemas.errors import DatabaseError
from schemas.tables import DeletedRun, Run, RunEvent

SECONDS = 3
"""A database that is away is waited for so long."""


class KnownRuns:
    """The runs in SQL, by their ids."""

    def __init__(self, settings: Settings) -> None:
        address = sql.url(settings)
        self._engine: sqlalchemy.Engine | None = None
        if address.get_backend_name() != "sqlite":
            self._engine = sql.engine(settings, connect_args={"connect_timeout": SECONDS})
        elif Path(address.database or "").exists():
            self._engine = sql.engine(settings)
        query = sqlalchemy.select(DeletedRun.run_id, DeletedRun.deleted_at)
        self._deleted = {run_id: microseconds(at) for run_id, at in self._rows(query)}

    def has(self, run_id: str) -> bool:
        """Whether it is there."""
        return bool(self._rows(sqlalchemy.select(Run.run_id).where(Run.run_id == run_id)))

    def deleted_us(self, run_id: str) -> int:
        """When it was deleted, µs since 1970; 0: it was not."""
        return self._deleted.get(run_id, 0)

    def imported_from(self, run_id: str) -> set[str]:
        """The places that `import` took it from."""
        query = sqlalchemy.select(RunEvent.payload).where(
            RunEvent.run_id == run_id, RunEvent.event == "run_started"
        )
        payloads = (json.loads(row[0]) if isinstance(row[0], str) else row[0] for row in self._rows(query))
        return {str(said["imported_from"]) for said in payloads if said and "imported_from" in said}

    def _rows(self, query: Executable) -> list[Any]:
        if self._engine is None:
            return []
        try:
            with sql.reading(self._engine) as connection:
                return list(connection.execute(query))
        except DatabaseError:
            self._engine = None  # not asked again: each time would wait
            return []
