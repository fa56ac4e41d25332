"""A fold does not depend on how records are split into batches, and the newest event sets the status."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fold import CANCELLED, COMPLETED, FAILED, LOST, RUNNING, AgentState, Fold, RunState
from schemas.topics import Kind

RUN, STREAM = "r1", "01STREAM"


def record(kind: Kind, seq: int = 1, *, meta: bool = False, **own):
    """Return a record as the decoder gives it: every field, null without a value."""
    common = {"run_id": RUN, "stream_id": STREAM + (".meta" if meta else ""), "seq": seq, "agent_id": "a",
              "worker_id": None, "event_time": seq * 1000}  # fmt: skip
    fields = {
        Kind.STEPS: {"episode_index": None, "step_index": None, "reward": None, "extras": None},
        Kind.EPISODES: {"episode_index": None, "episode_return": None, "extras": None},
        Kind.METRICS: {"extras": None},
        Kind.RUNS: {"event": "other", "payload": None},
        Kind.LOGS: {"source": "stdout", "line": ""},
        Kind.DLQ: {"topic": None},
    }[kind]
    return common | fields | own


def event(kind: str, seq: int = 1, /, *, meta: bool = False, **payload):
    """Return a run event."""
    return record(Kind.RUNS, seq, meta=meta, event=kind, payload=json.dumps(payload))


def status_after(*events: tuple[int, dict]) -> str:
    """Return the run's status after events, each with its Kafka time."""
    fold = Fold()
    for at, what in events:
        fold.add(Kind.RUNS, what, at)
    return fold.runs[RUN].status


@pytest.mark.parametrize(
    ("payload", "status"),
    [({}, COMPLETED), ({"status": "completed"}, COMPLETED), ({"status": "failed"}, FAILED),
     ({"status": "skipped"}, CANCELLED), ({"status": "cancelled"}, CANCELLED)],
)  # fmt: skip
def test_run_completed_says_how_by_its_status(payload, status):
    """The status in `run_completed` decides how the run ended."""
    assert status_after((1, event("run_started")), (2, event("run_completed", **payload))) == status


def test_events_that_end_a_run():
    """`run_failed` and `run_cancelled` end a run; an error alone does not."""
    assert status_after((1, event("run_failed"))) == FAILED
    assert status_after((1, event("run_cancelled"))) == CANCELLED
    assert status_after((1, event("run_started")), (2, event("error", message="x"))) == RUNNING


def test_a_later_start_makes_it_run_again_and_an_older_word_does_not():
    """The event with the newest Kafka time decides the status, in whatever order events are read."""
    assert status_after((1, event("run_completed")), (2, event("run_started"))) == RUNNING
    assert status_after((2, event("run_completed")), (1, event("run_started"))) == COMPLETED
    assert status_after((2, event("run_started")), (2, event("run_completed"))) == COMPLETED


def test_the_end_of_a_stream_decides_only_when_stepstream_says_so():
    """`stream_ended` ends a run only in a meta stream; the same line of a worker changes nothing."""
    said = {"event": "stream_ended", "status": "completed"}
    assert status_after((1, event("other", meta=True, **said))) == COMPLETED
    assert status_after((1, event("other", **said))) == RUNNING


def test_a_lost_run_that_is_heard_again_is_running():
    """Any newer record makes a lost run running again, and a late end still counts."""
    fold = Fold()
    fold.add(Kind.RUNS, event("other", meta=True, event="stream_ended", status="lost"), 10)
    fold.add(Kind.STEPS, record(Kind.STEPS), 10)
    assert fold.runs[RUN].status == LOST
    fold.add(Kind.STEPS, record(Kind.STEPS, 2), 12)
    assert fold.runs[RUN].status == RUNNING
    fold.add(Kind.RUNS, event("run_completed"), 11)
    assert fold.runs[RUN].status == COMPLETED


def test_a_letter_that_a_consumer_wrote_is_no_sign_of_life():
    """A dead letter of a consumer is counted, but does not change when the run was last seen."""
    fold = Fold()
    fold.add(Kind.DLQ, record(Kind.DLQ, topic="telemetry.steps"), 10)
    assert (fold.runs[RUN].dead_letters, fold.runs[RUN].last_seen_at) == (1, 0)


def test_what_stepstream_writes_itself_counts_nowhere_but_tells_the_facts():
    """Meta streams add to no count and make no agent; their run_started gives host, commit and config."""
    fold = Fold()
    fold.add(Kind.RUNS, event("run_started", meta=True, host="h", git_commit="c", config={"lr": 1}), 1)
    fold.add(Kind.LOGS, record(Kind.LOGS, 2, meta=True), 2)
    run = fold.runs[RUN]
    assert (run.run_events, run.logs, fold.agents) == (0, 0, {})
    assert (run.host, run.git_commit, json.loads(run.config)) == ("h", "c", {"lr": 1})


def test_facts_come_from_run_started_in_any_of_their_places():
    """Environment and algorithm are read beside the config and inside it."""
    for payload in ({"env_id": "E", "algo": "ppo"}, {"config": {"game_id": "E", "algorithm": "ppo"}}):
        fold = Fold()
        fold.add(Kind.RUNS, event("run_started", **payload), 1)
        assert (fold.runs[RUN].env_id, fold.runs[RUN].algorithm) == ("E", "ppo")


def test_an_environment_named_only_by_steps_is_found():
    """If no event names the environment, the first step of an agent does."""
    fold = Fold()
    fold.add(Kind.STEPS, record(Kind.STEPS, extras='{"env_name": "Taxi-v3"}'), 1)
    assert fold.runs[RUN].env_id == "Taxi-v3"


@pytest.mark.parametrize("payload", ["[1]", "{", None, '{"name": "\\u0000\\ud800"}', '{"name": {"a": 1}}',
                                     '{"config": {"x": NaN, "y": 1e999}}', "[" * 5000])  # fmt: skip
def test_hostile_payloads_cost_nothing(payload):
    """Any payload gives text that every database accepts."""
    fold = Fold()
    fold.add(Kind.RUNS, record(Kind.RUNS, event="run_started", payload=payload), 1)
    run = fold.runs[RUN]
    assert run.name is None or run.name == "\ufffd\ufffd"
    assert run.config is None or json.loads(run.config) == {"x": "NaN", "y": "1e999"}


def test_returns_of_an_agent():
    """Best, sum and newest return are kept; a return of NaN or null is in neither best nor sum."""
    fold = Fold()
    for seq, value in enumerate([1.0, 5.0, math.nan, 3.0, None]):
        fold.add(Kind.EPISODES, record(Kind.EPISODES, seq, episode_index=seq, episode_return=value), seq)
    fold.add(Kind.EPISODES, record(Kind.EPISODES, 1, episode_index=1, episode_return=2.0), 9)
    agent = fold.agents[RUN, "a"]
    assert (agent.episodes, agent.best_return, agent.return_sum, agent.returns) == (6, 5.0, 11.0, 4)
    assert (agent.newest_return, agent.newest_episode_index) == (None, 4)


def _some(kind: Kind, **own):
    made = st.builds(record, st.just(kind), st.integers(1, 9), **own)
    return st.tuples(st.just(kind), made)


def _events(names, **payload):
    made = st.builds(event, st.sampled_from(names), st.integers(1, 9), **payload)
    return st.tuples(st.just(Kind.RUNS), made)


_records = st.one_of(
    _some(Kind.STEPS, agent_id=st.sampled_from("ab")),
    _some(
        Kind.EPISODES,
        episode_index=st.integers(0, 3),
        episode_return=st.sampled_from([None, 0.0, 1.0, math.inf]),
    ),
    _some(Kind.LOGS, meta=st.booleans()),
    _events(
        ["run_started", "run_completed", "heartbeat", "run_failed", "error"],
        meta=st.booleans(),
        name=st.sampled_from(["", "n", "m"]),
    ),
    _events(
        ["other"],
        meta=st.just(True),
        event=st.just("stream_ended"),
        status=st.sampled_from(["completed", "lost"]),
    ),
)


@given(st.lists(st.tuples(_records, st.integers(1, 20)), max_size=12), st.integers(0, 12))
def test_a_fold_is_the_same_however_it_is_cut(records, cut):
    """Folding two batches apart and merging them gives what folding them in one gives."""
    whole, first, second = Fold(), Fold(), Fold()
    for place, ((kind, what), at) in enumerate(records):
        whole.add(kind, what, at)
        (first if place < cut else second).add(kind, what, at)
    first.merge(second)
    # Merging keeps the earlier `started_at` of two folds, which may be earlier than that of one fold.
    for fold in (whole, first):
        for run in fold.runs.values():
            run.started_at = None
    assert first.runs == whole.runs
    assert first.agents == whole.agents


def test_states_are_slotted():
    """A state has no `__dict__`, so that a million agents fit into memory."""
    assert not hasattr(RunState("r"), "__dict__")
    assert not hasattr(AgentState("r", "a", 0, 0), "__dict__")
