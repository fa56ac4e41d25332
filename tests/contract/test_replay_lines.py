"""`replay RUN | ingest -` gives the same events: ingest reads the lines that replay prints unchanged."""

from __future__ import annotations

import base64
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.replay.lines import as_line
from producers.lines.context import Identity
from producers.lines.normalise import Event, Normaliser
from schemas import token_arrays
from schemas.codec import Decoder, Encoder
from schemas.topics import LINES, Kind

ENCODERS = {kind: Encoder(kind) for kind in LINES}
DECODERS = {kind: Decoder(kind) for kind in LINES}
OWN = ("stream_id", "seq", "producer_version")
ARRIVED = 1_800_000_000_000_000


def normaliser() -> Normaliser:
    """A normaliser of a stream without options."""
    return Normaliser(Identity(stream_id="s1", run_id="r1"))


def through_kafka(event: Event) -> tuple[Kind, dict[str, object]]:
    """The kind and the record that a consumer decodes from the event."""
    return event.kind, DECODERS[event.kind](ENCODERS[event.kind](event.record))


def both_times(lines: list[bytes]) -> tuple[list[object], list[object]]:
    """The events of some lines, and those of the lines that replay makes of them."""
    first, second = normaliser(), normaliser()
    before, after = [], []
    for seq, line in enumerate(lines, start=1):
        kind, record = through_kafka(first(line, seq, ARRIVED))
        again = as_line(kind, record)
        assert again is not None
        assert b"\n" not in again
        before.append((kind, {name: value for name, value in record.items() if name not in OWN}))
        kind, record = through_kafka(second(again, seq, ARRIVED))
        after.append((kind, {name: value for name, value in record.items() if name not in OWN}))
    return before, after


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"step","ts":"2025-10-20T10:11:12.345+00:00","run_id":"demo-001","episode":3,"step":7,"action":2,'
        '"reward":0.0,"terminated":false,"state":14,"observation":{"row":3},"q_before":0.11,"epsilon":0.31}',
        '{"event":"run_started","payload":{"algo":"ppo","env_id":"CartPole-v1"},"timestamp":1704067200.123}',
        '{"type":"episode_done","episode_index":4,"total_reward":0.93,"num_steps":31,"success":true}',
        '{"type":"step","step":1,"reward":NaN,"loss":NaN,"epsilon":-Infinity,"info":{"x":NaN}}',
        '{"type":"step","step":1,"reward":1,"metrics":{"a":1,"b":{"c":2}},"extras":{"type":"mine"}}',
        '{"type":"my_step","time_step":4,"reward":"1.5","worker_id":"w3","player_id":"black"}',
        '{"step":1,"reward":1,"observation":null,"action":null,"info":null}',
        '{"step":100,"train/loss":0.3,"nested":{"deep":{"x":NaN}},"names":["a"],"kind":"progress"}',
        '{"type":"progress","global_step":5,"reward":2.0}',
        '{"type":"pong","n":3,"payload":{"n":4}}',
        '{"type":"run_started","timestamp":[],"":null,"payload":{"":false}}',
        '{"type":"heartbeat"}',
        '{"timestamp":1000,"loss":1}',
        '{"ts":"soon","timestamp":{"a":1},"loss":1}',
        '{"ts":"2025-10-20T10:11:12.345Z","timestamp":1000,"ts_unix_ns":"soon","loss":1}',
        '{"type":"heartbeat","ts":1000,"timestamp":"soon"}',
        '{"ts":1000,"timestamp":"2025-10-20T10:11:12.345Z","loss":1}',
        '{"episode":0,"step":3,"obs":[1],"reward":true,"done":false}',
        '{"type":"run_completed","status":"skipped","payload":{"why":"x","status":"y"}}',
        '{"t_start":1.5,"env_id":"Pong-v5"}',
        '{"type":"ready","config":{"agent_id":"a7"}}',
        '{"type":"step","step":18446744073709551616,"reward":1}',
        '{"type":"step","step":1,"text":"\\ud800","reward":1}',
        '{"type":"episode","r":1,"l":2,"t":0.5,"elapsed":9,"seed":"none"}',
        '{"type":"st',
        "{}",
        '{"type":"step","reward":"much"}',
        "Traceback (most recent call last):",
        "",
        "  50%|#####     | 5/10",
    ],
)
def test_a_line_is_the_same_event_again(line: str) -> None:
    """A line of each dialect becomes the same event when replay prints it and it is read again."""
    before, after = both_times([line.encode("utf-8", "surrogatepass")])
    assert repr(after) == repr(before)  # NaN equals no NaN, but prints alike


def test_json_that_came_in_a_string_stays_on_one_line() -> None:
    """In JSON that came in a string, replay replaces line ends by blanks, so the line stays one line."""
    line = json.dumps({"type": "step", "observation_json": '{\n "x": [1,\r\n 2]\n}'}).encode()
    before, after = both_times([line])
    assert "\\n" in repr(before)
    assert repr(before).replace("\\n", " ").replace("\\r", " ") == repr(after)


def beside(event: Event) -> dict[Kind, dict[str, object]]:
    """What stands beside a line, as a consumer decodes it, without its turns."""
    return {
        kind: Decoder(kind)(Encoder(kind)(record)) for kind, record in event.beside if kind is not Kind.STEPS
    }


TOKENS = base64.b64encode(token_arrays.pack({"token_ids": [1, 2], "logprobs": [-0.5, math.nan]})).decode()
ROLLOUT = (
    '{"type":"rollout","watch_at":["f",1,1,1,0],"run_id":"r1","ts":1.8e9,"episode_index":3,"turns_before":0,'
    '"group_id":"g","sample_id":"0","attempt":2,"rewards":{"right":{"value":"NaN","weight":0.5}},"status":"truncated",'
    '"format":"verl","source":"1.jsonl:4","sample_key":"k","scope":"1.jsonl","generation":2,"precedence":1,'
    '"reward":0.5,"training_step":7,"metrics":{"a":1.5},"extras":{"x":"y"},"scored":[[0.5]],%s'
    r'"messages":[{"role":"user","content":"na\u00efve\n\u2028"},{"role":"assistant","content":"<b>42</b>"}]}'
)


@pytest.mark.parametrize(
    "line",
    [
        ROLLOUT % "",
        ROLLOUT % f'"tokens":"{TOKENS}","advantage":"Infinity","policy_start":"12",',
        '{"type":"episode","episode_return":1,"rollout":{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}}',
        f'{{"type":"tokens","training_step":3,"sample_id":"s","masked":1,"tokens":"{TOKENS}","other":{{"a":[1]}}}}',
    ],
)
def test_a_rollout_stands_beside_its_line_again(line: str) -> None:
    """What replay prints of a rollout or of tokens becomes the same event with the same records."""
    event = Normaliser(Identity(stream_id="s1", run_id="r1", sdk=True))(line.encode(), 5, ARRIVED)
    kind, record = through_kafka(event)
    assert beside(event)
    printed = as_line(kind, record, beside(event))
    assert printed is not None
    again = normaliser()(printed, 5, ARRIVED)
    assert repr(through_kafka(again)) == repr((kind, record))
    assert repr(beside(again)) == repr(beside(event))


@pytest.mark.parametrize(
    "beside", ['{"rollouts":{"status":"odd"}}', '{"rollouts":{"generation":"x"}}', '{"tokens":{}}']
)
def test_what_cannot_stand_beside_a_line_is_a_dead_letter(beside: str) -> None:
    """A line with a rollout or tokens that no table holds is a dead letter; any other field stays."""
    line = f'{{"type":"episode","stepstream_beside":{beside}}}'.encode()
    assert normaliser()(line, 1, ARRIVED).kind is Kind.DLQ
    kept = normaliser()(b'{"type":"episode","stepstream_beside":{"mine":1}}', 1, ARRIVED)
    assert (kept.kind, kept.record["extras"]) == (Kind.EPISODES, '{"stepstream_beside":{"mine":1}}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([
    "type", "event", "step", "episode", "reward", "observation", "action", "info", "metrics", "extras",
    "payload", "r", "l", "t", "status", "agent_id", "run_id", "worker_id", "ts", "loss", "global_step",
    "done", "seed", "obs", "state", "terminated", "success", "timestamp",
])  # fmt: skip
IDENTITY = {"run_id", "agent_id", "worker_id", "ts", "timestamp", "global_step"}


def names_nobody(fields: dict[str, object]) -> bool:
    """Whether an identity field is null or empty: replay then writes the value that was found instead."""
    return any(name in IDENTITY and value in (None, "") for name, value in fields.items())


FIELDS = st.dictionaries(NAMES | st.text(max_size=4), JSON, max_size=8).filter(lambda f: not names_nobody(f))


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(FIELDS, st.sampled_from(["step", "episode", "run_started", ""]))
def test_any_line_is_the_same_event_again(fields: dict[str, object], kind: str) -> None:
    """A line with any names and values becomes the same event when replay prints it again."""
    line = json.dumps({"type": kind} | fields if kind else fields).encode()
    before, after = both_times([line])
    assert repr(after) == repr(before)
