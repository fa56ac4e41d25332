"""The address decides what the pages of runs, metrics, logs and configurations show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dash.development.base_component import Component
from hypothesis import given
from hypothesis import strategies as st
from plotly.utils import PlotlyJSONEncoder

from dashboard.address import Address, chosen_runs, compare_link
from dashboard.panels import chart, chart_choice, run_table
from dashboard.panels.compare import Compare, Compared
from dashboard.panels.config import flat
from dashboard.panels.log import Line, block, coloured, joined
from dashboard.panels.run_table import Choice
from infra.history.curves import Curve
from infra.history.series import Series

NOW = 1_800_000_000_000


def run(run_id: str, **fields: Any) -> dict[str, Any]:
    """A run's row with its keys."""
    blank = {"status": "completed", "started_at": NOW, "last_seen_at": NOW, "ended_at": NOW + 5000}
    return run_table.with_keys(blank | {"run_id": run_id} | fields)


RUNS = [
    run("a", project="chess", config='{"lr": 0.1, "seed": 1}', steps=5, tags=["x", "y"]),
    run("b", project="go", config='{"lr": 0.01, "seed": 1}', steps=50, status="failed", started_at=NOW + 1),
    run("c", config="not json", steps=500, status="running", last_seen_at=NOW - 60_000, started_at=NOW + 2),
]


def keys(address: str) -> list[str]:
    """Keys of the table's rows at an address."""
    choice = Choice.of(Address.of(address))
    found = run_table.ordered(run_table.matching(RUNS, choice), choice)
    return [row["key"] for row in run_table.grouped(found, choice, NOW)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/", ["c", "b", "a"]),
        ("/?sort=Steps", ["a", "b", "c"]),
        ("/?sort=-Steps", ["c", "b", "a"]),
        ("/?sort=nonsense", ["a", "b", "c"]),
        ("/?status=failed", ["b"]),
        ("/?q=CHESS", ["a"]),
        ("/?q=chess%20go", []),
        ("/?group=project", ["group (none)", "(none) c", "group go", "go b", "group chess", "chess a"]),
        ("/?group=tag&q=chess", ["group x", "x a", "group y", "y a"]),
        (
            "/?group=config.lr&sort=Steps",
            ["group 0.1", "0.1 a", "group 0.01", "0.01 b", "group (none)", "(none) c"],
        ),
        ("/?group=evil", ["c", "b", "a"]),
    ],
)
def test_runs_as_the_address_wants_them(address: str, expected: list[str]) -> None:
    """The address filters, sorts and groups the runs; an unknown choice changes nothing."""
    assert keys(address) == expected


def test_columns_are_chosen_by_the_address() -> None:
    """The address chooses the columns, also keys of the configuration, and sorts by their numbers."""
    choice = Choice.of(Address.of("/?column=name&column=config.lr&sort=lr"))
    columns = run_table.definitions(choice)
    assert [column["headerName"] for column in columns] == ["Run", "lr"]
    assert columns[1]["headerComponentParams"] == {"patch": "sort=-lr", "by": "asc"}
    assert [one["run_id"] for one in run_table.ordered(RUNS, choice)] == ["c", "b", "a"]
    assert run_table.row(RUNS[0], choice, NOW)["config·lr"] == "0.1"
    assert run_table.config_keys(RUNS)[0] == "lr"


def test_a_silent_run_says_so() -> None:
    """A running run says for how long it has been silent."""
    assert run_table.row(RUNS[2], Choice(), NOW)["words"] == "silent 1 m 00 s"


@given(st.text(max_size=80))
def test_any_address_is_a_choice(query: str) -> None:
    """Any text in an address gives a valid choice of runs and of charts."""
    address = Address.of(f"/runs/x?{query}&zoom={query}&smooth={query}&x={query}&n={query}")
    Choice.of(address)
    choice = chart_choice.Choice.of(address)
    assert choice.count <= 500
    assert choice.zoom is None or choice.zoom[0] < choice.zoom[1]


def test_metrics_are_found_pinned_hidden() -> None:
    """Charts are found by words of their names and hidden by the address; each has a group and a title."""
    choice = chart_choice.Choice.of(Address.of("/runs/x?q=train%20loss&hide=train/kl_loss"))
    shown = ["train/loss", "train/kl_loss", "eval/loss", "steps:train_loss"]
    assert [name for name in shown if choice.shows(name)] == ["train/loss", "steps:train_loss"]
    series = [
        Series("r", "metrics", "train/loss"),
        Series("r", "metrics", "lr"),
        Series("r", "steps", "reward"),
    ]
    charts = [chart.Chart(one) for one in [*series, Series("r", "episodes", "episode_return")]]
    assert [(one.group, one.title) for one in charts] == [
        ("train", "loss"), ("Metrics", "lr"), ("Steps", "reward"), ("Episodes", "return")
    ]  # fmt: skip
    assert len({one.id for one in charts}) == 4


@pytest.mark.parametrize(
    ("text", "zoom"),
    [
        ("1,2", (1.0, 2.0)),
        ("2,1", None),
        ("nan,1", None),
        ("1", None),
        ("", None),
        ("-inf,inf", None),
        ("1e5,2e5", (1e5, 2e5)),
    ],
)
def test_a_zoom_in_the_address(text: str, zoom: tuple[float, float] | None) -> None:
    """A zoom is two finite numbers, the lower one first; any other text is no zoom."""
    assert chart_choice.zoom_of(text) == zoom


def test_a_configuration_is_dotted_keys() -> None:
    """A configuration becomes dotted keys; lists stay, and text that is no JSON is shown as it is."""
    assert flat('{"net": {"width": 64, "act": "relu"}, "layers": [1, 2], "none": null, "empty": {}}') == {
        "net.width": "64", "net.act": "relu", "layers": "[1, 2]", "none": "null", "empty": "{}"
    }  # fmt: skip
    assert flat("oops") == {"config": "oops"}
    assert (flat(None), flat("[1]"), flat("")) == ({}, {}, {})
    assert len(flat('{"a":' * 500 + "1" + "}" * 500)) == 1


def words_of(part: Any) -> str:
    """The text of components."""
    if isinstance(part, Component):
        return words_of(part.children)
    return "".join(map(words_of, part)) if isinstance(part, list | tuple) else str(part or "")


@given(
    st.lists(
        st.text(st.characters(blacklist_characters="\x1b\n", blacklist_categories=["Cs"]), max_size=40),
        max_size=6,
    )
)
def test_a_log_is_its_lines_as_text(lines: list[str]) -> None:
    """A log shows the same words as text, in order, whatever was printed."""
    pre = block(
        [Line(0, source, text) for text, source in zip(lines, ["stdout", "stderr"] * 3, strict=False)]
    )
    assert [line[14:] for line in words_of(pre).split("\n")[:-1]] == lines


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c" * 3000])), max_size=12).map(sorted),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_a_line_of_both_sql_and_redis_is_shown_once(
    told: list[tuple[int, str]], stored: int, live_from: int
) -> None:
    """SQL has the first lines, Redis the last; many come within a millisecond, some are alike or cut."""
    lines = [Line(1_000 + at, "stderr", text) for at, text in told]
    of_sql = [line._replace(text=line.text[:2000]) for line in lines[:stored]]
    live_from = min(live_from, stored, len(lines))
    while 0 < live_from < len(lines) and lines[live_from] == lines[live_from - 1]:
        live_from -= 1  # of lines that are alike all are there
    of_redis = lines[live_from:]
    shown = [(line.at, line.text[:2000]) for line in joined(of_sql, of_redis)]
    assert sorted(shown) == sorted((line.at, line.text[:2000]) for line in lines)
    assert [at for at, _ in shown] == [line.at for line in lines]


def test_colours_of_a_terminal_become_classes() -> None:
    """Bold and colours become classes; codes that move a cursor are left out."""
    plain, red, rest = coloured("a\x1b[1;31mb\x1b[2K\x1b[0mc\x1b]0;title\x07")
    assert (plain, rest) == ("a", "c")
    assert (red.children, red.className) == ("b", "ansi-bold ansi-1")


IDS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=2, unique=True
)


@given(run_ids=IDS)
def test_the_link_to_a_comparison_names_its_runs(run_ids: list[str]) -> None:
    """The link to a comparison names at most a hundred runs, whatever they are called."""
    assert chosen_runs(Address.of(compare_link(run_ids))) == run_ids[:100]


def test_a_comparison_reads_as_people_write_it() -> None:
    """A comparison's runs are a list with commas; duplicates and blanks are left out."""
    assert chosen_runs(Address.of("/compare?runs=a,b,,a")) == ["a", "b"]
    assert chosen_runs(Address.of("/compare")) == []
    assert compare_link(["a b", "c"]) == "/compare?runs=a%20b,c"


def test_a_comparison_draws_a_line_for_each_run_and_names_what_differs() -> None:
    """Each run has a line, and the table shows what differs; a run that SQL lacks is named as unknown."""
    panel = Compare()
    panel.address = Address.of("/compare?runs=a,b,c&x=step")
    panel.reset()
    rows = [{**row, "episodes": 3} for row in RUNS[:2]]
    panel.runs = [Compared(row["run_id"], row, ["loss"]) for row in rows] + [Compared("<b>c</b>", None, [])]
    panel.runs[0].curve = Curve(mean_x=[0, 1], mean=[1.0, 2.0])
    panel.lines, panel.read = panel._lines(), True
    drawn = panel.draw()
    figure = drawn["compare-chart"]["figure"]
    assert [line["y"] for line in figure["data"]] == [[1.0, 2.0], [], []]
    assert "<b>" not in json.dumps(figure)
    said = json.dumps(drawn["compare-table"]["children"].to_plotly_json(), cls=PlotlyJSONEncoder)
    assert '"lr"' in said
    assert '"seed"' not in said
    assert '"unknown"' in said
