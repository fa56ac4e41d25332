"""Reads of one agent's steps and episodes, and of a run's log and dead letters."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, and_, func, select, true

from dashboard.sql import rows
from dashboard.sql.listing import Listing, read_page
from dashboard.sql.page import Page, PageRequest
from dashboard.sql.seek_index import BY_EPISODE, BY_LINE, BY_STEP, SeekIndexes
from infra.sql import tables

MAX_STEPS_OF_EPISODE = 20_000
MAX_EPISODES = 10_000
NEAR_LINES = 20_000
"""The next step of an agent is looked for in so many lines of its stream."""


Whose = tuple[str, str | None, int | None]
"""Run, agent (None: all) and index of an episode (None: all): whose rows a page lists."""


class StepPlace(Struct, frozen=True):
    """Whose a step is, and where its record lies in the topic of steps."""

    seq: int
    agent_id: str
    episode_index: int | None
    partition: int
    offset: int


class FramePlace(Struct, frozen=True):
    """Where a picture lies in the topic of frames."""

    stream_id: str
    seq: int
    partition: int
    offset: int


def steps(connection: Connection, indexes: SeekIndexes, of: Whose, request: PageRequest, full: bool) -> Page:
    """A page of steps."""
    by = BY_STEP if of[1] is not None else BY_LINE
    listing = Listing(tables.STEPS, tables.of(tables.STEPS, *of), of, by, rows.step_row, full)
    return read_page(connection, indexes, listing, request)


def episode_steps(
    connection: Connection, run_id: str, agent_id: str, episode_index: int
) -> list[dict[str, Any]]:
    """The steps of one episode in order."""
    table = tables.STEPS
    statement = (
        select(*rows.selected(table))
        .where(tables.of(table, run_id, agent_id), table.c.episode_index == episode_index)
        .order_by(table.c.step_index)
        .limit(MAX_STEPS_OF_EPISODE)
    )
    return [rows.step_row(row) for row in connection.execute(statement).mappings()]


def first_observations(connection: Connection, run_id: str, agent_id: str) -> dict[str, int]:
    """First observation of an episode → the first such episode."""
    table = tables.STEPS
    begun = and_(
        tables.of(table, run_id, agent_id), table.c.step_index == 0, table.c.observation.is_not(None)
    )
    statement = select(tables.text_of(table.c.observation), table.c.episode_index).where(begun)
    found: dict[str, int] = {}
    for text, episode in connection.execute(statement.order_by(table.c.episode_index).limit(MAX_EPISODES)):
        if episode is not None:
            found.setdefault(text, episode)
    return found


def step(connection: Connection, run_id: str, stream_id: str, seq: int) -> dict[str, Any] | None:
    """One step in full."""
    table = tables.STEPS
    named = and_(table.c.run_id == run_id, table.c.stream_id == stream_id, table.c.seq == seq)
    row = connection.execute(select(*rows.selected(table, full=True)).where(named)).mappings().first()
    return None if row is None else rows.step_row(row) | {"cut": False}


def step_beside(
    connection: Connection, run_id: str, stream_id: str, seq: int, after: bool
) -> dict[str, Any] | None:
    """The step before or after, within the episode."""
    place = step_place(connection, run_id, stream_id, seq)
    if place is None:
        return None
    table = tables.STEPS
    number = table.c.seq
    near = number.between(seq + 1, seq + NEAR_LINES) if after else number.between(seq - NEAR_LINES, seq - 1)
    statement = (
        select(number, table.c.episode_index)
        .where(table.c.run_id == run_id, table.c.stream_id == stream_id, near)
        .where(table.c.agent_id == place.agent_id)
        .order_by(number.asc() if after else number.desc())
        .limit(1)
    )
    found = connection.execute(statement).first()
    if found is None or found[1] != place.episode_index:
        return None
    return step(connection, run_id, stream_id, found[0])


def step_of_episode(
    connection: Connection, run_id: str, agent_id: str, episode_index: int, step_index: int | None
) -> dict[str, Any] | None:
    """A step of an episode by its number; without one the episode's first."""
    table = tables.STEPS
    numbered = true() if step_index is None else table.c.step_index == step_index
    statement = (
        select(table.c.stream_id, table.c.seq)
        .where(tables.of(table, run_id, agent_id), table.c.episode_index == episode_index, numbered)
        .order_by(table.c.step_index, table.c.seq)
        .limit(1)
    )
    found = connection.execute(statement).first()
    return None if found is None else step(connection, run_id, *found)


def step_place(connection: Connection, run_id: str, stream_id: str, seq: int) -> StepPlace | None:
    """Whose a step is, and where it lies on Kafka."""
    table = tables.STEPS
    place = (table.c.agent_id, table.c.episode_index, table.c.topic_partition, table.c.topic_offset)
    named = and_(table.c.run_id == run_id, table.c.stream_id == stream_id, table.c.seq == seq)
    found = connection.execute(select(*place).where(named)).first()
    return None if found is None else StepPlace(seq, *found)


def frames_around(
    connection: Connection, run_id: str, stream_id: str, step: StepPlace, before: int = 1
) -> list[FramePlace]:
    """The places of the newest pictures of a step's episode at or before it, and of the next, in order."""
    table = tables.FRAMES
    mine = tables.of(table, run_id, step.agent_id, step.episode_index)
    columns = (table.c.stream_id, table.c.seq, table.c.topic_partition, table.c.topic_offset)
    of_stream = select(*columns).where(mine, table.c.stream_id == stream_id)
    older = of_stream.where(table.c.seq <= step.seq).order_by(table.c.seq.desc()).limit(before)
    newer = of_stream.where(table.c.seq > step.seq).order_by(table.c.seq).limit(1)
    found = [*reversed(connection.execute(older).all()), *connection.execute(newer).all()]
    return [FramePlace(*row) for row in found]


def episodes(connection: Connection, indexes: SeekIndexes, of: Whose, request: PageRequest) -> Page:
    """A page of episodes."""
    env_id, seed = _env_and_seed(connection, of[0])
    by = BY_EPISODE if of[1] is not None else BY_LINE
    mine = tables.of(tables.EPISODES, *of)
    listing = Listing(tables.EPISODES, mine, of, by, lambda row: rows.episode_row(row, env_id, seed))
    return read_page(connection, indexes, listing, request)


def _env_and_seed(connection: Connection, run_id: str) -> tuple[str | None, Any]:
    table = tables.RUNS
    statement = select(table.c.env_id, tables.text_of(table.c.config)).where(table.c.run_id == run_id)
    found = connection.execute(statement).first()
    env_id, config = found if found is not None else (None, None)
    seed = rows.parsed(config).get("seed")
    return env_id, seed if isinstance(seed, str | int | float) else None


def logs(connection: Connection, indexes: SeekIndexes, run_id: str, request: PageRequest) -> Page:
    """A page of the log."""
    listing = Listing(tables.LOGS, tables.of(tables.LOGS, run_id), run_id, BY_LINE, rows.log_row)
    return read_page(connection, indexes, listing, request)


def dead_letters(connection: Connection, indexes: SeekIndexes, run_id: str, request: PageRequest) -> Page:
    """A page of dead letters."""
    table, of = tables.DEAD_LETTERS, tables.of(tables.DEAD_LETTERS, run_id)
    return read_page(connection, indexes, Listing(table, of, run_id, BY_LINE, rows.dead_letter_row), request)


def reasons(connection: Connection, run_id: str | None) -> dict[str, int]:
    """How many dead letters have each reason, the most first."""
    table = tables.DEAD_LETTERS
    of = true() if run_id is None else table.c.run_id == run_id
    counted = func.count().label("letters")
    statement = select(table.c.reason, counted).where(of).group_by(table.c.reason)
    found = connection.execute(statement.order_by(counted.desc(), table.c.reason)).all()
    return {row[0]: row[1] for row in found}
