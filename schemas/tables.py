"""The SQL tables, as SQLAlchemy typed models. Users' queries rely on these names: they are fixed.

Each event table has the primary key (run_id, stream_id, seq). It identifies an event for ever, so writing one
again is harmless. It begins with the run, so the tables can be partitioned and distributed by run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine


class UtcTime(TypeDecorator[datetime]):
    """A moment: `timestamptz` in PostgreSQL; in SQLite the text that PostgreSQL prints in UTC.

    `2026-11-24 08:00:00.000000+00:00` sorts as time does, and SQLite's date functions read it.
    """

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type in one database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """A value as the driver takes it."""
        if value is None or dialect.name == "postgresql":
            return value
        return utc_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """A value as Python gets it."""
        if value is None or isinstance(value, datetime):
            return value
        return datetime.fromisoformat(value)


def utc_text(moment: datetime) -> str:
    """A moment as SQLite keeps it: fixed width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(" ", "microseconds")


@compiles(JSON, "sqlite")
def _json_as_text(_type: JSON, _compiler: Any, **_options: Any) -> str:
    # A column declared JSON has numeric affinity in SQLite: the text 1.0 would become the number 1.
    return "TEXT"


_BIG = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")  # SQLite's INTEGER holds 64 bits
Big = Annotated[int, mapped_column(_BIG)]
Float = Annotated[float, mapped_column(Double())]
Json = Annotated[Any, mapped_column(JSON(none_as_null=True))]
Time = Annotated[datetime, mapped_column(UtcTime())]
Key = Annotated[str, mapped_column(Text(), primary_key=True)]
Str = Annotated[str, mapped_column(Text())]


class Base(DeclarativeBase):
    """Names of constraints are fixed, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}
    )


class _Event:
    """The columns that every event has: its key, agent, worker and time."""

    run_id: Mapped[str] = mapped_column(Text(), primary_key=True, sort_order=-9)
    stream_id: Mapped[str] = mapped_column(Text(), primary_key=True, sort_order=-8)
    seq: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False, sort_order=-7)
    agent_id: Mapped[str] = mapped_column(Text(), sort_order=-6)
    worker_id: Mapped[str | None] = mapped_column(Text(), sort_order=-5)
    event_time: Mapped[datetime] = mapped_column(UtcTime(), sort_order=-4)


class _LogPosition:
    """Where Kafka holds the event's record."""

    topic_partition: Mapped[int] = mapped_column(Integer(), sort_order=8)
    topic_offset: Mapped[int] = mapped_column(_BIG, sort_order=9)


class Step(_Event, _LogPosition, Base):
    """One environment step."""

    __tablename__ = "steps"
    # Without step_index: PostgreSQL stores the key of an episode's steps once. With it, the index is ten
    # times as large and writing a fifth slower; sorting the steps of one episode is cheap.
    __table_args__ = (Index(None, "run_id", "agent_id", "episode_index"),)

    episode_index: Mapped[Big | None]
    step_index: Mapped[Big | None]
    observation: Mapped[Json | None]
    action: Mapped[Json | None]
    reward: Mapped[Float | None]
    terminated: Mapped[bool | None]
    truncated: Mapped[bool | None]
    info: Mapped[Json | None]
    metrics: Mapped[Json | None]
    extras: Mapped[Json | None]


class Episode(_Event, _LogPosition, Base):
    """One finished episode of one agent."""

    __tablename__ = "episodes"
    __table_args__ = (Index(None, "run_id", "agent_id", "episode_index"),)

    episode_index: Mapped[Big | None]
    episode_return: Mapped[Float | None]
    episode_length: Mapped[Big | None]
    terminated: Mapped[bool | None]
    truncated: Mapped[bool | None]
    seed: Mapped[Big | None]
    duration: Mapped[Float | None]
    elapsed: Mapped[Float | None]
    metrics: Mapped[Json | None]
    extras: Mapped[Json | None]


class Metrics(_Event, _LogPosition, Base):
    """Numbers by name at a global step."""

    __tablename__ = "metrics"

    global_step: Mapped[Big | None]
    metrics: Mapped[Json | None]
    extras: Mapped[Json | None]


class RunEvent(_Event, _LogPosition, Base):
    """An event in the life of a run: started, heartbeat, checkpoint, completed …"""

    __tablename__ = "run_events"

    event: Mapped[Str]
    payload: Mapped[Json | None]


class LogLine(_Event, _LogPosition, Base):
    """A line of output that is no event."""

    __tablename__ = "logs"

    source: Mapped[Str]
    line: Mapped[Str]


class Rollout(_Event, _LogPosition, Base):
    """One rollout of a language model, and attempt: beside its episode, under the same key.

    `attempt`, `superseded` and `derived_advantage` depend on the other rows: the writer updates them in the
    transaction that inserts. Long columns come last, so that reading the others is cheap.
    """

    __tablename__ = "rollouts"
    __table_args__ = (
        Index(None, "run_id", "training_step", "group_id"),
        Index(None, "run_id", "sample_key"),
        Index(None, "run_id", "scope", "generation"),
    )

    episode_index: Mapped[Big | None]
    split: Mapped[Str | None]
    training_step: Mapped[Big | None]
    group_id: Mapped[Str]
    sample_id: Mapped[Str]
    attempt: Mapped[Big]
    superseded: Mapped[bool]
    reward: Mapped[Float | None]
    advantage: Mapped[Float | None]
    derived_advantage: Mapped[Float | None]
    rewards: Mapped[Json | None]
    turns: Mapped[Big]
    input_tokens: Mapped[Big | None]
    output_tokens: Mapped[Big | None]
    policy_start: Mapped[Str | None]
    policy_end: Mapped[Str | None]
    status: Mapped[Str]
    stop_reason: Mapped[Str | None]
    format: Mapped[Str]
    source: Mapped[Str | None]
    sample_key: Mapped[Str]
    scope: Mapped[Str]
    generation: Mapped[Big]
    precedence: Mapped[Big]
    final_text: Mapped[Str | None]
    messages: Mapped[Json | None]


class Tokens(_Event, _LogPosition, Base):
    """Values for each token of one sequence; `schemas.token_arrays` reads `arrays`."""

    __tablename__ = "tokens"
    __table_args__ = (Index(None, "run_id", "training_step"),)

    split: Mapped[Str | None]
    training_step: Mapped[Big | None]
    group_id: Mapped[Str | None]
    sample_id: Mapped[Str | None]
    length: Mapped[Big]
    trained: Mapped[Big | None]
    masked: Mapped[Big | None]
    names: Mapped[Json]
    arrays: Mapped[bytes] = mapped_column(LargeBinary())


class TrainingStep(Base):
    """What the rollouts of one training step and split are together, those that are superseded aside.

    Made anew by whoever settles the step's rollouts, in the same transaction: a million rollouts are a few
    thousand of these rows. Means are of the finite values; null where there is none.
    """

    __tablename__ = "training_steps"

    run_id: Mapped[Key]
    training_step: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False)
    split: Mapped[Key]
    """Empty where nothing says."""
    samples: Mapped[Big]
    superseded: Mapped[Big]
    """Beside the samples."""
    groups: Mapped[Big]
    zero_signal_groups: Mapped[Big]
    """Groups of several samples whose rewards are all equal."""
    truncated: Mapped[Big]
    failed: Mapped[Big]
    """Failed or aborted."""
    reward: Mapped[Float | None]
    rewards: Mapped[Json]
    """Name of a reward function → mean of its values."""
    input_tokens: Mapped[Float | None]
    output_tokens: Mapped[Float | None]
    turns: Mapped[Float | None]
    staleness: Mapped[Float | None]
    """Training steps since the version of the policy that began the rollout."""


class Frame(_Event, _LogPosition, Base):
    """Where a picture lies on Kafka, for as long as Kafka keeps it. The picture itself is not in SQL."""

    __tablename__ = "frames"

    episode_index: Mapped[Big | None]
    step_index: Mapped[Big | None]
    media_type: Mapped[Str]


class DeadLetter(_Event, Base):
    """Bytes that could not be used, and why."""

    __tablename__ = "dead_letters"

    reason: Mapped[Str]
    field: Mapped[Str | None]
    message: Mapped[Str]
    raw: Mapped[bytes] = mapped_column(LargeBinary())
    producer_version: Mapped[Str]
    topic: Mapped[Str | None]
    topic_partition: Mapped[int | None] = mapped_column(Integer())
    topic_offset: Mapped[Big | None]
    redriven_at: Mapped[Time | None]


class Run(Base):
    """A run, folded from its events in the transaction that stores them."""

    __tablename__ = "runs"
    __table_args__ = (Index(None, "started_at"),)

    run_id: Mapped[Key]
    name: Mapped[Str | None]
    project: Mapped[Str | None]
    status: Mapped[Str]
    status_at: Mapped[Time | None]
    """Kafka's time of the record that set the status: an older record does not change it."""
    reason: Mapped[Str | None]
    started_at: Mapped[Time | None]
    ended_at: Mapped[Time | None]
    last_seen_at: Mapped[Time | None]
    """Kafka's time of the newest record, not its event time: a file ingested today is seen today."""
    env_id: Mapped[Str | None]
    algorithm: Mapped[Str | None]
    config: Mapped[Json | None]
    host: Mapped[Str | None]
    git_commit: Mapped[Str | None]
    steps: Mapped[Big] = mapped_column(default=0)
    episodes: Mapped[Big] = mapped_column(default=0)
    metrics: Mapped[Big] = mapped_column(default=0)
    run_events: Mapped[Big] = mapped_column(default=0)
    logs: Mapped[Big] = mapped_column(default=0)
    dead_letters: Mapped[Big] = mapped_column(default=0)


class Agent(Base):
    """An agent of a run, folded in the same way."""

    __tablename__ = "agents"

    run_id: Mapped[Key]
    agent_id: Mapped[Key]
    first_seen_at: Mapped[Time | None]
    last_seen_at: Mapped[Time | None]
    steps: Mapped[Big] = mapped_column(default=0)
    episodes: Mapped[Big] = mapped_column(default=0)
    metrics: Mapped[Big] = mapped_column(default=0)
    newest_return: Mapped[Float | None]
    best_return: Mapped[Float | None]
    return_sum: Mapped[Float] = mapped_column(default=0.0)
    returns: Mapped[Big] = mapped_column(default=0)
    """How many finite returns `return_sum` holds: the mean is their quotient."""
    newest_episode_index: Mapped[Big | None]
    newest_episode_at: Mapped[Time | None]
    """Event time of the newest episode: an older one that comes late does not replace it."""


class ConsumerOffset(Base):
    """The next offset that persist reads in a partition, written in the transaction that stores its rows."""

    __tablename__ = "consumer_offsets"

    topic: Mapped[Key]
    topic_partition: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=False)
    topic_id: Mapped[Str | None]
    """Kafka's id of the topic: another id means that the topic was created again."""
    next_offset: Mapped[Big]


def own_columns(table: Table) -> tuple[str, ...]:
    """The names of an event table's own columns: without key, agent, worker, time and place on Kafka."""
    shared = {*_Event.__annotations__, *_LogPosition.__annotations__}
    return tuple(column.name for column in table.c if column.name not in shared)


EVENT_TABLES: dict[str, Table] = {
    model.__tablename__: cast(Table, model.__table__)
    for model in (Step, Episode, Metrics, RunEvent, LogLine, Frame, Rollout, Tokens, DeadLetter)
}
"""The tables that keep one row for each record, by name."""


class SeekPointRow(Base):
    """A summary of a thousand lines of a stream in one partition; see `schemas.seek_points`."""

    __tablename__ = "seek_points"

    run_id: Mapped[Key]
    stream_id: Mapped[Key]
    block: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=False)
    topic: Mapped[Key]
    """Without its prefix."""
    topic_partition: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=False)
    newest_event_time: Mapped[Time]
    first_offset: Mapped[Big]
    last_offset: Mapped[Big]
    records: Mapped[Big]
    newest_episode: Mapped[Big | None]


class UnindexedRun(Base):
    """A run with rows older than the table of seek points: `db upgrade` and persist make its seek points."""

    __tablename__ = "unindexed_runs"

    run_id: Mapped[Key]


class DeletedRun(Base):
    """A run that was deleted, so that a late consumer does not store it again."""

    __tablename__ = "deleted_runs"

    run_id: Mapped[Key]
    deleted_at: Mapped[Time]
