"""Each member of a consumer group has a name of its own, and the same name after a restart."""

from __future__ import annotations

from pathlib import Path

from infra.kafka.membership import Membership
from infra.settings import load


def test_two_processes_of_a_home_have_two_names_and_one_that_ended_is_free_again(tmp_path: Path) -> None:
    """Two processes of a home have two names; the next process takes the name of one that ended."""
    settings = load({"STEPSTREAM_HOME": str(tmp_path)})
    first, second = Membership(settings, "persist"), Membership(settings, "persist")
    assert first.instance_id
    assert second.instance_id
    assert first.instance_id != second.instance_id
    first.release()
    again = Membership(settings, "persist")
    assert again.instance_id == first.instance_id
    other_home = Membership(load({"STEPSTREAM_HOME": str(tmp_path / "other")}), "persist")
    assert other_home.instance_id not in (first.instance_id, second.instance_id)
    for membership in (second, again, other_home):
        membership.release()


def test_a_home_that_cannot_be_written_gives_no_name(tmp_path: Path) -> None:
    """A process that cannot lock its name gets none, because two with one name would end each other."""
    (tmp_path / "members").write_text("a file, where the folder of locks would be")
    assert Membership(load({"STEPSTREAM_HOME": str(tmp_path)}), "live").instance_id is None
