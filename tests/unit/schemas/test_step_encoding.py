"""The hand-written encoders write what fastavro writes."""

from __future__ import annotations

import io
import struct
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import step_codec
from schemas.codec import HEADER, MAGIC, Encoder, current_id, current_schema
from schemas.topics import Kind

STEP_HEADER = HEADER.pack(MAGIC, current_id(Kind.STEPS))

texts = st.one_of(st.text(max_size=20), st.integers(0, 20_000).map(lambda length: "x" * length))
longs = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-9000, 20_000),
    st.sampled_from([2**n + delta for n in (6, 13, 20, 27, 34, 41, 48, 55, 62) for delta in (-1, 0, 1)]),
)
JSON_FIELDS = ("observation", "action", "info", "metrics", "extras")
steps = st.fixed_dictionaries(
    {
        "run_id": texts,
        "stream_id": texts,
        "seq": longs,
        "agent_id": texts,
        "worker_id": st.none() | texts,
        "event_time": longs,
        "episode_index": st.none() | longs,
        "step_index": st.none() | longs,
        "reward": st.none() | st.floats(),
        "terminated": st.none() | st.booleans(),
        "truncated": st.none() | st.booleans(),
        **{name: st.none() | texts for name in JSON_FIELDS},
    }
)


@settings(max_examples=600, deadline=None)
@given(steps)
def test_equal_bytes(step: dict) -> None:  # type: ignore[type-arg]
    """Steps with any values, also at the ends of 64 bits, have the bytes that fastavro writes."""
    json_text = {name: None if step[name] is None else step[name].encode() for name in JSON_FIELDS}
    ours = step_codec.encode(
        step_codec.beginning(STEP_HEADER, step["run_id"], step["stream_id"]),
        step["seq"],
        step_codec.whose(step["agent_id"], step["worker_id"]),
        step["event_time"],
        step["episode_index"],
        step["step_index"],
        json_text["observation"],
        json_text["action"],
        step["reward"],
        step["terminated"],
        step["truncated"],
        json_text["info"],
        json_text["metrics"],
        json_text["extras"],
    )
    assert ours == by_fastavro(Kind.STEPS, step)


def by_fastavro(kind: Kind, record: dict[str, Any]) -> bytes:
    """Return the wire bytes that fastavro writes."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(current_schema(kind)), record)
    return HEADER.pack(MAGIC, current_id(kind)) + body.getvalue()


def values(avro: Any) -> st.SearchStrategy[Any]:
    """Draw any value of an Avro type."""
    if isinstance(avro, list):
        return st.one_of(map(values, avro))
    if isinstance(avro, dict):
        return values(avro["type"])
    return {
        "null": st.none(),
        "string": texts,
        "bytes": st.binary(),
        "boolean": st.booleans(),
        "long": longs,
        "int": st.integers(-(2**31), 2**31 - 1),
        "double": st.floats(),
    }[avro]


@pytest.mark.parametrize("kind", list(Kind))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_records_of_every_kind(kind: Kind, data: st.DataObject) -> None:
    """Records of each kind, with any values, have the bytes that fastavro writes."""
    fields = current_schema(kind)["fields"]
    record = {field["name"]: data.draw(values(field["type"])) for field in fields}
    assert Encoder(kind)(record) == by_fastavro(kind, record)


@pytest.mark.parametrize(
    "wrong",
    [{"seq": "1"}, {"seq": 2**63}, {"run_id": None}, {"run_id": 7}, {"superseded": None}, {"reward": "x"}],
)
def test_a_value_of_another_type_is_refused(wrong: dict[str, Any]) -> None:
    """A value of a wrong type raises an error, so that no misleading bytes are written."""
    fields = current_schema(Kind.ROLLOUTS)["fields"]
    zero = {"string": "", "long": 0, "boolean": False}
    record = {f["name"]: zero.get(f["type"]) if isinstance(f["type"], str) else None for f in fields}
    record["event_time"] = 0
    assert Encoder(Kind.ROLLOUTS)(record)
    with pytest.raises((AttributeError, TypeError, KeyError, OverflowError, struct.error)):
        Encoder(Kind.ROLLOUTS)(record | wrong)
