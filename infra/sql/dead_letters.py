"""Dead letters in SQL: find them, and mark them as redriven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Select, select, update

from infra.sql.engine import reading, writing
from schemas.errors import UsageError
from schemas.tables import DeadLetter, Run

WINDOW = 500
"""Letters that are read, sent and marked at once."""


class Wanted(NamedTuple):
    """Which letters: None is any."""

    run_id: str | None = None
    stream_id: str | None = None
    seq: int | None = None
    reason: str | None = None


def found(
    engine: Engine, wanted: Wanted, *, waiting: bool = False, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """Letters by run, stream and number.

    Args:
        waiting: only those not redriven yet.

    Raises:
        DatabaseError: the database does not answer.
    """
    query: Select[Any] = select(DeadLetter.__table__).order_by(
        DeadLetter.run_id, DeadLetter.stream_id, DeadLetter.seq
    )
    for name, value in wanted._asdict().items():
        if value is not None:
            query = query.where(getattr(DeadLetter, name) == value)
    if waiting:
        query = query.where(DeadLetter.redriven_at.is_(None))
    with reading(engine) as connection:
        rows = connection.execution_options(yield_per=WINDOW).execute(query.limit(limit))
        for row in rows.mappings():
            yield dict(row)


def only(engine: Engine, wanted: Wanted) -> dict[str, Any]:
    """The one letter that is wanted.

    Raises:
        UsageError: there is none, or two runs have one of this stream and number.
        DatabaseError: the database does not answer.
    """
    letters = list(found(engine, wanted, limit=2))
    if not letters:
        raise UsageError("There is no such dead letter: `stepstream dlq list` has them.")
    if len(letters) > 1 and wanted.seq is not None and wanted.run_id is None:
        raise UsageError(f"More than one run has this letter: name one, such as {letters[0]['run_id']}.")
    return letters[0]


def mark_redriven(engine: Engine, letters: Iterable[Mapping[str, Any]]) -> None:
    """Write down that letters were sent again now; each counts as what it became from then on.

    Raises:
        DatabaseError: the database does not answer, or refuses.
    """
    now = datetime.now(UTC)
    with writing(engine) as connection:
        for letter in letters:
            _mark(connection, letter, now)


def _mark(connection: Connection, letter: Mapping[str, Any], now: datetime) -> None:
    key = (
        DeadLetter.run_id == letter["run_id"],
        DeadLetter.stream_id == letter["stream_id"],
        DeadLetter.seq == letter["seq"],
    )
    first = DeadLetter.redriven_at.is_(None)
    if connection.execute(update(DeadLetter).where(*key, first).values(redriven_at=now)).rowcount:
        one_less = update(Run).where(Run.run_id == letter["run_id"])
        connection.execute(one_less.values(dead_letters=Run.dead_letters - 1))
