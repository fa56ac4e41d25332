"""The codec reads records of any schema version."""

from __future__ import annotations

import io
import math

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import HEADER, Decoder, Encoder, current_id, current_schema
from schemas.errors import SchemaError
from schemas.topics import Kind

STEP = {
    **{
        "run_id": "r",
        "stream_id": "s",
        "seq": 1,
        "agent_id": "a",
        "worker_id": None,
        "event_time": 1_700_000_000,
    },
    **{"episode_index": 0, "step_index": None, "observation": "[1,2]", "action": "2", "reward": 1.5},
    **{"terminated": False, "truncated": None, "info": None, "metrics": '{"epsilon":0.1}', "extras": None},
}


@given(
    st.fixed_dictionaries(
        {name: st.just(value) for name, value in STEP.items()}
        | {
            "reward": st.none() | st.floats(allow_nan=False),
            "observation": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            "seq": st.integers(-(2**63), 2**63 - 1),
        }
    )
)
def test_a_record_comes_back_as_it_went(record: dict[str, object]) -> None:
    """A record is the same after encoding and decoding."""
    assert Decoder(Kind.STEPS)(Encoder(Kind.STEPS)(record)) == record


def test_not_a_number_is_kept() -> None:
    """NaN and the infinities are kept as rewards."""
    for reward in (math.nan, math.inf, -math.inf):
        found = Decoder(Kind.STEPS)(Encoder(Kind.STEPS)(STEP | {"reward": reward}))["reward"]
        assert found == reward or (math.isnan(found) and math.isnan(reward))


def test_a_newer_compatible_schema_is_read() -> None:
    """A record of a later schema with a further field is read without that field."""
    newer = current_schema(Kind.LOGS)
    newer["fields"].append({"name": "level", "type": ["null", "string"], "default": None})

    body = io.BytesIO()
    record = {
        "run_id": "r",
        "stream_id": "s",
        "seq": 1,
        "agent_id": "a",
        "event_time": 1,
        "source": "stdout",
        "line": "x",
    }
    fastavro.schemaless_writer(body, newer, record | {"level": "warn"})
    decode = Decoder(Kind.LOGS, lambda _: newer)
    assert decode(HEADER.pack(0, 99) + body.getvalue()) == record | {"worker_id": None}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        b"\x01\x00\x00\x00\x01",
        HEADER.pack(0, 424242),
        HEADER.pack(0, current_id(Kind.STEPS)) + b"\xff",
    ],
)
def test_foreign_bytes_are_a_schema_error(value: bytes) -> None:
    """The decoder raises SchemaError for bytes that are no record."""
    with pytest.raises(SchemaError):
        Decoder(Kind.STEPS)(value)
