"""A thousand agents come in parts, and none of what changed is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dashboard.live.buffer import AGENTS_AT_ONCE, _some
from dashboard.live.cursor import Cursor
from dashboard.live.types import AgentRow

MANY = 4 * AGENTS_AT_ONCE + 50


def rows_of(steps: list[int], seen: list[int]) -> list[AgentRow]:
    """All agents as Redis holds them."""
    pairs = zip(steps, seen, strict=True)
    rows = [AgentRow(f"a{i}", steps=count, last_seen_at=at) for i, (count, at) in enumerate(pairs)]
    return sorted(rows, key=lambda row: row.agent_id)


@given(changes=st.lists(st.sets(st.integers(0, MANY - 1), max_size=MANY), max_size=8), still=st.booleans())
def test_whatever_changes_between_two_parts_arrives(changes: list[set[int]], still: bool) -> None:
    """Parts come one by one while rows change; once the changes stop, the page has all rows."""
    steps, seen, page = [1] * MANY, [1000] * MANY, dict[str, int]()
    cursor, at = Cursor([], ""), 1000

    def read() -> int:
        some = _some(rows_of(steps, seen), cursor)
        page.update({row.agent_id: row.steps for row in some})
        return len(some)

    assert read() == MANY
    for changed in changes:
        at += 0 if still else 1  # changes within one millisecond, or each in a later one
        for i in changed:
            steps[i], seen[i] = steps[i] + 1, at
        assert read() <= MANY // 4 + 1
    for _ in range(10):
        read()
    assert page == {f"a{i}": count for i, count in enumerate(steps)}


def test_a_hundred_come_at_once() -> None:
    """Up to a hundred agents come in one part."""
    cursor, few = Cursor([], ""), AGENTS_AT_ONCE
    assert len(_some(rows_of([1] * few, [1000] * few), cursor)) == few
    assert len(_some(rows_of([2] * few, [1001] * few), cursor)) == few
    assert not cursor.agents_due
