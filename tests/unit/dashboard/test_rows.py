"""The tables of the newest rows."""

from __future__ import annotations

import pytest

from dashboard.address import Address
from dashboard.live.news import News, Row
from dashboard.panels.rows import FEW, ROWS, Rows
from schemas.live import LiveStep


def steps(first: int, count: int) -> list[Row]:
    """Steps from this one on."""
    return [
        Row(LiveStep("w", seq, 1000 * seq, 0, seq, None, 1.0, None, None, None, None, None, None), "a")
        for seq in range(first, first + count)
    ]


def shown(panel: Rows) -> list[int]:
    """The steps that the table is given."""
    panel.dirty = False
    return [row["step_index"] for row in panel.draw()["newest-steps"]["rowData"]]


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, ROWS, ROWS + 1])
def test_a_table_that_is_replaced_at_once_is_short_and_whole_when_it_calms(count: int) -> None:
    """Of many rows that come between two draws the newest are drawn; the next draw has all that are kept."""
    panel = Rows()
    panel.address = Address.of("/runs/r?agent=a")
    panel.reset()
    panel.take(News(agent="a", steps=steps(0, count)))
    newest = list(range(count))[::-1]
    assert shown(panel) == newest[: FEW if count > FEW else ROWS]
    assert panel.dirty == (count > FEW)
    assert shown(panel) == newest[:ROWS]
    assert not panel.dirty
