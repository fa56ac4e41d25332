"""The hand-written encoder of steps writes what fastavro writes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import step_codec
from schemas.codec import HEADER, MAGIC, Encoder, current_id
from schemas.topics import Kind

FASTAVRO = Encoder(Kind.STEPS)
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
    """For any values, of any length, at the ends of 64 bits."""
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
    assert ours == FASTAVRO(step)
