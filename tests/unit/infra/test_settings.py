"""Settings: where a value comes from, and what is said of a wrong one."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from infra.settings import Settings, explain, load
from schemas.errors import UsageError


def test_environment_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    """The first of environment, file and default that names a setting wins, and its source is told."""
    (tmp_path / "stepstream.toml").write_text(
        'partitions = 7\nbatch_records = 9\n[kafka]\n"sasl.username" = "u"\n'
    )
    found = explain({"STEPSTREAM_HOME": str(tmp_path), "STEPSTREAM_PARTITIONS": "3"})
    assert (found["partitions"].value, found["partitions"].source) == (3, "environment")
    assert (found["batch_records"].value, found["batch_records"].source) == (9, "file")
    assert (found["lost_seconds"].value, found["lost_seconds"].source) == (30.0, "default")
    assert found["kafka"].value == {"sasl.username": "u"}


def test_running_stack_is_believed_only_while_its_lock_is_held(tmp_path: Path) -> None:
    """`stack.json` of an `up` that is gone is ignored: its addresses answer nobody."""
    environ = {"STEPSTREAM_HOME": str(tmp_path)}
    (tmp_path / "stack.json").write_text(json.dumps({"bootstrap_servers": "127.0.0.1:1234", "pid": 1}))
    (tmp_path / "stack.lock").touch()
    assert load(environ).bootstrap_servers == ""
    with (tmp_path / "stack.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert load(environ).bootstrap_servers == "127.0.0.1:1234"
        assert explain(environ)["bootstrap_servers"].source == "stack"


def test_any_librdkafka_property_passes_through(tmp_path: Path) -> None:
    """STEPSTREAM_KAFKA_SASL_MECHANISM is librdkafka's sasl.mechanism."""
    environ = {"STEPSTREAM_HOME": str(tmp_path), "STEPSTREAM_KAFKA_SASL_MECHANISM": "PLAIN"}
    assert load(environ).kafka == {"sasl.mechanism": "PLAIN"}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"STEPSTREAM_PARTITIONS": "many"}, "STEPSTREAM_PARTITIONS must be a whole number, not 'many'"),
        ({"STEPSTREAM_SPOOL_FULL": "explode"}, "spool_full must be drop or pause, not 'explode'"),
        ({"STEPSTREAM_SCHEMA_REGISTRY_AUTO_REGISTER": "perhaps"}, "must be true or false"),
        ({"STEPSTREAM_CONFIG": "/nowhere.toml"}, "/nowhere.toml, and there is no such file"),
    ],
)
def test_a_wrong_value_is_named(environ: dict[str, str], says: str, tmp_path: Path) -> None:
    """A value of the wrong type names its variable, the value and what it should be."""
    with pytest.raises(UsageError, match=says):
        load({"STEPSTREAM_HOME": str(tmp_path), **environ})


def test_an_unknown_name_in_the_file_is_no_silent_typo(tmp_path: Path) -> None:
    """A misspelt setting in the file is refused by name."""
    (tmp_path / "stepstream.toml").write_text("partitons = 7\n")
    with pytest.raises(UsageError, match="no setting is named partitons"):
        load({"STEPSTREAM_HOME": str(tmp_path)})


def test_defaults_depend_on_home(tmp_path: Path) -> None:
    """Spools and the SQLite file lie in the home folder unless told otherwise."""
    settings = load({"STEPSTREAM_HOME": str(tmp_path)})
    assert isinstance(settings, Settings)
    assert settings.spool_dir == tmp_path / "spool"
    assert settings.sql_url == f"sqlite:///{tmp_path}/stepstream.db"
