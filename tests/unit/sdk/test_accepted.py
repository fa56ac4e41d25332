"""The reader accepts what the SDK writes: no value of a call makes a dead letter of its line."""

from __future__ import annotations

import decimal
import enum
import fractions
import json
import math
from typing import Any

import numpy as np
import stepstream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stepstream import _warn
from stepstream._encoder import Encoder, short
from stepstream._frames import FrameGate
from stepstream._run import Run

from producers.lines.context import Identity
from producers.lines.normalise import Event, Normaliser
from schemas.codec import Encoder as Avro
from schemas.topics import Kind

AVRO = {kind: Avro(kind) for kind in Kind}


class Colour(enum.IntEnum):
    """A whole number with a name."""

    RED = 3


pythons = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**20, 10**400, -(10**400), Colour.RED, math.inf, -math.inf, math.nan]),
    st.sampled_from([5000]).map(lambda digits: 10**digits),  # Python prints no such number, Hypothesis does
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.sampled_from(["1.5", "\0", "\ud800", "NaN", "x" * 400]),
    st.binary(max_size=3),
    st.decimals(),
    st.fractions(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
)
dtypes = npst.scalar_dtypes() | st.sampled_from([np.dtype(np.longdouble), np.dtype(np.clongdouble)])
numpys = st.one_of(
    dtypes.flatmap(npst.from_dtype),
    dtypes.flatmap(lambda of: npst.arrays(of, st.sampled_from([(), (1,), (1, 1), (0,), (3,)]))),
)
values = st.one_of(
    pythons, numpys, st.lists(pythons, max_size=2), st.dictionaries(st.text(max_size=3), pythons, max_size=2)
)
names = st.sampled_from(["reward", "obs", "state", "success", "ts", "loss", "t", "metrics", "return", "a\0b"])
steps = st.dictionaries(
    st.sampled_from(["reward", "action", "observation", "terminated", "truncated", "info"]) | names, values
)
episodes = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("episode_return", "episode_length", "terminated", "truncated", "seed", "duration", "elapsed"), values
    )
    | dict.fromkeys(("success", "is_success", "loss", "state"), values),
)


def events(run: Run, rows: list[tuple]) -> list[Event]:
    """What a reader makes of the lines of these rows."""
    data, count = Encoder(run.id, None, None, FrameGate(10)).encode(rows)
    normalise = Normaliser(Identity("S", "r", sdk=True))
    found = [normalise(line, seq, 1) for seq, line in enumerate(data.splitlines(), 1)]
    assert len(found) == count
    for event in found:
        assert event.kind is not Kind.DLQ, event.record["message"]
        AVRO[event.kind](event.record)
    return found


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, max_size=3), episodes, st.dictionaries(names, values, max_size=3))
def test_no_value_of_a_call_makes_a_dead_letter(
    given_steps: list[dict[str, Any]], episode: dict[str, Any], logged: dict[str, Any]
) -> None:
    """A call with any Python or NumPy value as any argument is one record of its kind."""
    rows: list[tuple] = []
    run = stepstream.init(run_id="r", mode="disabled")
    run._put = rows.append
    for fields in given_steps:
        run.step(**fields)
    run.episode(**episode)
    run.log(logged)
    run._put = run._ignore
    run.finish()
    found = events(run, rows)
    assert sum(event.kind is Kind.STEPS for event in found) == len(given_steps)
    assert sum(event.kind is Kind.EPISODES for event in found) >= 1
    assert sum(event.kind is Kind.METRICS for event in found) == 1


def test_a_reward_that_is_none_is_kept_beside() -> None:
    """A bool reward is 1 or 0; a reward that is no number stands in extras, and the step arrives."""
    run = stepstream.init(run_id="r", mode="disabled")
    rows: list[tuple] = []
    run._put = rows.append
    for reward in (
        True,
        np.bool_(False),
        decimal.Decimal("1.5"),
        np.array([[2]]),
        fractions.Fraction(1, 4),
        "x",
    ):
        run.step(reward=reward)
    run._put = run._ignore
    run.finish()
    records = [event.record for event in events(run, rows)]
    assert [record["reward"] for record in records] == [1.0, 0.0, 1.5, 2.0, 0.25, None]
    assert json.loads(records[-1]["extras"]) == {"reward": "x"}


def test_ids_too_long_for_any_table_are_cut() -> None:
    """Ids too long for a table are cut, so that their lines do not become dead letters."""
    _warn.forget()
    assert short("run_id", "x" * 300) == "x" * 300
    assert short("agent_id", None) is None
    run = stepstream.init(run_id="x" * 301, mode="disabled")
    rows: list[tuple] = []
    run._put = rows.append
    run.step(reward=1, agent_id="y" * 301)
    run._put = run._ignore
    run.finish()
    (event,) = events(run, rows)
    assert (event.record["run_id"], event.record["agent_id"]) == ("x" * 300, "y" * 300)
