"""Each row of the dialects that RL workers print has a case here; samples of real workers are read, too."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from producers.lines.context import Context, Identity
from producers.lines.normalise import Event, Normaliser
from schemas.codec import Decoder, Encoder
from schemas.topics import Kind

ARRIVED = 1_795_000_000_000_000
STREAM = "01K0000000000000000000TEST"
SAMPLES = Path(__file__).parent / "samples"


def normaliser(agent_id: str | None = None, run_id: str = "fallback", **context: Any) -> Normaliser:
    """A normaliser of one stream."""
    return Normaliser(Identity(STREAM, run_id, agent_id), Context(**context))


def read(*lines: str | bytes | dict[str, Any], **options: Any) -> Event:
    """The event of the last of these lines."""
    normalise = normaliser(**options)
    for seq, line in enumerate(lines, 1):
        text = json.dumps(line) if isinstance(line, dict) else line
        event = normalise(text.encode() if isinstance(text, str) else text, seq, ARRIVED)
        assert Encoder(event.kind)(event.record), "every record fits its schema"
        assert Decoder(event.kind)(Encoder(event.kind)(event.record)).keys() == event.record.keys()
    return event


def columns(event: Event) -> dict[str, Any]:
    """The record with its JSON columns parsed."""
    parsed = {"observation", "action", "info", "metrics", "extras", "payload"}
    return {
        name: json.loads(value) if name in parsed and value is not None else value
        for name, value in event.record.items()
    }


STEP = {"type": "step", "step_index": 1}
EPISODE = {"type": "episode", "episode_index": 1}

CASES: dict[str, tuple[Any, Kind, dict[str, Any]]] = {
    # kind
    "type": ({"type": "step", "reward": 1}, Kind.STEPS, {"reward": 1.0, "extras": None}),
    "event_type": ({"event_type": "step", "reward": 1}, Kind.STEPS, {"reward": 1.0, "extras": None}),
    "letter case": ({"type": "Episode_DONE", "reward": 1}, Kind.EPISODES, {"episode_return": 1.0}),
    "event and payload": (
        {
            "event": "run_started",
            "payload": {"algo": "ppo", "env_id": "CartPole-v1", "seed": 42, "worker_type": "cleanrl"},
            "run_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "timestamp": 1704067200.123,
        },
        Kind.RUNS,
        {
            "event": "run_started",
            "run_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "event_time": 1_704_067_200_123_000,
            "payload": {"algo": "ppo", "env_id": "CartPole-v1", "seed": 42, "worker_type": "cleanrl"},
        },
    ),
    "known kind wins over an unknown": (
        {"type": "telemetry", "event": "step", "reward": 1},
        Kind.STEPS,
        {"extras": {"type": "telemetry"}},
    ),
    **{
        f"episode kind {kind}": ({"type": kind, "reward": 2.5}, Kind.EPISODES, {"episode_return": 2.5})
        for kind in ("episode", "episode_done", "episode_end")
    },
    **{
        f"life cycle {kind}": (
            {"type": kind, "note": "x"},
            Kind.RUNS,
            {"event": kind, "payload": {"note": "x"}},
        )
        for kind in (
            "run_started",
            "run_completed",
            "run_failed",
            "run_cancelled",
            "heartbeat",
            "checkpoint_saved",
            "checkpoint_loaded",
            "artifact",
            "error",
        )
    },
    "run_completed with its status": (
        {"type": "run_completed", "status": "failed"},
        Kind.RUNS,
        {"event": "run_completed", "payload": {"status": "failed"}},
    ),
    **{
        f"chatter {kind}": (
            {"type": kind, "n": 1},
            Kind.RUNS,
            {"event": "other", "payload": {"type": kind, "n": 1}},
        )
        for kind in ("init", "ready", "pong", "stopped", "agent_ready", "action_selected")
    },
    # no kind, or one of the worker's own
    "step number and reward": (
        {"type": "mine", "step_index": 3, "reward": 1.5},
        Kind.STEPS,
        {"step_index": 3, "reward": 1.5, "extras": {"type": "mine"}},
    ),
    "time_step and reward": ({"time_step": 3, "reward": 1.5}, Kind.STEPS, {"step_index": 3}),
    **{
        f"a step of no kind {line}": (line, Kind.STEPS, {"reward": 0.5, **expected})
        for line, expected in (
            ({"episode": 0, "step": 3, "reward": 0.5, "done": False}, {"step_index": 3, "terminated": False}),
            ({"episode": 0, "step": 9, "reward": 0.5, "done": True}, {"step_index": 9, "terminated": True}),
            ({"episode": 0, "step": 9, "reward": 0.5, "done": 1.0}, {"terminated": True}),
            ({"episode": 0, "reward": 0.5, "terminated": 0, "truncated": "False"}, {"truncated": False}),
            (
                {"step": 1, "obs": [1], "reward": 0.5, "terminated": True, "truncated": False},
                {"observation": [1]},
            ),
            ({"obs": [1], "action": 0, "reward": 0.5}, {"observation": [1], "action": 0}),
            ({"state": [1], "next_state": [2], "reward": 0.5, "done": True}, {"observation": [1]}),
            ({"episode": 2, "obs": {"a": 1}, "reward": 0.5}, {"episode_index": 2, "observation": {"a": 1}}),
            ({"reward": 0.5, "done": True}, {"episode_index": None}),
            (
                {"episode": 2, "step": 5, "reward": 0.5, "done": False, "length": 6},
                {"metrics": {"length": 6}},
            ),
        )
    },
    "a return of an episode that goes on": (
        {"episode": 1, "total_reward": 3, "done": False},
        Kind.METRICS,
        {"metrics": {"episode": 1, "total_reward": 3}},
    ),
    "an episode of no kind that ended": (
        {"episode": 4, "reward": 3, "length": 9, "terminated": True, "truncated": False, "step": 100},
        Kind.EPISODES,
        {"episode_return": 3.0, "terminated": True, "metrics": {"step": 100}},
    ),
    "an episode of no kind that ended, without a length": (
        {"episode": 4, "reward": 3, "done": True},
        Kind.EPISODES,
        {"episode_return": 3.0, "terminated": True},
    ),
    "a reward of a trainer": (
        {"output": "4", "score": 1.0, "step": 5, "reward": 1.0, "acc": "True", "state": "running"},
        Kind.METRICS,
        {"global_step": 5},
    ),
    "r and l": (
        {"r": -200.0, "l": 200, "t": 0.5},
        Kind.EPISODES,
        {"episode_return": -200.0, "episode_length": 200},
    ),
    "return and length": (
        {"total_reward": 3, "num_steps": 7},
        Kind.EPISODES,
        {"episode_return": 3.0, "episode_length": 7},
    ),
    "reward is a return here": ({"reward": 3, "steps": 7}, Kind.EPISODES, {"episode_return": 3.0}),
    "episode number and return": ({"episode": 4, "reward": 3}, Kind.EPISODES, {"episode_index": 4}),
    "a Monitor's header": (
        {"t_start": 1795489278.8, "env_id": "MountainCar-v0"},
        Kind.RUNS,
        {"event": "run_started", "payload": {"t_start": 1795489278.8, "env_id": "MountainCar-v0"}},
    ),
    "numbers": (
        {"step": 100, "train/loss": 0.3},
        Kind.METRICS,
        {"global_step": 100, "metrics": {"train/loss": 0.3}, "extras": None},
    ),
    "nested numbers": (
        {"info": {"learner": {"loss": 0.1, "name": "x"}}, "hist": [1, 2], "timesteps_total": 5, "ok": True},
        Kind.METRICS,
        {
            "global_step": 5,
            "metrics": {"info/learner/loss": 0.1},
            "extras": {"info/learner/name": "x", "hist": [1, 2], "ok": True},
        },
    ),
    "a kind of its own with numbers": (
        {"type": "eval", "score": 3},
        Kind.METRICS,
        {"metrics": {"score": 3}, "extras": {"type": "eval"}},
    ),
    "a global step at the end of a path": (
        {"time/total_timesteps": 64, "fps": 3},
        Kind.METRICS,
        {"global_step": 64},
    ),
    "a kind without numbers": (
        {"type": "hello_world", "text": "x"},
        Kind.RUNS,
        {"event": "other", "payload": {"type": "hello_world", "text": "x"}},
    ),
    "neither kind nor number": ({"text": "x"}, Kind.DLQ, {"reason": "unknown"}),
    "nothing at all": ("{}", Kind.DLQ, {"reason": "empty"}),
    "a SampleBatch": (
        {"type": "SampleBatch", "obs": [[1], [2]], "actions": [0, 1], "rewards": [1, 1]},
        Kind.DLQ,
        {"reason": "batch"},
    ),
    "a MultiAgentBatch": (
        {"type": "MultiAgentBatch", "count": 2, "policy_batches": {}},
        Kind.DLQ,
        {"reason": "batch"},
    ),
    "a batch of no kind": ({"obs": "BCJNG…", "rewards": [1, 1], "t": [0, 1]}, Kind.DLQ, {"reason": "batch"}),
    # episode number
    "episode_index before episode": (
        EPISODE | {"episode": 6},
        Kind.EPISODES,
        {"episode_index": 1, "metrics": {"episode": 6}},
    ),
    "episode": (STEP | {"episode": 6}, Kind.STEPS, {"episode_index": 6, "metrics": None}),
    "tail of an episode_id": (
        STEP | {"episode_id": "run-w0-ep000004"},
        Kind.STEPS,
        {"episode_index": 4, "worker_id": "w0", "extras": {"episode_id": "run-w0-ep000004"}},
    ),
    "metadata is right": (
        {"type": "episode", "episode": 9, "metadata": {"episode_index": 2}},
        Kind.EPISODES,
        {"episode_index": 2, "metrics": {"episode": 9}},
    ),
    "metadata_json is right": (
        {"type": "episode", "episode": 9, "metadata_json": '{"episode_index": 2, "seed": 7}'},
        Kind.EPISODES,
        {"episode_index": 2, "extras": {"metadata": {"episode_index": 2, "seed": 7}}},
    ),
    "no episode number": (STEP, Kind.STEPS, {"episode_index": None, "reward": None}),
    # step number
    "step_index before step": (
        STEP | {"step": 5, "time_step": 6},
        Kind.STEPS,
        {"step_index": 1, "metrics": {"step": 5, "time_step": 6}},
    ),
    "step before time_step": ({"type": "step", "step": 5, "time_step": 6}, Kind.STEPS, {"step_index": 5}),
    # time
    "ISO with zone": (
        STEP | {"ts": "2025-10-20T12:11:12.345+02:00"},
        Kind.STEPS,
        {"event_time": 1760955072345000},
    ),
    "ISO with Z": (
        STEP | {"timestamp": "2025-10-20T10:11:12.345Z"},
        Kind.STEPS,
        {"event_time": 1760955072345000},
    ),
    "ISO without zone is UTC": (
        STEP | {"ts": "2025-10-20T10:11:12.345"},
        Kind.STEPS,
        {"event_time": 1760955072345000},
    ),
    "seconds": (STEP | {"ts": 1704067200.123}, Kind.STEPS, {"event_time": 1704067200123000}),
    "seconds, whole": (STEP | {"timestamp": 1704067200}, Kind.STEPS, {"event_time": 1704067200000000}),
    "seconds, a string": (STEP | {"ts": "1704067200.123"}, Kind.STEPS, {"event_time": 1704067200123000}),
    "nanoseconds": (STEP | {"ts_unix_ns": 1795488952359781377}, Kind.STEPS, {"event_time": 1795488952359781}),
    "nanoseconds, a string": (
        STEP | {"ts_unix_ns": "1795488952359781377"},
        Kind.STEPS,
        {"event_time": 1795488952359781},
    ),
    "no time": (STEP, Kind.STEPS, {"event_time": ARRIVED}),
    "no such time": (
        STEP | {"ts": "yesterday"},
        Kind.STEPS,
        {"event_time": ARRIVED, "extras": {"ts": "yesterday"}},
    ),
    "a counter is no time": (
        STEP | {"ts": 1000},
        Kind.STEPS,
        {"event_time": ARRIVED, "extras": {"ts": 1000}},
    ),
    "the next time is read": (
        STEP | {"ts": 1000, "timestamp": "2025-10-20T10:11:12.345Z"},
        Kind.STEPS,
        {"event_time": 1760955072345000, "extras": {"ts": 1000}},
    ),
    "no such time of an event": (
        {"type": "heartbeat", "ts": 7},
        Kind.RUNS,
        {"event_time": ARRIVED, "payload": {"ts": 7}},
    ),
    **{
        f"the time {text}": (STEP | {"ts": text}, Kind.STEPS, {"event_time": 1_764_403_200_000_000 + more})
        for text, more in {
            "2025-11-29 08:00:00 +0000 UTC": 0,
            "2025-11-29 08:00:00.5 +0000 UTC m=+0.012345": 500_000,
            "2025-11-29 13:30:00.123456789 +0530 IST": 123_456,
            "2025-11-29T08:00:00 UTC": 0,
            "2025-11-29T08:00:00z": 0,
            "2025-11-29T03:00:00-05:00[America/New_York]": 0,
            "2025-11-28T24:00:00Z": -28_800_000_000,
            "2025-11-29T07:59:60Z": 0,
            "2025/11/29 08:00:00": 0,
            "2025-11-29 08:00:00,250": 250_000,
            "20251129_080000": 0,
            "Sat Nov 29 08:00:00 2025": 0,
            "Sat Nov 29 08:00:00 UTC 2025": 0,
            "Sat, 29 Nov 2025 09:00:00 +0100": 0,
            "1764403200": 0,
            "1764403200123": 123_000,
        }.items()
    },
    **{
        f"no time {text}": (
            STEP | {"timestamp": text},
            Kind.STEPS,
            {"event_time": ARRIVED, "extras": {"timestamp": text}},
        )
        for text in (
            "12:30:45",
            "0:00:12",
            0,
            -1,
            0.53,
            128,
            20251129,
            1e300,
            True,
            [1],
            {"$date": 5},
            "Infinity",
            "0001-01-01T00:00:00Z",
            "Sat Nov 29 08:00:00 CET 2025",
            "Nov 29, 2025 8:00:00 PM",
        )
    },
    # return and length
    **{
        f"return {name}": (EPISODE | {name: 1.5}, Kind.EPISODES, {"episode_return": 1.5, "metrics": None})
        for name in ("total_reward", "episode_return", "return", "reward", "r")
    },
    **{
        f"length {name}": (EPISODE | {name: 5}, Kind.EPISODES, {"episode_length": 5, "metrics": None})
        for name in ("steps", "num_steps", "length", "episode_steps", "episode_length", "l")
    },
    "not told how it ended": (EPISODE, Kind.EPISODES, {"terminated": None, "truncated": None}),
    # action
    "action, a number": (STEP | {"action": 2}, Kind.STEPS, {"action": 2}),
    "action, a string": (STEP | {"action": "e2e4"}, Kind.STEPS, {"action": "e2e4"}),
    "action, a vector": (STEP | {"action": [0.1, -1]}, Kind.STEPS, {"action": [0.1, -1]}),
    "action, a map": (STEP | {"action": {"a": 1}}, Kind.STEPS, {"action": {"a": 1}}),
    # duration
    "duration_seconds": (
        EPISODE | {"duration_seconds": 1.8},
        Kind.EPISODES,
        {"duration": 1.8, "elapsed": None},
    ),
    "Gymnasium's t": (EPISODE | {"t": 1.8}, Kind.EPISODES, {"duration": 1.8, "elapsed": None}),
    # JSON in JSON
    "JSON in JSON": (
        STEP
        | {
            "action_json": "[1, 2]",
            "observation_json": '{"a": 1.50}',
            "render_hint_json": '{"w": 1}',
            "metadata_json": '{"k": null}',
        },
        Kind.STEPS,
        {
            "action": [1, 2],
            "observation": {"a": 1.5},
            "extras": {"render_hint": {"w": 1}, "metadata": {"k": None}},
        },
    ),
    "JSON in JSON that is none": (STEP | {"action_json": "up"}, Kind.STEPS, {"action": "up"}),
    # pictures
    "grid": (
        STEP | {"render_payload": {"mode": "grid", "grid": [["S", "F"]]}},
        Kind.STEPS,
        {"extras": {"render_payload": {"mode": "grid", "grid": [["S", "F"]]}}},
    ),
    "frame_ref stays text": (STEP | {"frame_ref": "a.png"}, Kind.STEPS, {"extras": {"frame_ref": "a.png"}}),
    # done
    "done": (STEP | {"done": True}, Kind.STEPS, {"terminated": True, "truncated": None, "extras": None}),
    "not done": (STEP | {"done": False}, Kind.STEPS, {"terminated": False, "truncated": None}),
    "done by the time limit": (
        STEP | {"done": True, "info": {"TimeLimit.truncated": True}},
        Kind.STEPS,
        {"terminated": False, "truncated": True, "info": {"TimeLimit.truncated": True}},
    ),
    "done by the time limit, told beside": (
        STEP | {"done": True, "TimeLimit.truncated": True},
        Kind.STEPS,
        {"terminated": False, "truncated": True},
    ),
    "done, not by the time limit": (
        STEP | {"done": True, "TimeLimit.truncated": False},
        Kind.STEPS,
        {"terminated": True, "truncated": False},
    ),
    "done beside terminated": (
        STEP | {"done": True, "terminated": False},
        Kind.STEPS,
        {"terminated": False, "extras": {"done": True}},
    ),
    # rewards that are no numbers
    "reward null": (STEP | {"reward": None}, Kind.STEPS, {"reward": None, "extras": None}),
    "reward a string": (STEP | {"reward": "1.0"}, Kind.STEPS, {"reward": 1.0}),
    "reward nested": (STEP | {"reward": [[1.0]]}, Kind.STEPS, {"reward": 1.0}),
    "reward Infinity": (
        '{"type":"step","reward":Infinity}',
        Kind.STEPS,
        {"reward": math.inf, "extras": None},
    ),
    "reward -Infinity": ('{"type":"step","reward":-Infinity}', Kind.STEPS, {"reward": -math.inf}),
    "reward much": (STEP | {"reward": "much"}, Kind.DLQ, {"reason": "bad_value", "field": "reward"}),
    "reward true": (STEP | {"reward": True}, Kind.STEPS, {"reward": 1.0, "extras": None}),
    "reward false": (STEP | {"reward": [False]}, Kind.STEPS, {"reward": 0.0}),
    "reward two": (STEP | {"reward": [1, 2]}, Kind.DLQ, {"reason": "bad_value", "field": "reward"}),
    "reward a map": (STEP | {"reward": {"a": 1}}, Kind.DLQ, {"reason": "bad_value", "field": "reward"}),
    # what is kept
    "numbers to metrics, the rest to extras": (
        STEP | {"epsilon": 0.5, "flag": True, "name": "x", "none": None, "list": [1], "map": {"a": 1}},
        Kind.STEPS,
        {
            "metrics": {"epsilon": 0.5},
            "extras": {"flag": True, "name": "x", "none": None, "list": [1], "map": {"a": 1}},
        },
    ),
    "a bool is no number": ({"flag": True}, Kind.DLQ, {"reason": "unknown"}),
    "success of an episode": (
        EPISODE | {"success": True, "is_success": False, "solved": True},
        Kind.EPISODES,
        {"metrics": {"success": 1, "is_success": 0}, "extras": {"solved": True}},
    ),
    "a seed of 128 bits": (
        EPISODE | {"seed": 2**127},
        Kind.EPISODES,
        {"seed": None, "extras": {"seed": 2**127}},
    ),
    **{
        f"{name} of 301 characters": (
            STEP | {name: "x" * 301},
            Kind.DLQ,
            {"reason": "bad_value", "field": name, "run_id": "fallback", "stream_id": STREAM, "seq": 1},
        )
        for name in ("run_id", "agent_id", "agent", "player_id", "worker_id")
    },
    "a run_id of 300 characters": (STEP | {"run_id": "x" * 300}, Kind.STEPS, {"run_id": "x" * 300}),
    "NUL and half a surrogate pair in a name": (
        '{"loss":1,"a\\u0000\\ud800":2}',
        Kind.METRICS,
        {"metrics": {"loss": 1, "a\ufffd\ufffd": 2}},
    ),
    # log lines
    "a stray print": ("Episode 3 done", Kind.LOGS, {"source": "stdout", "line": "Episode 3 done"}),
    "a blank line": ("", Kind.LOGS, {"line": ""}),
    "a list": ("[1, 2]", Kind.LOGS, {"line": "[1, 2]"}),
    "a number": ("3", Kind.LOGS, {"line": "3"}),
    "no UTF-8 in a log line": (b"caf\xe9", Kind.LOGS, {"line": "caf\ufffd"}),
    "NUL in a log line": ("a\0b", Kind.LOGS, {"line": "a\ufffdb"}),
    "a carriage return": ("text\r", Kind.LOGS, {"line": "text"}),
    # broken
    "cut off": ('{"type":"step","rew', Kind.DLQ, {"reason": "broken_json", "raw": b'{"type":"step","rew'}),
    "more behind it": ('{"type":"step"} {"type":"step"}', Kind.DLQ, {"reason": "broken_json"}),
    "no UTF-8": (b'{"type":"step","name":"\xff"}', Kind.DLQ, {"reason": "not_utf8"}),
    "nested too deep": ('{"a":' + "[" * 100_000, Kind.DLQ, {"reason": "broken_json"}),
    # what does not matter
    "a BOM": (b'\xef\xbb\xbf{"type":"step","reward":1}', Kind.STEPS, {"reward": 1.0}),
    "blanks and a carriage return": (b'  \t{"type":"step","reward":1}  \r', Kind.STEPS, {"reward": 1.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_line_becomes_what_the_table_says(name: str) -> None:
    """Each line of the table `CASES` becomes the kind and the columns that its row gives."""
    line, kind, expected = CASES[name]
    event = read(line)
    assert event.kind is kind
    found = columns(event)
    assert {key: found[key] for key in expected} == expected


def test_the_last_step_of_an_episode_is_one_as_those_before_it() -> None:
    """After a step of the same shape a line with `done` is a step; with a length it is an episode."""
    names = {"episode": 0, "reward": 0.5}
    assert read(names | {"done": False}, names | {"done": True}).kind is Kind.STEPS
    assert read(names | {"done": False}, names | {"done": True, "length": 5}).kind is Kind.EPISODES


def test_where_broken_json_breaks_is_said_once() -> None:
    """The message about broken JSON has "at" once, although Python's own message ends in "at"."""
    message = read('{"type":"step","action":"abc}').record["message"]
    assert message == "The line is no JSON object: Unterminated string starting at character 25."


def test_nan_is_kept_as_a_double_and_noted_for_databases_that_have_none() -> None:
    """A reward of NaN stays a NaN, and `extras` says "NaN" under the field's name."""
    found = columns(
        read('{"type":"step","reward":NaN,"loss":NaN,"observation":[NaN,1.0,"NaN"],"x":-Infinity}')
    )
    assert math.isnan(found["reward"])
    assert found["extras"] == {"reward": "NaN"}
    assert found["metrics"] == {"loss": "NaN", "x": "-Infinity"}
    assert found["observation"] == ["NaN", 1.0, "NaN"]


def test_json_columns_hold_the_workers_own_text() -> None:
    """JSON columns keep the worker's digits, spaces and escapes, also beside a NaN in the line."""
    for beside in ("1.0", "NaN"):
        line = '{"type":"step","reward":%s,"big":36893488147419103232,'
        line += '"observation":{"a" : 1.500, "b":"\\u0000\\ud800"}}'
        record = read(line % beside).record
        assert record["observation"] == '{"a" : 1.500, "b":"\\u0000\\ud800"}'
        assert record["metrics"] == '{"big":36893488147419103232}'


def test_text_columns_hold_no_nul_and_no_surrogate() -> None:
    """In text columns a NUL and a lone surrogate become U+FFFD."""
    record = read('{"type":"step","run_id":"a\\u0000b","agent_id":"c\\ud800d"}').record
    assert record["run_id"] == "a\ufffdb"
    assert record["agent_id"] == "c\ufffdd"


def test_of_a_name_that_occurs_twice_the_last_counts() -> None:
    """Where a line has a name twice, the last value counts."""
    assert read('{"type":"step","reward":1,"reward":2}').record["reward"] == 2.0


def test_action_null_is_kept_as_json() -> None:
    """An action that the worker gives as null is stored as JSON null; a missing action is NULL."""
    assert read('{"type":"step","action":null}').record["action"] == "null"
    assert read('{"type":"step"}').record["action"] is None


def test_whole_numbers_of_more_than_64_bits_are_kept() -> None:
    """A whole number of more than 64 bits fits no column, so `extras` keeps it."""
    found = columns(
        read('{"type":"step","step_index":9223372036854775808,"episode_index":9223372036854775807}')
    )
    assert found["step_index"] is None
    assert found["episode_index"] == 2**63 - 1
    assert found["extras"] == {"step_index": 2**63}


def test_t_after_a_monitors_header_is_the_time_since_it_began() -> None:
    """After a Monitor's header `t` is the time since the Monitor began, so it is stored as `elapsed`."""
    header = {"t_start": 1795489278.8, "env_id": "MountainCar-v0"}
    found = read(header, {"r": 1.0, "l": 2, "t": 5.5}).record
    assert (found["duration"], found["elapsed"]) == (None, 5.5)


@pytest.mark.parametrize(
    ("lines", "run_id"),
    [
        (['{"a":1}'], "fallback"),
        (['{"a":1,"run_id":"r1"}'], "r1"),
        (['{"a":1,"run_id":"r1"}', '{"a":1}'], "r1"),
        (['{"a":1,"run_id":"r1"}', '{"a":1,"run_id":"r2"}', "a print"], "r2"),
        (['{"event":"run_started","payload":{"run_id":"r3"}}', "a print"], "r3"),
        (['{"a":1,"run_id":7}'], "7"),
        (['{"a":1,"run_id":null}'], "fallback"),
        (['{"a":1,"run_id":"r1"}', "{broken"], "r1"),
    ],
)
def test_a_line_without_a_run_belongs_to_the_one_named_last(lines: list[str], run_id: str) -> None:
    """A line belongs to its own run, else to the run that was named last, else to the fallback."""
    assert read(*lines).record["run_id"] == run_id


@pytest.mark.parametrize(
    ("lines", "option", "agent_id"),
    [
        (['{"a":1}'], None, "default"),
        (['{"a":1,"agent_id":"x"}'], "opt", "x"),
        (['{"a":1,"agent":"x"}'], None, "x"),
        (['{"a":1,"player_id":2}'], None, "2"),
        (['{"a":1}'], "opt", "opt"),
        (['{"type":"run_started","config":{"agent_id":"c"}}', '{"a":1}'], None, "c"),
        (['{"type":"ready","agent_id":"c"}', "a print"], None, "c"),
        (['{"event":"run_started","payload":{"agent_id":"c"}}', '{"a":1}'], None, "c"),
        (['{"type":"run_started","config":{"agent_id":"c"}}', '{"a":1}'], "opt", "opt"),
        (['{"type":"step","agent_id":"x"}', '{"a":1}'], None, "default"),
    ],
)
def test_whose_a_line_is(lines: list[str], option: str | None, agent_id: str) -> None:
    """A line's agent is its own, else the option's, else that of run_started or ready, else `default`."""
    assert read(*lines, agent_id=option).record["agent_id"] == agent_id


def rgb(width: int = 4, height: int = 2) -> list[list[list[int]]]:
    """A picture as a worker prints it."""
    return [[[x, y, 7] for x in range(width)] for y in range(height)]


@pytest.mark.parametrize("mode", ["rgb", "rgb_array"])
def test_a_picture_of_pixels_is_taken_out_of_the_step(mode: str) -> None:
    """The pixels of a picture are taken out of the step; their width and height stay in `extras`."""
    event = read(STEP | {"render_payload": {"mode": mode, "rgb": rgb(), "width": 4, "height": 2}})
    assert event.picture is not None
    assert columns(event)["extras"] == {"render_payload": {"mode": mode, "width": 4, "height": 2}}


def test_ansi_text_is_a_picture() -> None:
    """A `render_payload` of ANSI text becomes a picture whose data is that text."""
    event = read(STEP | {"render_payload": {"mode": "ansi", "text": "\x1b[41mF\x1b[0m"}})
    assert event.picture is not None
    assert event.picture.data == "\x1b[41mF\x1b[0m"


COUNTS = {
    "q-learning_frozenlake_grid.jsonl.gz": {"steps": 1167, "episodes": 150, "runs": 3},
    "random_minigrid_rgb.jsonl.gz": {"steps": 12, "runs": 8},
    "minigrid_mixed_with_log.log.gz": {"steps": 8, "runs": 3, "logs": 360},
    "monitor_mountaincar.json": {"episodes": 12, "runs": 1},
    "ppo_cartpole_progress.json": {"metrics": 126},
}


@pytest.mark.parametrize("name", COUNTS)
def test_streams_of_real_workers(name: str) -> None:
    """Each line of a real worker becomes a record that can be encoded; none is a dead letter."""
    content = (SAMPLES / name).read_bytes()
    content = gzip.decompress(content) if name.endswith(".gz") else content
    lines = content.removesuffix(b"\n").split(b"\n")
    normalise = normaliser()
    events = [normalise(line, seq, ARRIVED) for seq, line in enumerate(lines, 1)]
    assert Counter(event.kind.value for event in events) == COUNTS[name]
    for event in events:
        Encoder(event.kind)(event.record)
