"""Any JSON value in any field gives an event or a dead letter, never an exception; nothing is lost."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.lines.context import Context, Identity
from producers.lines.dialects import CHATTER, GLOBAL_STEP, KINDS, LENGTH, RETURN
from producers.lines.fields import IN_JSON
from producers.lines.normalise import AGENT_NAMES, Normaliser
from schemas.codec import Decoder, Encoder
from schemas.topics import Kind

ENCODERS = {kind: Encoder(kind) for kind in Kind}
DECODERS = {kind: Decoder(kind) for kind in Kind}

NAMES = sorted(
    {
        *RETURN,
        *LENGTH,
        *GLOBAL_STEP,
        *AGENT_NAMES,
        *IN_JSON,
        "type",
        "event_type",
        "event",
        "payload",
        "ts",
        "timestamp",
        "ts_unix_ns",
        "run_id",
        "worker_id",
        "episode_index",
        "episode",
        "episode_id",
        "step_index",
        "time_step",
        "observation",
        "action",
        "reward",
        "terminated",
        "truncated",
        "done",
        "info",
        "seed",
        "duration",
        "duration_seconds",
        "elapsed",
        "t",
        "t_start",
        "env_id",
        "metadata",
        "metrics",
        "extras",
        "render_payload",
        "rgb_b64",
        "frame_b64",
        "frame_thinned",
        "config",
        "source",
        "line",
        "obs",
        "rewards",
        "actions",
        "policy_batches",
        "loss",
        "TimeLimit.truncated",
    }
)

words = st.sampled_from(
    [
        *KINDS,
        *CHATTER,
        "SampleBatch",
        "2025-10-20T10:11:12Z",
        "1.0",
        "NaN",
        "much",
        "run-w0-ep000004",
        "",
        "\0",
        "\ud800",
    ]
)
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 1e308, 0.0, -0.0, 1704067200.5]),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5), words)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), inner, max_size=3),
    ),
    max_leaves=8,
)
names = st.one_of(st.sampled_from(NAMES), st.text(max_size=4))
objects = st.dictionaries(names, values, max_size=8)
events = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from([*KINDS, "log", "metrics", "mine"]),
    objects,
)


def line_of(fields: dict[str, Any]) -> bytes:
    """Return a line with these fields."""
    return json.dumps(fields).encode()  # escapes lone surrogates, prints NaN bare


def checked(normalise: Normaliser, line: bytes) -> tuple[Kind, dict[str, Any]]:
    """Return the record of a line, and assert that it fits its schema and holds valid JSON."""
    event = normalise(line, 1, 1_795_000_000_000_000)
    decoded = DECODERS[event.kind](ENCODERS[event.kind](event.record))
    assert decoded.keys() == event.record.keys()
    for name in ("observation", "action", "info", "metrics", "extras", "payload"):
        if event.record.get(name) is not None:
            json.loads(event.record[name], parse_constant=lambda word: 1 / 0)  # no bare NaN
    if event.kind is Kind.DLQ:
        assert event.record["reason"] in ("bad_value", "batch", "broken_json", "empty", "not_utf8", "unknown")
        assert event.record["message"]
    return event.kind, event.record


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(events, objects))
def test_any_value_in_any_field_gives_an_event_or_a_reason(fields: dict[str, Any]) -> None:
    """Any values give a record that fits its schema and holds valid JSON in its JSON columns."""
    for identity in (
        Identity("S", "r"),
        Identity("S", "r", "a", sdk=True),
        Identity("S.meta", "r"),
    ):
        checked(Normaliser(identity), line_of(fields))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"{", b'{"a":', b"\xef\xbb\xbf", b"  "]))
def test_any_bytes_give_an_event_or_a_reason(tail: bytes, head: bytes) -> None:
    """Any bytes that a worker prints give an event or a dead letter with its reason."""
    checked(Normaliser(Identity("S", "r")), (head + tail).replace(b"\n", b""))


@settings(max_examples=300, deadline=None)
@given(st.one_of(events, objects), st.one_of(events, objects), st.one_of(events, objects))
def test_a_context_that_was_kept_goes_on_in_the_same_way(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    """A restart with the kept context gives the same records as a process that went on."""
    whole = Normaliser(Identity("S", "r"))
    first, *others = (line_of(fields) for fields in (one, two, three))
    whole(first, 1, 5)
    kept = json.loads(json.dumps(whole.context.to_json()))
    resumed = Normaliser(Identity("S", "r"), Context.from_json(kept))
    for line in others:
        event, again = whole(line, 2, 6), resumed(line, 2, 6)
        assert ENCODERS[event.kind](event.record) == ENCODERS[again.kind](again.record)


TAKEN = {
    "type",
    "run_id",
    "agent_id",
    "worker_id",
    "ts",
    "timestamp",
    "reward",
    "episode_index",
    "step_index",
}
plain_names = st.from_regex(re.compile(r"[a-z]{8,12}"), fullmatch=True).filter(lambda name: name not in NAMES)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["step", "episode"]), st.dictionaries(plain_names, values, max_size=6))
def test_what_no_column_takes_is_in_metrics_or_extras(kind: str, fields: dict[str, Any]) -> None:
    """Fields without a column keep their names: numbers go to metrics, other values to extras."""
    _, record = checked(Normaliser(Identity("S", "r")), line_of({"type": kind, **fields}))
    metrics = json.loads(record["metrics"] or "{}")
    extras = json.loads(record["extras"] or "{}")
    assert {*metrics, *extras} == {*fields}
    for name, value in fields.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        assert name in (metrics if is_number else extras)
        if is_number and math.isfinite(value):
            assert metrics[name] == value


def test_the_sdks_metrics_stand_in_their_column() -> None:
    """Names below `metrics` are metrics, also if a field of a line has the same name."""
    normalise = Normaliser(Identity("S", "r", sdk=True))
    kind, record = checked(
        normalise, b'{"type":"metrics","step":5,"metrics":{"reward":1.5,"text":"x"},"loss":0.5}'
    )
    assert kind is Kind.METRICS
    assert record["global_step"] == 5
    assert json.loads(record["metrics"]) == {"reward": 1.5, "loss": 0.5}
    assert json.loads(record["extras"]) == {"text": "x"}


def test_stderr_in_our_own_stream_is_the_runs_log() -> None:
    """A log line of the meta stream is a log record with its source."""
    kind, record = checked(
        Normaliser(Identity("S.meta", "r")), b'{"event":"log","source":"stderr","line":"Traceback\\u0000"}'
    )
    assert kind is Kind.LOGS
    assert (record["source"], record["line"]) == ("stderr", "Traceback\ufffd")


def test_our_own_words_about_the_end_are_kept_as_they_are() -> None:
    """`stream_ended` is an event of kind `other` whose payload says how the run stands."""
    kind, record = checked(
        Normaliser(Identity("S.meta", "r")), b'{"event":"stream_ended","status":"lost","lines":3}'
    )
    assert (kind, record["event"]) == (Kind.RUNS, "other")
    assert json.loads(record["payload"]) == {"event": "stream_ended", "status": "lost", "lines": 3}


def test_an_episode_of_the_sdk_holds_a_rollout() -> None:
    """One line gives an episode and its rollout; a rollout without a sample's name gets its own key."""
    line = b'{"type":"episode","run_id":"r","episode_index":4,"episode_return":1.5,"episode_length":2,'
    line += b'"rollout":{"training_step":7,"rewards":{"a":{"value":1.5,"weight":null}},"messages":[]}}'
    event = Normaliser(Identity("S", "r", sdk=True))(line, 9, 1)
    assert event.kind is Kind.EPISODES
    ((kind, rollout),) = event.beside
    assert kind is Kind.ROLLOUTS
    names = ("seq", "episode_index", "reward", "turns", "training_step", "group_id", "sample_key")
    assert [rollout[name] for name in names] == [9, 4, 1.5, 2, 7, "4", "S:9"]
    assert event.record["extras"] is None


def test_messages_of_the_sdk_have_the_form_of_those_of_files() -> None:
    """Messages have one form: content as text, reasoning apart, tool calls by name and arguments."""
    told = [
        {"role": "user", "content": [{"type": "text", "text": "sun"}, {"type": "image", "image": "x"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "4", "score": float("nan")},
    ]
    line = {"type": "episode", "episode_index": 0, "rollout": {"status": "ok", "messages": told}}
    event = Normaliser(Identity("S", "r", sdk=True))(json.dumps(line).encode(), 1, 1)
    ((_, rollout),) = event.beside
    assert json.loads(rollout["messages"]) == [
        {"role": "user", "content": "sun[image]"},
        {
            "role": "assistant",
            "reasoning": "hm",
            "tool_calls": [{"id": "c1", "name": "add", "arguments": "{}"}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "c1", "extras": {"score": "NaN"}},
    ]
