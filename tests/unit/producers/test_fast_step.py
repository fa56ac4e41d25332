"""The fast path of a step gives the same record as the normaliser, or leaves the line to it."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.lines.context import Context, Identity
from producers.lines.fast_step import FastStep
from producers.lines.normalise import Event, Normaliser
from schemas.codec import HEADER, MAGIC, Decoder, Encoder, current_id
from schemas.topics import Kind

STEP_HEADER = HEADER.pack(MAGIC, current_id(Kind.STEPS))
ENCODERS = {kind: Encoder(kind) for kind in Kind}
DECODE = Decoder(Kind.STEPS)
ARRIVED = 1_795_000_000_123_456

texts = st.one_of(st.sampled_from(["", "a", "é", "a\0b", "\ud800", "r1", "x" * 301]), st.text(max_size=4))
numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, 1, 31.0, -0.0, 2**63, 2**63 - 1, -(2**63), 10**400])
)
anything = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    texts,
    st.lists(numbers, max_size=3),
    st.dictionaries(texts, numbers, max_size=2),
)
stamps = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "+00:00"),
    st.sampled_from(
        [
            "2025-10-20T10:11:12.345678+00:00",
            "2025-10-20 10:11:12.345678+00:00",
            "2025-10-20T10:11:12.34567\uff18+00:00",
            "2025-10-20T10:11:12.12_456+00:00",
            "2025-10-20T25:11:12.345678+00:00",
            "2025-10-20T10:11:12Z",
            1704067200.123,
            1704067200,
            1000,
            "0001-01-01T00:00:00.000000+00:00",
            "2025-10-20T24:00:00.500000+00:00",
            "2025-10-20T10:11:60.500000+00:00",
            "Mon Oct 20 10:11:12 2025",
        ]
    ),
    anything,
)


def often(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw mostly valid values of a field, and sometimes any value."""
    return st.one_of(usual, usual, usual, anything)


payloads = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["grid", "ansi", "rgb"]),
        "grid": st.lists(st.sampled_from(["S", "F", "rgb", "a\nb"]), max_size=3),
        "text": texts,
        "rgb": st.just([[[1, 2, 3]]]),
        "frame_b64": st.just("iVBORw0KGgo="),
    },
)

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "ts": stamps,
    "run_id": often(texts),
    "agent_id": often(texts),
    "worker_id": often(texts),
    "episode_index": often(st.integers(0, 9)),
    "episode": often(st.integers(0, 9)),
    "step_index": often(st.integers(0, 9)),
    "step": often(st.integers(0, 9)),
    "time_step": anything,
    "observation": anything,
    "obs": anything,
    "state": anything,
    "action": anything,
    "info": anything,
    "reward": often(st.floats(-1, 1)),
    "terminated": often(st.booleans()),
    "truncated": often(st.booleans()),
    "done": st.booleans(),
    "timestamp": stamps,
    "metadata": anything,
    "render_payload": often(payloads),
    "epsilon": often(st.floats(0, 1)),
    "q": anything,
    'é"\\': anything,
    "agent": anything,
    "packed": st.one_of(
        st.lists(st.tuples(texts, st.floats()), max_size=3, unique_by=lambda each: each[0]).map(
            lambda named: [
                struct.pack(f">{len(named)}d", *(value for _, value in named)).hex(),
                *(name for name, _ in named),
            ]
        ),
        anything,
        st.lists(texts, max_size=2),
    ),
}
lines = st.fixed_dictionaries({"type": st.just("step")}, optional=FIELDS).map(json.dumps)
plain = st.fixed_dictionaries(
    {"type": st.just("step"), "ts": stamps, "reward": st.floats(-1, 1), "step_index": st.integers(0, 9)},
    optional={
        "epsilon": st.floats(0, 1),
        "obs": anything,
        "state": anything,
        "run_id": texts,
        "info": anything,
        "render_payload": payloads,
    },
).map(lambda fields: json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace").decode())


def same(value: bytes) -> dict[str, Any]:
    """Return a record to compare, which ignores the order of JSON names and the bits of NaN."""
    record = DECODE(value)
    for name in ("metrics", "extras"):
        record[name] = json.loads(record[name]) if record[name] else record[name]
    return {name: repr(value) if isinstance(value, float) else value for name, value in record.items()}


def learned(fast: FastStep, event: Event) -> dict[str, Any]:
    """Let the fast step learn from an event, and return the event's record."""
    fast.learn(event.step_names)
    return event.record


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(lines, plain), min_size=2, max_size=6), st.booleans())
def test_the_fast_step_gives_what_the_normaliser_gives(given_lines: list[str], sdk: bool) -> None:
    """Both give the same record, and read the same run and agent for the lines that follow."""
    identity = Identity("STREAM", "fallback", sdk=sdk)
    alone, beside = Normaliser(identity), Normaliser(identity)
    fast = FastStep(identity, beside.context, STEP_HEADER)
    for seq, text in enumerate(given_lines, 1):
        line = text.encode()
        expected = alone(line, seq, ARRIVED)
        value = fast(line, seq, ARRIVED)
        if value is None:
            event = beside(line, seq, ARRIVED)
            fast.learn(event.step_names)
            assert event.kind is expected.kind
            value = ENCODERS[event.kind](event.record)
            assert value == ENCODERS[expected.kind](expected.record)
        else:
            assert expected.kind is Kind.STEPS
            assert same(value) == same(ENCODERS[Kind.STEPS](expected.record))
            assert fast.key == expected.record["run_id"].encode()
        assert beside.context == alone.context


def test_a_common_line_is_fast_from_its_second_on() -> None:
    """From the second line on, the fast step writes the bytes that the normaliser and fastavro write."""
    identity = Identity("01K0000000000000000000TEST", "fallback")
    normalise = Normaliser(identity, Context())
    fast = FastStep(identity, normalise.context, STEP_HEADER)
    line = (
        b'{"type":"step","ts":"2026-11-24T08:00:00.123456+00:00","run_id":"r","agent_id":"a","worker_id":"w",'
        b'"episode_index":12,"step_index":345,"observation":[0.01, "\xc3\xa9"],"action":{"a":1},"reward":1,'
        b'"terminated":false,"truncated":null,"info":null,"epsilon":0.10,"name":"x","big":36893488147419103232}'
    )
    assert fast(line, 1, ARRIVED) is None
    expected = ENCODERS[Kind.STEPS](learned(fast, normalise(line, 1, ARRIVED)))
    assert fast(line, 1, ARRIVED) == expected


def test_floats_that_are_packed_join_the_metrics() -> None:
    """Packed numbers are read by both paths; anything else under that name is kept as it is."""
    identity = Identity("01K0000000000000000000TEST", "fallback")
    normalise = Normaliser(identity, Context())
    fast = FastStep(identity, normalise.context, STEP_HEADER)
    bits = struct.pack(">2d", 0.1, 1e22).hex()
    line = b'{"type":"step","reward":1,"n":3,"packed":["%s","a","b"]}' % bits.encode()
    record = learned(fast, normalise(line, 1, ARRIVED))
    assert json.loads(record["metrics"]) == {"n": 3, "a": 0.1, "b": 1e22}
    assert record["extras"] is None
    value = fast(line, 1, ARRIVED)
    assert value is not None
    assert same(value) == same(ENCODERS[Kind.STEPS](record))
    for other in (b'["00","a"]', b'["zz"]', b"[]", b"3", b'"text"'):
        line = b'{"type":"step","reward":1,"packed":%s}' % other
        assert fast(line, 1, ARRIVED) is None
        record = learned(fast, normalise(line, 1, ARRIVED))
        assert b"packed" in line
        assert "packed" in (record["metrics"] or "") + (record["extras"] or "")


def test_a_name_that_is_no_utf8_is_left_to_the_normaliser() -> None:
    """The fast step leaves a line to the normaliser if a name in it is not UTF-8."""
    identity = Identity("01K0000000000000000000TEST", "fallback")
    normalise = Normaliser(identity, Context())
    fast = FastStep(identity, normalise.context, STEP_HEADER)
    learned(fast, normalise(b'{"type":"step","reward":1}', 1, ARRIVED))
    assert fast(b'{"type":"step","rew\x88rd":1}', 2, ARRIVED) is None


def test_a_grid_is_data_and_is_fast() -> None:
    """A grid takes the fast path; a picture of another mode is left to the normaliser, which takes it out."""
    identity = Identity("01K0000000000000000000TEST", "fallback")
    normalise = Normaliser(identity, Context())
    fast = FastStep(identity, normalise.context, STEP_HEADER)
    grid = b'{"type":"step","reward":1,"render_payload":{"mode":"grid","grid":[["S","F"],["H","G"]]}}'
    expected = ENCODERS[Kind.STEPS](learned(fast, normalise(grid, 1, ARRIVED)))
    assert fast(grid, 1, ARRIVED) == expected
    ansi = b'{"type":"step","reward":1,"render_payload":{"mode":"ansi","text":"SF"}}'
    assert fast(ansi, 2, ARRIVED) is None
