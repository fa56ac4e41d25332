"""The hand-written step decoder gives what fastavro gives, or None."""

from __future__ import annotations

import io
import math

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import HEADER, MAGIC, Decoder, Encoder, current_id, current_schema, plain
from schemas.errors import SchemaError
from schemas.step_codec import StepDecoder
from schemas.topics import Kind

STEP_HEADER = HEADER.pack(MAGIC, current_id(Kind.STEPS))
SCHEMA = fastavro.parse_schema(plain(current_schema(Kind.STEPS)))
ENCODE = Encoder(Kind.STEPS)

longs = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-70, 70)
texts = st.text(max_size=20) | st.sampled_from(["", "x" * 63, "x" * 64, "x" * 20000, "ä" * 100])
steps = st.fixed_dictionaries(
    {
        "run_id": st.sampled_from(["r", "run-2", ""]),
        "stream_id": st.sampled_from(["s", "t" * 26]),
        "seq": longs,
        "agent_id": st.sampled_from(["a", "agent ä"]),
        "worker_id": st.none() | st.sampled_from(["w", ""]),
        "event_time": longs | st.integers(1_700_000_000_000_000, 1_900_000_000_000_000),
        "episode_index": st.none() | longs,
        "step_index": st.none() | longs,
        "observation": st.none() | texts,
        "action": st.none() | texts,
        "reward": st.none() | st.floats(),
        "terminated": st.none() | st.booleans(),
        "truncated": st.none() | st.booleans(),
        "info": st.none() | texts,
        "metrics": st.none() | texts,
        "extras": st.none() | texts,
    }
)


def fastavro_s(value: bytes) -> dict | None:
    """Return what fastavro reads behind our header, or None if it refuses."""
    if value[:5] != STEP_HEADER:
        return None
    try:
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMA, None)
    except Exception:
        return None


def same(one: dict | None, other: dict | None) -> bool:
    """Compare two records, with NaN equal to NaN, and their fields in the same order."""
    return repr(one) == repr(other)


@given(st.lists(steps, min_size=1, max_size=4))
def test_steps_are_read_as_fastavro_reads_them(records: list[dict]):
    """Steps of the same stream and of others are read as fastavro reads them."""
    read = StepDecoder(STEP_HEADER)
    for fields in records:
        value = ENCODE(fields)
        found = read(value)
        assert found is None or same(found, fastavro_s(value))
        usual = all(abs(n) < 1 << 61 for n in fields.values() if isinstance(n, int))
        assert found is not None or not usual


@given(steps, st.data())
def test_broken_bytes_are_never_read_otherwise(fields: dict, data: st.DataObject):
    """Bytes that are cut or changed are read as fastavro reads them, or not at all."""
    value = bytearray(ENCODE(fields))
    place = data.draw(st.integers(0, len(value) - 1))
    if data.draw(st.booleans()):
        value = value[:place]
    else:
        value[place] = data.draw(st.integers(0, 255))
    read = StepDecoder(STEP_HEADER)
    read(ENCODE(fields))  # its cache must not repair broken bytes
    found = read(bytes(value))
    assert found is None or same(found, fastavro_s(bytes(value)))


def test_the_decoder_of_steps_uses_it_and_refuses_what_it_refuses():
    """The codec reads a step that the step decoder leaves to fastavro, and refuses broken bytes."""
    decode = Decoder(Kind.STEPS)
    fields = {field["name"]: None for field in current_schema(Kind.STEPS)["fields"]}
    fields |= {
        "run_id": "r",
        "stream_id": "s",
        "seq": 1 << 62,
        "agent_id": "a",
        "event_time": 0,
        "reward": math.inf,
    }
    assert decode(ENCODE(fields)) == fields
    with pytest.raises(SchemaError, match="does not fit"):
        decode(ENCODE(fields)[:-3])
