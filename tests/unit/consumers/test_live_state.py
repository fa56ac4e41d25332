"""What the live path keeps in memory and writes to Redis. No test needs a server."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from consumers.live import records
from consumers.live.agents import Agent, Cap, Rate, Run
from consumers.live.service import start
from consumers.live.state import ROWS_EVERY_S, LiveState
from schemas import live
from schemas.live import HeldAgent, HeldRun, Keys
from schemas.topics import Kind, Watermarks
from tests.support.records import record, step

NOW = 1_000.0
MIB = 1024 * 1024


@pytest.fixture
def state() -> LiveState:
    """An empty state."""
    return LiveState(Keys("p:"), buffer_steps=100, buffer_bytes=MIB)


def written(state: LiveState, now: float = NOW) -> dict[tuple[Any, Any], list[Any]]:
    """Return the commands to write now, grouped by name and key."""
    out: dict[tuple[Any, Any], list[Any]] = {}
    for command in state.commands(now, now_us=int(now * 1e6), lags={}):
        out.setdefault(command[:2], []).append(command[2:])
    return out


def entries(out: dict[tuple[Any, Any], list[Any]], key: str) -> list[live.StepsEntry]:
    """Return the packed steps that were added to a stream."""
    return [live.STEPS.unpack(command[-1]) for command in out.get(("XADD", key), [])]


STEPS_KEY = "p:run:run:a:steps"


def test_the_steps_of_a_poll_are_one_entry(state: LiveState) -> None:
    """All steps of an agent in one poll are one entry; the next entry continues its numbering."""
    for seq in range(1, 4):
        state.add(Kind.STEPS, step(seq), 1, 100)
    (first,) = entries(written(state), STEPS_KEY)
    state.add(Kind.STEPS, step(4), 1, 100)
    (second,) = entries(written(state), STEPS_KEY)
    assert (first.first, [s.seq for s in first.steps]) == (0, [1, 2, 3])
    assert (second.first, [s.seq for s in second.steps]) == (3, [4])


def test_large_polls_are_split(state: LiveState) -> None:
    """An entry stays small however many records one poll returned, because caps count entries."""
    for seq in range(1, 101):
        state.add(Kind.STEPS, step(seq, observation="[" + "1," * 8_000 + "1]"), 1, 16_000)
    found = entries(written(state), STEPS_KEY)
    assert len(found) > 5
    assert [s.seq for entry in found for s in entry.steps] == list(range(1, 101))
    assert max(len(live.STEPS.pack(entry)) for entry in found) < 200_000


def test_rows_are_written_seldom_but_at_birth(state: LiveState) -> None:
    """A new agent's row is written at once; later changes of it are written four times a second."""
    state.add(Kind.STEPS, step(1), 1, 100)
    assert ("HSET", "p:run:run:agents") in written(state)
    state.add(Kind.STEPS, step(2), 1, 100)
    assert ("HSET", "p:run:run:agents") not in written(state, NOW + 0.01)
    assert state.dirty
    out = written(state, NOW + ROWS_EVERY_S + 0.01)
    (cells,) = out["HSET", "p:run:run:agents"]
    assert live.AGENT_STEPS.unpack(cells[1]).steps == 2
    assert not state.dirty


def test_repeats_are_counted_once(state: LiveState) -> None:
    """A record that is sent again is not counted again; each kind and each stream counts separately."""
    for seq in (1, 2, 1, 2, 3):
        state.add(Kind.STEPS, step(seq), 1, 100)
    state.add(Kind.STEPS, step(1, stream_id="other"), 1, 100)
    state.add(Kind.EPISODES, record(Kind.EPISODES, seq=1, episode_return=1.0), 1, 100)
    out = written(state)
    assert out["HINCRBY", "p:run:run"] == [("steps", 4), ("episodes", 1)]


def test_what_stepstream_makes_itself_is_not_counted(state: LiveState) -> None:
    """Records of a meta stream change a run's state, but count in no total."""
    told = record(Kind.RUNS, stream_id="s.meta", event="run_started", payload='{"name": "Lake"}')
    state.add(Kind.RUNS, told, 1, 100)
    out = written(state)
    assert ("HINCRBY", "p:run:run") not in out
    fields = [part for command in out["HSET", "p:run:run"] for part in command]
    assert fields[fields.index("name") + 1] == "Lake"


def test_it_goes_on_where_redis_stands(state: LiveState) -> None:
    """An agent's first record continues the counts that Redis holds; its newest entry sets the number."""
    state.add(Kind.STEPS, step(1), 1, 100)
    state.add(Kind.EPISODES, record(Kind.EPISODES, seq=2, episode_return=3.0), 1, 100)
    made = live.LiveStep("s", 1, 1, None, None, None, None, None, None, None, None, None, None)
    held = HeldAgent(
        sums=live.AGENT_STEPS.pack(live.AgentSteps(steps=90, first_seen=5)),
        returns=live.AGENT_RETURNS.pack(live.AgentReturns(episodes=4, best=9.0, newest=[1.0, 2.0])),
        steps=live.STEPS.pack(live.StepsEntry(98, [made, made])),
        episodes=None,
    )
    assert list(state.unknown_agents) == [("run", "a")]
    state.restore_agent(("run", "a"), held)
    out = written(state, NOW + 1)
    assert entries(out, STEPS_KEY)[0].first == 100
    returns = live.AGENT_RETURNS.unpack(out["HSET", "p:run:run:returns"][0][1])
    assert (returns.episodes, returns.best, returns.newest) == (5, 9.0, [1.0, 2.0, 3.0])


def test_a_status_that_redis_holds_stays(state: LiveState) -> None:
    """A process that sees only a run's late steps does not turn a failed run into a running one."""
    state.add(Kind.STEPS, step(1), 2_000, 100)
    fields = {b"status": b"failed", b"reason": b"exit code 1", b"status_at": b"1000", b"name": b"Lake"}
    state.restore_run("run", HeldRun(fields, None, None))
    assert ("HSETNX", "p:run:run") in (out := written(state))
    assert ("status", "failed") in out["HSETNX", "p:run:run"]
    state.add(Kind.RUNS, record(Kind.RUNS, event="run_started", payload="{}", seq=9), 3_000, 100)
    fields_now = [part for command in written(state)["HSET", "p:run:run"] for part in command]
    assert fields_now[fields_now.index("status") + 1] == "running"
    assert fields_now[fields_now.index("name") + 1] == "Lake"


def test_commands_of_many_agents_stay_short(state: LiveState) -> None:
    """Rows of many agents are split over several commands, because Lua's stack limits the arguments."""
    for seq in range(1, 2_001):
        state.add(Kind.STEPS, step(seq, agent_id=f"a{seq}"), 1, 100)
    out = state.commands(NOW, 0, {})
    assert max(len(command) for command in out) < 2_000
    cells = [c for command in out if command[:2] == ("HSET", "p:run:run:agents") for c in command[2:]]
    assert len(cells) == 4_000


def test_the_silent_are_forgotten(state: LiveState) -> None:
    """Only active agents stay in memory; the others are read from Redis when they send again."""
    for seq in range(1, 101):
        state.add(Kind.STEPS, step(seq, run_id=f"run-{seq}"), 1, 100)
    written(state, NOW)
    state.unknown_runs.clear()
    state.unknown_agents.clear()
    state.add(Kind.STEPS, step(1, run_id="now"), 1, 100)
    written(state, NOW + 1_000)
    assert set(state._runs) == {"now"}
    assert set(state._agents) == {("now", "a")}
    assert not state._fold.agents.keys() - {("now", "a")}
    state.add(Kind.STEPS, step(101, run_id="run-1"), 1, 100)
    assert list(state.unknown_runs) == ["now", "run-1"]


def test_agents_of_a_run_that_began_here_are_not_asked_for(state: LiveState) -> None:
    """Agents of a run that is unknown to Redis are not looked up there."""
    state.add(Kind.STEPS, step(1, agent_id="first"), 1, 100)
    state.restore_run("run", HeldRun({}, None, None))
    state.add(Kind.STEPS, step(2, agent_id="second"), 1, 100)
    assert not state.unknown_agents
    state.add(Kind.STEPS, step(1, run_id="older", agent_id="a"), 1, 100)
    state.restore_run("older", HeldRun({b"status": b"running"}, None, None))
    assert list(state.unknown_agents) == [("older", "a")]


def test_long_texts_are_cut() -> None:
    """A long text is cut, marked and stays valid JSON; extras that are too long are left out."""
    long = json.dumps("é" * 20_000)
    made = records.step(
        step(1, observation=long, info='{"a": ' + long + "}", extras='{"a": ' + long + "}"), 90_000
    )
    observation = json.loads(made.observation or "")
    assert observation.startswith("é" * 1000)
    assert observation.endswith(records.CUT_MARK)
    assert isinstance(json.loads(made.info or ""), str)
    assert made.extras is None


@pytest.mark.parametrize(
    ("extras", "drawn"),
    [
        ({"render_payload": {"mode": "grid", "grid": [[0]]}}, True),
        ({"render_payload": {"mode": "rgb", "grid": [[0]]}}, False),
        ({"render_payload": "grid"}, False),
        ({"render_payload": [{"mode": "grid"}]}, False),
        ({"render_payload": {"mode": "grid", "grid": "x" * 70_000}}, False),
        ({"grid": [[0]]}, False),
    ],
)
def test_what_is_a_grid(extras: Any, drawn: bool) -> None:
    """Only a render payload of mode grid, and of a size that can be drawn, is taken as a picture."""
    made = records.step(step(1), 10)
    found = records.grid_frame(made, json.dumps(extras))
    assert (found is not None) is drawn


@pytest.mark.parametrize(
    ("metrics", "values"),
    [
        ('{"loss": 0.5, "n": 3}', {"loss": 0.5, "n": 3.0}),
        ('{"loss": "NaN", "odd": null, "list": [1], "yes": true}', {"yes": 1.0}),
        ("{}", None),
        (None, None),
        ("[1]", None),
        ('{"a": 1', None),
        ('{"a": 1e999}', {"a": None}),
        ('{"a": 1' + "0" * 400 + "}", {"a": None}),
    ],
)
def test_numbers_by_name(metrics: str | None, values: Any) -> None:
    """A point holds the numbers of the metrics, and null for an infinite one; no numbers give no point."""
    point = records.metric_point(record(Kind.METRICS, metrics=metrics))
    assert (None if point is None else point.metrics) == values


@pytest.mark.parametrize(
    ("held", "expected"),
    [(None, 80), (90, 90), (40, 40), (100, 100), (101, 80), (9, 80)],
    ids=["nothing", "near", "far", "at the end", "topic made anew", "no longer there"],
)
def test_where_a_partition_is_gone_on_in(held: int | None, expected: int) -> None:
    """Reading starts at the position in Redis if Kafka still holds it, else a little before the end."""
    assert start(held, Watermarks(10, 100), tail=20) == expected


def test_a_short_partition_is_read_whole() -> None:
    """A partition with fewer records than the tail is read from its beginning."""
    assert start(None, Watermarks(95, 100), tail=20) == 95


def test_a_rate_follows_and_falls() -> None:
    """A rate comes near the true one within seconds, and falls to 0 when no record comes."""
    rate = Rate()
    rate.take(0.0)
    for tick in range(1, 41):
        rate.add(25)
        rate.take(tick / 4)
    assert rate.value == pytest.approx(100, rel=0.02)
    for tick in range(41, 81):
        rate.take(tick / 4)
    assert rate.value < 1


def test_a_cap_holds_rows_and_bytes() -> None:
    """A stream keeps the entries that hold the wanted rows, and fewer if they need too many bytes."""
    cap = Cap()
    for _ in range(200):
        entries_ = cap.entries(10, 1_000, 5_000, 4 * MIB)
    assert entries_ == 500
    for _ in range(200):
        entries_ = cap.entries(1, 100_000, 5_000, MIB)
    assert entries_ == 10


def test_returns_that_are_no_numbers_are_left_out() -> None:
    """NaN and the infinities enter neither the mean nor the best return."""
    agent = Agent("run", "a")
    for seq, value in enumerate([1.0, math.nan, math.inf, None, 3.0]):
        made = records.episode(record(Kind.EPISODES, seq=seq, episode_return=value), 10)
        agent.add_episode(made, 1)
    assert (list(agent.newest), agent.returns.best) == ([1.0, 3.0], 3.0)


def test_ids_in_keys() -> None:
    """Two different ids never give one key, whatever characters they hold and however long they are."""
    keys = Keys("p:")
    hostile = ["a", "a:b", "a%3Ab", "a b", "é" * 500, "é" * 501, "", "\n", "*", "\ud800"]
    made = {keys.agent(run, agent, "steps") for run in hostile for agent in hostile}
    assert len(made) == len(hostile) ** 2
    assert all(key.isascii() and key.count(":") == 4 and len(key) < 500 for key in made)


def test_the_delay_of_a_file_is_none() -> None:
    """The delay follows live steps; for steps of last week's file it is 0."""
    run = Run("run")
    for _ in range(50):
        run.delayed(20_000)
    assert run.latency_us == pytest.approx(20_000)
    run.delayed(7 * 24 * 3_600_000_000)
    assert run.latency_us == 0
    run.delayed(30_000)
    assert run.latency_us == 30_000
