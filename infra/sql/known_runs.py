"""What SQL knows of the runs that `ingest` or `import` is about to read; nothing where it is away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Executable, select

from infra.settings import Settings
from infra.sql import engine as sql
from schemas.errors import DatabaseError
from schemas.tables import DeletedRun, Run, RunEvent

SECONDS = 3
"""How long to wait for a database that is away."""


class KnownRuns:
    """Looks up runs by their ids."""

    def __init__(self, settings: Settings) -> None:
        address = sql.url(settings)
        self._engine: Engine | None = None
        if address.get_backend_name() != "sqlite":
            self._engine = sql.engine(settings, connect_args={"connect_timeout": SECONDS})
        elif Path(address.database or "").exists():
            self._engine = sql.engine(settings)
        query = select(DeletedRun.run_id, DeletedRun.deleted_at)
        self._deleted = {run_id: int(at.timestamp() * 1_000_000) for run_id, at in self._rows(query)}

    def has(self, run_id: str) -> bool:
        """Whether the run is in the database."""
        return bool(self._rows(select(Run.run_id).where(Run.run_id == run_id)))

    def deleted_us(self, run_id: str) -> int:
        """When it was deleted, µs since 1970; 0: it was not."""
        return self._deleted.get(run_id, 0)

    def imported_from(self, run_id: str) -> set[str]:
        """The files and folders that `import` read the run from."""
        query = select(RunEvent.payload).where(RunEvent.run_id == run_id, RunEvent.event == "run_started")
        payloads = (json.loads(row[0]) if isinstance(row[0], str) else row[0] for row in self._rows(query))
        return {str(said["imported_from"]) for said in payloads if said and "imported_from" in said}

    def _rows(self, query: Executable) -> list[Any]:
        if self._engine is None:
            return []
        try:
            with sql.reading(self._engine) as connection:
                return list(connection.execute(query))
        except DatabaseError:
            self._engine = None  # do not ask again: each time would wait
            return []
