"""The address is the page's state, whoever wrote it."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.address import Address, run_link
from dashboard.controls import patched

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(
    run=NAMES.filter(lambda name: name.strip("/") == name), agent=NAMES, metrics=st.lists(NAMES, max_size=4)
)
def test_any_names_come_back_out_of_a_link(run: str, agent: str, metrics: list[str]) -> None:
    """A link returns the names of run, agent and numbers, whatever a worker calls them."""
    address = Address.of(run_link(run, agent=agent, metric=metrics))
    assert address.run == run
    assert address.get("agent") == agent
    assert address.all("metric") == metrics


@given(url=st.text(max_size=200))
def test_any_text_is_an_address(url: str) -> None:
    """Text that is no address leads to a page, and that page's own link leads there again."""
    address = Address.of(url)
    again = Address.of(address.to())
    assert (again.run, dict(again.query)) == (address.run, dict(address.query)) or "//" in url


def test_parts_are_replaced_repeated_and_left_out() -> None:
    """Parts of the query that a change does not name stay."""
    address = Address.of("/runs/r?agent=a&metric=x&metric=y&episode=3")
    assert address.to(metric=["z"], episode=None) == "/runs/r?agent=a&metric=z"
    assert address.number("episode") == 3
    assert Address.of("/?episode=1e9").number("episode") is None
    assert [Address.of(f"/?log={text}").flag("log") for text in ("", "0", "1", "yes")] == [
        False,
        False,
        True,
        True,
    ]


@given(name=NAMES)
def test_a_patch_says_what_is_set_and_what_is_left_out(name: str) -> None:
    """A patch is a query of the changed parts, in which a removed part is empty."""
    text = patched(metric=[name, "b"], episode=None)
    assert parse_qsl(text, keep_blank_values=True) == [("metric", name), ("metric", "b"), ("episode", "")]
    assert quote(name, safe="") in text


@pytest.mark.parametrize("run", [".", "..", "...", "..;", ";", ".;."])
def test_a_run_named_by_dots_has_an_address(run: str) -> None:
    """A link never ends in one or two dots, because a browser takes such a part for a folder."""
    link = run_link(run, agent="a")
    assert unquote(Address.of(link).path.rpartition("/")[2]) not in (".", "..")
    assert Address.of(link).run == run
