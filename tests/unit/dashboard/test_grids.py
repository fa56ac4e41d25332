"""Tables: a column is declared once, and what a worker wrote stays a cell's text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dashboard import grids
from dashboard.sql import rows
from infra.sql import tables


def test_tables_have_the_columns_that_people_know() -> None:
    """The tables of episodes and steps have these columns in this order."""
    assert [column["headerName"] for column in grids.EPISODES] == [
        "Timestamp", "Worker", "Agent", "Episode", "Length", "Return", "Terminated", "Truncated", "Run seed",
        "Episode seed", "Mode", "Game", "Outcome",
    ]  # fmt: skip
    assert [column["headerName"] for column in grids.STEPS] == [
        "Timestamp", "Agent", "Episode", "Step", "Episode seed", "Action", "Reward", "Terminated",
        "Truncated", "Observation", "Info",
    ]  # fmt: skip


def test_a_column_is_sorted_by_what_sql_has() -> None:
    """A column that no SQL column stands for cannot be sorted or filtered by."""
    for table, columns in ((tables.STEPS, grids.STEPS), (tables.EPISODES, grids.EPISODES)):
        known = rows.columns(table)
        for column in columns:
            assert column["sortable"] == (column["field"] in known)
            assert "filter" not in column or column["field"] in known


def test_the_type_in_sql_says_how_a_value_is_shown() -> None:
    """Moments, numbers, booleans and long texts each have their form."""
    forms = {column["field"]: column["valueFormatter"]["function"] for column in grids.STEPS}
    assert forms["event_time"].startswith("stepstreamClock")
    assert forms["reward"].startswith("stepstreamNumber")
    assert forms["terminated"].startswith("stepstreamYesNo")
    assert forms["observation"].startswith("stepstreamLine")


def test_only_community_features_of_the_grid() -> None:
    """The grids use AG Grid's free features only; the wheel also holds AG Grid Enterprise."""
    for kind, columns in grids.TABLES.items():
        grid = grids.list_grid(f"grid-{kind}", columns)
        assert not getattr(grid, "enableEnterpriseModules", False)
        assert grid.rowModelType == "infinite"


def test_live_rows_have_places() -> None:
    """The newest row stands in the first place, so that cells change and no row is made."""
    assert grids.slots([{"seq": 9}, {"seq": 8}]) == [{"slot": "s0", "seq": 9}, {"slot": "s1", "seq": 8}]


def test_columns_that_are_empty_for_all_rows() -> None:
    """A column that no row fills is hidden, except the columns that everyone looks for."""
    shown = grids.filled("steps", [{"action": 1, "info": None}, {"action": None, "info": "{}"}])
    assert "action" in shown
    assert {"event_time", "episode_index", "step_index", "reward"} <= shown
    assert not {"info", "observation", "terminated"} & shown
    hidden = {one["field"] for one in grids.hiding("steps", shown) if one["hide"]}
    assert hidden == {one["field"] for one in grids.STEPS} - shown


@given(st.lists(st.dictionaries(st.sampled_from(["action", "agent_id"]), st.text()), max_size=5))
def test_tsv_has_a_line_for_each_row(listed: list[dict[str, str]]) -> None:
    """Each row is one line of TSV: a text is one cell, and never a spreadsheet's formula."""
    lines = grids.tsv(grids.STEPS, listed).split("\n")
    assert len(lines) == len(listed) + 1
    for line in lines:
        cells = line.split("\t")
        assert len(cells) == len(grids.STEPS)
        assert not any(cell[:1] in "=+@" for cell in cells if cell)
    assert set(grids.tsv(grids.STEPS, [{}]).split("\n")[1]) == {"\t"}


def test_a_sparkline_reaches_from_end_to_end() -> None:
    """A sparkline spans its box; the lowest value is at the bottom, and a missing value leaves no point."""
    assert grids.spark([1.0, None, float("nan"), 3.0], 40, 16) == "M0.0,15.0L40.0,1.0"
    assert grids.spark([5.0, 5.0], 40, 16) == "M0.0,8.0L40.0,8.0"
    assert grids.spark([1.0]) == ""
