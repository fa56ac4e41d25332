"""Run ids and homes with special characters are safe as paths and in URLs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import settings as settings_module
from infra.sql import engine as sql
from infra.sql.export import folder_name


@given(ids=st.sets(st.text(min_size=1, max_size=300), min_size=2))
def test_each_run_has_a_folder_of_its_own(ids):
    """Each run id gives a different folder name, without a slash and short enough for a file system."""
    names = {folder_name(run_id) for run_id in ids}
    assert len(names) == len(ids)
    assert not [name for name in names if name[:1] in ("", ".") or "/" in name]
    assert max(len(os.fsencode(name)) for name in names) <= 200


def test_runs_named_by_dots_have_folders():
    """A run named `.` or `..` gets an escaped folder name."""
    assert (folder_name("."), folder_name(".."), folder_name("lr.1_a-b")) == ("%2E", "%2E%2E", "lr.1_a-b")


@pytest.mark.parametrize("name", ["h?x=1", "lr=1e-3#2", "50%41", "a b", "ü"])
def test_a_home_with_signs_holds_its_database(name, tmp_path: Path):
    """The database lies in a home whose name has special characters, and nothing is made elsewhere."""
    home = tmp_path / name
    made = sql.engine(replace(settings_module.load({}), home=home))
    home.mkdir()
    with made.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
        connection.commit()
    made.dispose()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    assert (home / "stepstream.db").exists()
