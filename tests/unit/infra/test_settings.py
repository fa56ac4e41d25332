"""Where the value of a setting comes from, and what the error on a wrong value says."""

from __future__ import annotations

import fcntl
import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import OF_WORKERS, PREFIX, Settings, explain, load, unknown_variables
from schemas.errors import UsageError


def test_environment_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    """The environment wins over the file, and the file over the default; the source is reported."""
    (tmp_path / "stepstream.toml").write_text(
        'partitions = 7\nbatch_records = 9\n[kafka]\n"sasl.username" = "u"\n'
    )
    found = explain({"STEPSTREAM_HOME": str(tmp_path), "STEPSTREAM_PARTITIONS": "3"})
    assert (found["partitions"].value, found["partitions"].source) == (3, "environment")
    assert (found["batch_records"].value, found["batch_records"].source) == (9, "file")
    assert (found["lost_seconds"].value, found["lost_seconds"].source) == (30.0, "default")
    assert found["kafka"].value == {"sasl.username": "u"}


def test_running_stack_is_believed_only_while_its_lock_is_held(tmp_path: Path) -> None:
    """`stack.json` is read only while its `up` holds the lock."""
    environ = {"STEPSTREAM_HOME": str(tmp_path)}
    (tmp_path / "stack.json").write_text(json.dumps({"bootstrap_servers": "127.0.0.1:1234", "pid": 1}))
    (tmp_path / "stack.lock").touch()
    assert load(environ).bootstrap_servers == ""
    with (tmp_path / "stack.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert load(environ).bootstrap_servers == "127.0.0.1:1234"
        assert explain(environ)["bootstrap_servers"].source == "stack"


def test_any_librdkafka_property_passes_through(tmp_path: Path) -> None:
    """A variable STEPSTREAM_KAFKA_… sets the librdkafka property of that name."""
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


TYPES = get_type_hints(Settings, include_extras=True)
RANGES = {
    name: (get_args(kind)[0], *get_args(kind)[1:])
    for name, kind in TYPES.items()
    if get_origin(kind) is Annotated and get_args(kind)[1].pattern is None
}
CHOICES = {name: get_args(kind) for name, kind in TYPES.items() if get_origin(kind) is Literal}


def test_every_number_has_a_range() -> None:
    """Each setting that is a number has a range, and its default lies inside."""
    assert not [name for name, kind in TYPES.items() if kind in (int, float)]
    defaults = {item.name: item.default for item in fields(Settings)}
    for name, (_, meta) in RANGES.items():
        assert meta.ge <= defaults[name] <= meta.le
    assert {name: defaults[name] in allowed for name, allowed in CHOICES.items()} == dict.fromkeys(
        CHOICES, True
    )


@given(data=st.data(), name=st.sampled_from(sorted(RANGES)))
def test_a_number_outside_its_range_is_refused(data: Any, name: str) -> None:
    """A number outside its range, infinite or NaN is refused; inside the range it is accepted."""
    base, meta = RANGES[name]
    numbers = st.integers() if base is int else st.floats(width=64)
    value = data.draw(st.one_of(numbers, st.sampled_from([meta.ge, meta.le, meta.ge - 1, meta.le + 1])))
    environ = {"STEPSTREAM_HOME": "/nowhere", PREFIX + name.upper(): str(value)}
    if meta.ge <= value <= meta.le:
        assert getattr(load(environ), name) == value
        return
    with pytest.raises(UsageError) as caught:
        load(environ)
    assert PREFIX + name.upper() in str(caught.value)
    assert f"from {meta.ge:,} to {meta.le:,}" in str(caught.value)


@given(name=st.sampled_from(sorted(CHOICES)), word=st.text(min_size=1).filter(str.strip))
def test_a_word_that_is_no_choice_is_refused(name: str, word: str) -> None:
    """The error on a wrong word names the variable and every choice."""
    environ = {"STEPSTREAM_HOME": "/nowhere", PREFIX + name.upper(): word}
    if word.strip() in CHOICES[name]:
        assert getattr(load(environ), name) == word.strip()
        return
    with pytest.raises(UsageError) as caught:
        load(environ)
    assert all(choice in str(caught.value) for choice in (PREFIX + name.upper(), *CHOICES[name]))


@pytest.mark.parametrize("name", ["window_lines", "spool_full", "redis_url", "partitions"])
def test_a_wrong_value_in_the_file_is_named(tmp_path: Path, name: str) -> None:
    """The error names the file and the setting, and does not repeat the value of a secret."""
    (tmp_path / "stepstream.toml").write_text(f'{name} = "0 hunter2"\n')
    with pytest.raises(UsageError, match=rf"stepstream\.toml: {name} must be") as caught:
        load({"STEPSTREAM_HOME": str(tmp_path)})
    assert ("hunter2" in str(caught.value)) == (name != "redis_url")


@given(data=st.data())
def test_a_misspelt_variable_is_named_with_the_nearest(data: Any) -> None:
    """A name with one letter missing, doubled or swapped is reported with the setting that was meant."""
    known = {PREFIX + name.upper() for name in (*TYPES, *OF_WORKERS)}
    meant = data.draw(st.sampled_from(sorted(known - {"STEPSTREAM_KAFKA"})))
    at = data.draw(st.integers(len(PREFIX), len(meant) - 2))
    kinds = [meant[:at] + meant[at + 1 :], meant[:at] + meant[at] + meant[at:]]
    written = data.draw(st.sampled_from([*kinds, meant[:at] + meant[at + 1] + meant[at] + meant[at + 2 :]]))
    found = unknown_variables({written: "x", meant: "y", "PATH": "/bin", "STEPSTREAM_KAFKA_SSL_CA": "z"})
    if written in known or written.startswith("STEPSTREAM_KAFKA_"):
        assert found == {}
    else:
        assert list(found) == [written]
        assert "did you mean STEPSTREAM_" in found[written]


def test_a_misspelt_token_is_named() -> None:
    """A misspelt token variable is reported; an unknown variable that is empty is ignored."""
    found = unknown_variables({"STEPSTREAM_DASHBORD_TOKEN": "x", "STEPSTREAM_FOO": ""})
    assert found == {
        "STEPSTREAM_DASHBORD_TOKEN": "STEPSTREAM_DASHBORD_TOKEN (did you mean STEPSTREAM_DASHBOARD_TOKEN?)"
    }


def test_what_kubernetes_adds_for_a_service_is_no_setting(tmp_path: Path) -> None:
    """Variables that Kubernetes sets for a Service named stepstream-… are not read as settings."""
    environ = {
        "STEPSTREAM_HOME": str(tmp_path),
        "STEPSTREAM_DASHBOARD_SERVICE_HOST": "10.96.0.19",
        "STEPSTREAM_DASHBOARD_SERVICE_PORT": "80",
        "STEPSTREAM_DASHBOARD_PORT": "tcp://10.96.0.19:80",
        "STEPSTREAM_DASHBOARD_PORT_80_TCP": "tcp://10.96.0.19:80",
        "STEPSTREAM_DASHBOARD_PORT_80_TCP_ADDR": "10.96.0.19",
        "STEPSTREAM_KAFKA_SERVICE_HOST": "10.96.0.20",
        "STEPSTREAM_KAFKA_SERVICE_PORT_CLIENTS": "9092",
        "STEPSTREAM_KAFKA_PORT": "tcp://10.96.0.20:9092",
        "STEPSTREAM_KAFKA_PORT_9092_TCP_PROTO": "tcp",
        "STEPSTREAM_KAFKA_SASL_USERNAME": "u",
    }
    found = load(environ)
    assert found.dashboard_port == 8050
    assert found.kafka == {"sasl.username": "u"}


def test_settings_of_topics_are_kafkas_own(tmp_path: Path) -> None:
    """Topic settings are read from the environment and from the file, nested or not."""
    text = '[topics.steps]\nretention.ms = 1\n[topics.all]\n"compression.type" = "zstd"\n'
    (tmp_path / "stepstream.toml").write_text(text)
    environ = {"STEPSTREAM_HOME": str(tmp_path), "STEPSTREAM_TOPICS_ALL_MIN_INSYNC_REPLICAS": "2"}
    assert load(environ).topics == {
        "steps.retention.ms": "1",
        "all.compression.type": "zstd",
        "all.min.insync.replicas": "2",
    }
