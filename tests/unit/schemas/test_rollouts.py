"""Attempts, superseded rows and derived advantages are computed from the stored rows."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import token_arrays
from schemas.rollouts import Entry, GroupKey, Key, derived_advantages, settled
from schemas.training_steps import mean


def entry(seq: int, sample: str = "0", **own: object) -> Entry:
    """Return a row as it is inserted."""
    group = GroupKey("train", 1, str(own.pop("group", "0")))
    blank = Entry(
        Key("run", "stream", seq),
        group,
        f"1/{group.group_id}/{sample}",
        "1.jsonl",
        1,
        0,
        None,
        1,
        False,
        None,
    )
    return blank._replace(**own)  # type: ignore[arg-type]


def settle(rows: list[Entry]) -> dict[int, Entry]:
    """Return all rows by number, settled as if all of them were new."""
    newest: dict[str, int] = {}
    for row in rows:
        newest[row.scope] = max(newest.get(row.scope, 0), row.generation)
    changed = {row.key.seq: row for row in settled(rows, {row.sample_key for row in rows}, newest)}
    return {row.key.seq: changed.get(row.key.seq, row) for row in rows}


def test_a_rewritten_file_supersedes_samples_that_it_lacks():
    """A newer version supersedes every row of the older one, also samples that it lacks."""
    rows = settle([entry(1, "0"), entry(2, "1"), entry(3, "0", generation=2)])
    assert [(rows[n].superseded, rows[n].attempt) for n in (1, 2, 3)] == [(True, 1), (True, 1), (False, 2)]


def test_a_copy_of_higher_precedence_counts_and_is_no_attempt():
    """Of one episode in two files, one row counts, and both rows are the first attempt."""
    rows = settle([entry(1, scope="all"), entry(2, scope="effective", precedence=1)])
    assert [(rows[n].superseded, rows[n].attempt) for n in (1, 2)] == [(True, 1), (False, 1)]


def test_the_older_version_keeps_an_advantage_of_its_own():
    """The advantages of a superseded group are derived from its own rewards."""
    old = [entry(n, str(n), reward=float(n)) for n in (1, 2)]
    new = [entry(n + 2, str(n), reward=10.0 * n, generation=2) for n in (1, 2)]
    rows = settle(old + new)
    root = math.sqrt(0.5)
    assert [rows[n].derived_advantage for n in (1, 2, 3, 4)] == pytest.approx([-root, root, -root, root])


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1, max_size=9))
def test_the_derived_advantage_is_the_textbook_formula(rewards: list[float | None]):
    """An advantage is (r - mean) / s, 0 without a spread, and None for a reward of null or NaN."""
    known = [reward for reward in rewards if reward is not None and math.isfinite(reward)]
    spread = statistics.stdev(known) if len(known) > 1 else 0.0
    for reward, found in zip(rewards, derived_advantages(rewards), strict=True):
        if reward is None or not math.isfinite(reward):
            assert found is None
        elif spread <= 1e-9 * max(map(abs, known)):
            assert found == pytest.approx(0, abs=5)
        else:
            assert found == pytest.approx((reward - statistics.mean(known)) / spread, rel=1e-4, abs=1e-6)


def test_huge_rewards_have_advantages_and_a_mean():
    """Rewards whose sum overflows settle like any other; an integer beyond any double counts in no mean."""
    root = math.sqrt(0.5)
    assert derived_advantages([1.7e308, -1.7e308]) == pytest.approx([root, -root])
    assert derived_advantages([1.7e308, 1.7e308, None, math.nan]) == [0.0, 0.0, None, None]
    assert mean([1.7e308, 1.7e308, 10**400, "NaN"]) == pytest.approx(1.7e308)


@given(st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(rng: random.Random):
    """Rows that are settled one by one end the same in any order of arrival."""
    rows = [
        entry(n, str(n % 3), group=n % 2, generation=1 + n % 4 // 2, precedence=n % 2, reward=float(n % 5))
        for n in range(12)
    ]
    rng.shuffle(rows)
    there: dict[int, Entry] = {}
    for row in rows:
        there[row.key.seq] = row
        there = settle(list(there.values()))
    assert there == settle(sorted(rows))


@given(st.dictionaries(st.text(min_size=1), st.lists(st.integers(-(2**40), 2**40)) | st.lists(st.booleans())))
def test_whole_numbers_and_truths_are_kept_as_they_are(arrays: dict[str, list[int]]):
    """Integers and booleans are the same after packing and unpacking."""
    assert token_arrays.unpack(token_arrays.pack(arrays)) == arrays


@given(st.lists(st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_keep_single_precision_and_null(values: list[float | None]):
    """Floats keep single precision, and null stays null."""
    assert token_arrays.unpack(token_arrays.pack({"logprobs": values})) == {"logprobs": values}


def test_bytes_that_are_no_arrays_are_refused():
    """Bytes that are no packed arrays raise ValueError."""
    with pytest.raises(ValueError, match="no packed arrays"):
        token_arrays.unpack(b"abc")
