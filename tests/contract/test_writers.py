"""One suite for both writers: PostgreSQL and SQLite behave alike."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import delete, func, insert, select

from consumers.persist.batch import Outcome, store_rollups
from infra.settings import load
from infra.sql import migrations, runs
from infra.sql.engine import BadDataError, ConflictError
from infra.sql.writers import Position, Transaction, Writer, open_writer
from infra.sql.writers.base import COLUMNS, moment
from infra.sql.writers.check import Check
from producers.lines.context import Identity
from producers.lines.normalise import Normaliser
from schemas.errors import UsageError
from schemas.fold import LOST, RUNNING, STATUSES, AgentState, RunState, columns
from schemas.tables import Agent, ConsumerOffset, DeletedRun, Run, RunEvent, Step
from schemas.topics import Kind, Partition
from schemas.values import LONGEST_ID
from tests.support.records import record

NOW = 1_764_000_000_123_456


def step(seq: int, **own: Any) -> list[Any]:
    """A row of `steps`."""
    row = {"run_id": "r", "stream_id": "s", "seq": seq, "agent_id": "a", "event_time": NOW + seq,
           "topic_partition": 0, "topic_offset": seq, "action": "1.0", "reward": 0.5, **own}  # fmt: skip
    return [row.get(name) for name in COLUMNS["steps"]]


def count(tx: Transaction, model: Any) -> int:
    """How many rows a table has."""
    return tx.connection.scalar(select(func.count()).select_from(model)) or 0


def test_rows_come_out_as_they_went_in(writer: Writer):
    """A row is read back with times to the microsecond, JSON as Python values, absent fields as null."""
    with writer.transaction() as tx:
        assert tx.insert("steps", iter([step(1, observation='{"x": [1, 2]}', terminated=True)])) == 1
        row = tx.connection.execute(select(Step)).mappings().one()
    assert row["event_time"] == datetime(2025, 11, 24, 16, 0, 0, 123457, tzinfo=UTC)
    assert (row["observation"], row["action"], row["terminated"]) == ({"x": [1, 2]}, 1.0, True)
    assert (row["truncated"], row["step_index"], row["topic_offset"]) == (None, None, 1)


def test_numbers_that_are_none(writer: Writer):
    """The infinities are kept; NaN is kept by PostgreSQL and null in SQLite."""
    with writer.transaction() as tx:
        tx.insert("steps", [step(1, reward=math.inf), step(2, reward=-math.inf), step(3, reward=math.nan)])
        rewards = list(tx.connection.scalars(select(Step.reward).order_by(Step.seq)))
    assert rewards[:2] == [math.inf, -math.inf]
    assert rewards[2] is None if writer.engine.dialect.name == "sqlite" else math.isnan(rewards[2])


@pytest.mark.parametrize("moment_us", [0, -1, 999_999, -62_135_596_800_000_000, 253_402_300_799_999_999])
def test_times_of_any_year(writer: Writer, moment_us: int):
    """Years 1 to 9999 are kept to the microsecond."""
    with writer.transaction() as tx:
        tx.insert("steps", [step(1, event_time=moment_us)])
        assert tx.connection.scalar(select(Step.event_time)) == moment(moment_us)


def test_a_row_that_is_there_is_a_conflict_and_nothing_is_written(writer: Writer):
    """The fast insert stores all rows or none, and the transaction goes on."""
    with writer.transaction() as tx:
        tx.insert("steps", [step(2)])
        with pytest.raises(ConflictError):
            tx.insert("steps", [step(1), step(2), step(3)])
        with pytest.raises(ConflictError):
            tx.insert("steps", [step(5), step(5)])
        assert count(tx, Step) == 1


def test_insert_new_tells_which_rows_were_new(writer: Writer):
    """Existing rows are not changed; a row with another time is reported as a contradiction."""
    with writer.transaction() as tx:
        tx.insert("steps", [step(2), step(3)])
        rows = [step(1), step(2), step(3, event_time=NOW), step(4), step(4)]
        done = tx.insert_new("steps", rows)
        assert done.new == {("r", "s", 1), ("r", "s", 4)}
        assert done.contradicted == {("r", "s", 3)}
        assert count(tx, Step) == 4
        assert tx.insert_new("steps", rows).new == set()
        assert rows[0] == step(1)


@pytest.mark.parametrize("way", ["insert", "insert_new"])
def test_a_refused_row_is_named_and_nothing_is_written(writer: Writer, way: str):
    """The writer names the bad row, and the transaction goes on without it."""
    bad = step(3, agent_id=None)
    with writer.transaction() as tx:
        with pytest.raises(BadDataError) as caught:
            getattr(tx, way)("steps", [step(1), step(2), bad, step(4)])
        assert caught.value.row in (2, None)
        assert count(tx, Step) == 0
        assert tx.insert("steps", [step(1)]) == 1


@pytest.mark.parametrize("own", [{"worker_id": "a\0b"}, {"observation": "{"}, {"observation": "NaN"}])
def test_what_only_postgresql_refuses(postgres: str, own: dict[str, Any]):
    """PostgreSQL refuses NUL in text and text that is no JSON; the error of both inserts names the row."""
    writer = open_writer(replace(load({}), database_url=postgres))
    migrations.upgrade(writer.engine)
    with writer.transaction() as tx:
        for way in (tx.insert, tx.insert_new):
            with pytest.raises(BadDataError) as caught:
                way("steps", [step(1), step(2, **own), step(3)])
            assert caught.value.row == 1
    writer.close()


JSON_TEXTS = ['"\\u0000"', '"\\ud800"', "1e400", " [1] ", "-0", "9" * 5000, '"\x7f"', '{"a": 1, "a": 2}']
NO_JSON = [
    "",
    " ",
    "{",
    "NaN",
    "[1,]",
    "1,2",
    "'a'",
    '"\t"',
    '"\\x"',
    "01",
    "1.",
    "+1",
    "\ufeff1",
    "[1]]",
    "nul",
]


def test_json_that_postgresql_takes(writer: Writer):
    """JSON text that PostgreSQL takes passes the check, and both databases store it."""
    check = Check("steps")
    rows = [step(seq, info=value) for seq, value in enumerate(JSON_TEXTS)]
    for row in rows:
        check(row)
    with writer.transaction() as tx:
        assert tx.insert("steps", rows) == len(JSON_TEXTS)


@pytest.mark.parametrize("value", [*NO_JSON, "[" * 5000 + "]" * 5000])
def test_what_is_no_json_is_seen_before_any_database_is(value: str):
    """The check refuses text that is no JSON, and names the column."""
    with pytest.raises(BadDataError, match="info is"):
        Check("steps")(step(1, info=value))


_json_like = st.text(alphabet='{}[],:"\\u0dA1e+-. \t\n\ud7fftruefalsn', max_size=12)


@given(_json_like)
@examples(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_check_is_postgresql_s_own(json_judge: Callable[[str], bool], value: str):
    """A text passes the check exactly when PostgreSQL takes it as JSON."""
    try:
        Check("steps")(step(1, info=value))
        passed = True
    except BadDataError:
        passed = False
    assert passed == json_judge(value)


@pytest.fixture
def json_judge(postgres: str) -> Iterator[Callable[[str], bool]]:
    """A function that asks PostgreSQL whether a text is JSON."""
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:

        def judge(value: str) -> bool:
            found = connection.execute("SELECT pg_input_is_valid(%s, 'json')", [value]).fetchone()
            return bool(found and found[0])

        yield judge


@pytest.mark.parametrize("name", ["run_id", "stream_id", "agent_id", "worker_id"])
def test_ids_as_long_as_they_may_be(writer: Writer, name: str):
    """An id of the maximum length fits every index, in any script; one character more is refused."""
    check, longest = (
        Check("steps"),
        "".join(chr(random.randint(0x10000, 0x10FFFF)) for _ in range(LONGEST_ID)),
    )
    with pytest.raises(BadDataError, match=name):
        check(step(1, **{name: longest + "x"}))
    ids = {"run_id": longest, "stream_id": longest[::-1], "agent_id": longest[::-1]}
    row = step(1, **ids)
    check(row)
    with writer.transaction() as tx:
        assert tx.insert("steps", [row]) == 1
        tx.upsert("agents", [columns(AgentState(ids["run_id"], ids["agent_id"], 0, 1))])
        tx.upsert("runs", [columns(RunState(ids["run_id"]))])


def test_other_tables_take_their_rows(writer: Writer):
    """Each event table has the columns that its rows are made of."""
    values = {"run_id": "r", "stream_id": "s", "seq": 1, "agent_id": "a", "event_time": NOW}
    values |= {"source": "stdout", "line": "x", "event": "other", "payload": "{}", "metrics": '{"a": 1}'}
    values |= {"reason": "r", "message": "m", "raw": b"\0\xff", "producer_version": "0"}
    values |= {
        "group_id": "0",
        "sample_id": "0",
        "attempt": 1,
        "superseded": False,
        "turns": 1,
        "status": "ok",
    }
    values |= {"format": "sdk", "sample_key": "k", "scope": "k", "generation": 1, "precedence": 0}
    values |= {"length": 1, "names": "[]", "arrays": b"x"}
    values |= {"topic_partition": 0, "topic_offset": 0, "media_type": "image/png"}
    with writer.transaction() as tx:
        for table, names in COLUMNS.items():
            assert tx.insert(table, [[values.get(name) for name in names]]) == 1
        assert tx.connection.scalar(select(RunEvent.payload)) == {}


def test_offsets_are_kept_with_the_rows(writer: Writer):
    """A transaction that fails moves no offset; one that commits moves all."""
    one, two = Partition("t", 0), Partition("t", 1)
    with writer.transaction() as tx:
        assert tx.places([one]) == {}
        tx.set_place(one, Position(5, "id"))
        tx.set_place(two, Position(7, None))
        tx.set_place(one, Position(6, "other"))
    with pytest.raises(ZeroDivisionError), writer.transaction() as tx:
        _ = tx.advance({one: 100}), 1 // 0
    with writer.transaction() as tx:
        assert tx.places([two, one]) == {one: Position(6, "other"), two: Position(7, None)}
        tx.advance({one: 10, two: 11})
        tx.advance({})
    with writer.transaction() as tx:
        assert [place.next_offset for place in tx.places([one, two]).values()] == [10, 11]


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40)), max_size=30, unique=True)


@given(before=ROWS, meanwhile=ROWS, at_once=st.integers(1, 5))
@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_deletion_takes_what_was_there_when_it_began(
    writer: Writer, before: Any, meanwhile: Any, at_once: int
):
    """Rows that persist stores during a deletion belong to the new run of that name, and stay."""

    def write(keys: Any) -> None:
        with writer.transaction() as tx:
            tx.insert("steps", [step(seq, stream_id=stream) for stream, seq in keys])
            done = Outcome()
            for stream, seq in keys:
                done.fold.add(Kind.STEPS, record(Kind.STEPS, "r", seq=seq, stream_id=stream), NOW)
            store_rollups(tx, done)

    ends = {stream: max(seq for other, seq in before if other == stream) for stream, _ in before}
    new = [(stream, seq + ends.get(stream, 0)) for stream, seq in meanwhile]
    for model in (Step, Run, Agent, DeletedRun):
        with writer.transaction() as tx:
            tx.connection.execute(delete(model))
    write([*before, ("another", 1)])
    written = []

    def stored_meanwhile(_: int) -> None:
        if not written:
            written.append(write(new))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "DELETE_ROWS", at_once)
        patch.setattr(runs, "DELETE_STREAMS", 2)
        deleted = runs.remove(writer.engine, "r", lambda: moment(NOW), stored_meanwhile)
    assert deleted == len(before) + 1
    with writer.transaction() as tx:
        left = tx.connection.execute(select(Step.stream_id, Step.seq)).all()
        counted = tx.connection.scalars(select(Run.steps).where(Run.run_id == "r")).all()
    assert sorted(left) == sorted(new)
    assert counted == ([len(new)] if new else [])


def test_a_deletion_that_was_cut_off_is_finished(writer: Writer):
    """The retention lists a deletion that was cut off, a second call ends it; an unknown run is refused."""
    with writer.transaction() as tx:
        tx.insert("steps", [step(seq) for seq in range(1, 31)])
        tx.upsert("runs", [columns(RunState("r"))])

    def die(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "DELETE_ROWS", 10)
        with pytest.raises(KeyboardInterrupt):
            runs.remove(writer.engine, "r", lambda: moment(NOW), die)
    assert runs.past_retention(writer.engine, moment(0)) == ["r"]
    assert runs.rows(writer.engine, "r") == 20
    assert runs.remove(writer.engine, "r", lambda: moment(NOW)) == 20
    assert runs.past_retention(writer.engine, moment(0)) == []
    for act in (
        lambda: runs.remove(writer.engine, "no", lambda: moment(NOW)),
        lambda: runs.rows(writer.engine, "no"),
    ):
        with pytest.raises(UsageError, match="no run 'no'"):
            act()
    with writer.transaction() as tx:
        assert tx.deleted_runs() == {"r": NOW}


def test_deleted_runs_are_seen_at_once(writer: Writer):
    """A transaction knows the runs that were deleted before it began."""
    with writer.transaction() as tx:
        assert tx.deleted_runs() == {}
    with writer.engine.begin() as connection:
        connection.execute(insert(DeletedRun).values(run_id="r", deleted_at=moment(NOW)))
    with writer.transaction() as tx:
        assert tx.deleted_runs() == {"r": NOW}


_times = st.none() | st.integers(0, 5)
_statuses = st.sampled_from(STATUSES)
_names = st.none() | st.sampled_from("xy")
_runs = st.builds(
    RunState,
    st.just("r"),
    status=_statuses,
    status_at=_times,
    reason=_names,
    ended_at=_times,
    name=_names,
    env_id=_names,
    started_at=_times,
    last_seen_at=st.integers(0, 6),
    steps=st.integers(0, 3),
    dead_letters=st.integers(0, 3),
).filter(lambda run: run.status == RUNNING or run.status_at is not None)
_returns = st.none() | st.sampled_from([-1.0, 0.0, 2.5])
_agents = st.builds(
    AgentState,
    st.just("r"),
    st.just("a"),
    st.integers(0, 5),
    st.integers(0, 5),
    steps=st.integers(0, 3),
    newest_return=_returns,
    newest_episode_index=st.none() | st.integers(0, 3),
    newest_episode_at=_times,
    best_return=_returns,
    return_sum=st.sampled_from([0.0, 1.5]),
    returns=st.integers(0, 3),
)


@given(st.lists(_runs, min_size=1, max_size=4), st.lists(_agents, min_size=1, max_size=4))
@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_merges_as_the_fold_does(writer: Writer, runs: list[RunState], agents: list[AgentState]):
    """Batches that are stored one after the other in SQL give what `merge` gives in memory."""
    for run in runs:  # a fold revives each run that it receives, so only such states occur
        run.revive()
        if run.status in (RUNNING, LOST):
            run.ended_at = None
    with writer.transaction() as tx:
        tx.connection.execute(delete(Run))
        tx.connection.execute(delete(Agent))
        for state in runs:
            tx.upsert("runs", [columns(state)])
        for state in agents:
            tx.upsert("agents", [columns(state)])
        stored_run = dict(tx.connection.execute(select(Run.__table__)).mappings().one())
        stored_agent = dict(tx.connection.execute(select(Agent.__table__)).mappings().one())
    for first, rest, stored in ((runs[0], runs[1:], stored_run), (agents[0], agents[1:], stored_agent)):
        for newer in rest:
            first.merge(newer)  # type: ignore[arg-type]
        expected = columns(first)
        times = {name for name in expected if name.endswith("_at")}
        assert stored == {name: moment(v) if name in times else v for name, v in expected.items()}


def test_many_rollups_in_one_statement(writer: Writer):
    """A thousand agents of a batch are stored at once, and a run's config is stored as JSON."""
    with writer.transaction() as tx:
        tx.upsert("agents", [columns(AgentState("r", str(i), 0, 1, steps=i)) for i in range(1000)])
        tx.upsert("runs", [columns(RunState("r", config='{"lr": 0.5}'))])
        assert tx.connection.scalar(select(func.sum(Agent.steps))) == 499_500
        assert tx.connection.scalar(select(Run.config)) == {"lr": 0.5}
        assert count(tx, ConsumerOffset) == 0


def test_a_name_that_postgresql_cannot_read_hides_no_other(writer: Writer):
    """`->>` finds a metric also beside a name that has a NUL or half a surrogate pair."""
    normalise = Normaliser(Identity("s", "r"))
    line = b'{"loss":0.5,"a\\u0000b":1,"c\\ud800":2,"text":"x","flag\\u0000":true}'
    event = normalise(line, 1, 0)
    assert event.kind is Kind.METRICS
    with writer.transaction() as tx:
        tx.insert("metrics", [[*event.record.values(), 0, 1]])
    with writer.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT metrics->>'loss', extras->>'text' FROM metrics").one()
    assert (float(found[0]), found[1]) == (0.5, "x")
