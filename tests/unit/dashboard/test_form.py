"""Numbers and times as people read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import form


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (12_345, "12,345"),
        (99_999, "99,999"),
        (100_000, "100k"),
        (1_234_567, "1.2M"),
        (5e12, "5.0T"),
    ],
)
def test_counts(value: float | None, text: str) -> None:
    """A count is shown in full below a hundred thousand, then with a suffix."""
    assert form.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (3.0, "3"),
        (0.1 + 0.2, "0.3"),
        (1234.5678, "1235"),
        (1e-5, "1e-5"),
        (2.5e9, "2.5e9"),
        (float("nan"), "nan"),
        ("NaN", "NaN"),
        (True, "True"),
        (-0.25, "-0.25"),
    ],
)
def test_measured_numbers(value: Any, text: str) -> None:
    """A measured number has four significant digits and no needless zeros."""
    assert form.number(value) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "–"),
        (-1, "–"),
        (4_000, "4 s"),
        (192_000, "3 m 12 s"),
        (7_500_000, "2 h 05 m"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_durations(ms: float | None, text: str) -> None:
    """A duration has at most its two largest units."""
    assert form.duration(ms) == text


def test_moments() -> None:
    """A moment shows the clock today, the day this year, and the year before that."""
    now = datetime(2026, 6, 15, 12, tzinfo=UTC)
    ms = now.timestamp() * 1000
    assert form.moment(ms, now) == "12:00"
    assert form.moment((now - timedelta(days=40)).timestamp() * 1000, now) == "6 May"
    assert form.moment((now - timedelta(days=400)).timestamp() * 1000, now) == "11 May 2025"


@given(st.text(max_size=100))
def test_a_text_of_json_is_shown_on_one_line(text: str) -> None:
    """A JSON string is shown on one line without its quotes, whatever it holds."""
    shown = form.line(json.dumps(text), 1000)
    assert shown == " ".join(text.split())
    assert "\n" not in shown
    assert form.readable(json.dumps(text)) == text


def test_a_cut_text_is_shown_as_far_as_it_goes() -> None:
    """A cut text is shown as far as it goes, also where it was cut within its quotes."""
    assert form.line('"hello wor') == "hello wor"
    assert form.line("[1, 2") == "[1, 2"
    assert form.readable('{"a": [1') == '{"a": [1'
    assert form.readable('{"a": 1}') == '{\n  "a": 1\n}'
