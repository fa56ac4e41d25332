"""Importers keep every readable record of a damaged file; an unreadable record costs no other."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.importers import find
from producers.importers.lines import UNREADABLE, iso
from producers.importers.source import Source, best_names, trail_of
from producers.importers.tfrecords import masked_crc32c
from producers.lines.context import Identity
from producers.lines.normalise import Normaliser
from schemas.topics import Kind

DATA = Path(__file__).parents[2] / "data" / "trackers"
HEADER = '#{"t_start": 1700000000.5, "env_id": "E"}\n'
FILES = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def lines_of(path):
    """Return the lines of the only run that is found."""
    (source,) = find(path).sources
    return [line for line in source.read() if not isinstance(line, str)]


def kinds(lines):
    """Count the kinds of events that the normaliser makes of lines."""
    normalise = Normaliser(Identity("S", "run", None, sdk=True))
    return Counter(
        normalise(json.dumps(line, default=str).encode(), seq, 0).kind for seq, line in enumerate(lines, 1)
    )


def episodes_of(lines):
    """Return return, length and elapsed time of each episode."""
    return [
        (line.get("episode_return"), line.get("episode_length"), line.get("elapsed"))
        for line in lines
        if line["type"] == "episode"
    ]


def monitor(folder, content):
    """Write a Monitor file and return the lines that its import gives."""
    file = folder / "0.monitor.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return lines_of(file)


@given(cut=st.integers(0, 200))
@FILES
def test_a_row_cut_anywhere_is_no_episode(tmp_path, cut):
    """A file that is cut gives only episodes of the whole file; the cut row is none of them."""
    content = HEADER + "r,l,t,won\n" + "".join(f"{-n}.25,{n * 7},{n * 3}.125,True\n" for n in range(1, 9))
    whole = episodes_of(monitor(tmp_path, content))
    found = monitor(tmp_path, content[: len(HEADER) + cut])
    assert episodes_of(found) == whole[: len(episodes_of(found))]
    assert kinds(found)[Kind.DLQ] <= 1


@given(
    junk=st.lists(
        st.tuples(st.integers(0, 5), st.text(max_size=30).filter(lambda text: "\n" not in text)), max_size=4
    )
)
@FILES
def test_lines_between_rows_cost_no_row(tmp_path, junk):
    """Any text between two rows leaves the other rows as they are, if it holds no quote."""
    rows = [f"{n}.5,{n},{n}.5\n" for n in range(1, 6)]
    for at, text in junk:
        rows.insert(at, text.replace('"', "").replace("\r", "") + "\n")
    content = HEADER + "r,l,t\n" + "".join(rows)
    found = episodes_of(monitor(tmp_path, content.encode("utf-8", "replace")))
    wanted = [(n + 0.5, n, n + 0.5) for n in range(1, 6)]
    assert [each for each in found if each in wanted] >= wanted


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_monitor_file_in_any_encoding_is_read(tmp_path, encoding, newline):
    """A Monitor file in UTF-8, UTF-16 or UTF-32 is read; PowerShell writes UTF-16."""
    content = f"{HEADER}r,l,t\n1,2,3.5\n".replace("\n", newline)
    assert episodes_of(monitor(tmp_path, content.encode(encoding))) == [(1.0, 2, 3.5)]


@pytest.mark.parametrize(
    ("body", "episodes", "bad"),
    [
        ("r,l,t\n1,2,3\n1,2\n3,4,5\n", [(1, 2, 3), (3, 4, 5)], 1),
        ("r,l,t\n1,2,3\n4,5#" + HEADER[1:] + "r,l,t\n3,4,5\n", [(1, 2, 3), (3, 4, 5)], 1),
        ("r,l,t1,2,3\n3,4,5\n", [(1, 2, 3), (3, 4, 5)], 0),
        ("r,l,t,is_success1,2,3,True\n3,4,5,False\n", [(1, 2, 3), (3, 4, 5)], 0),
        ("1,2,3\n", [(1, 2, 3)], 0),
        ("r,l,t\n1,2,3\nr,l,t\n3,4,5\n", [(1, 2, 3), (3, 4, 5)], 0),
        ("l,t,r\n2,3,1\n", [(1, 2, 3)], 0),
        ("r,l,t\n1,2.5,3\n1,nan,3\nx,2,3\n,,3\n1,2,3\n", [(1, 2, 3)], 4),
        ("r,l,t\n1,2,1e300\n", [(1, 2, 1e300)], 0),
        ("r,l,t\n,2,3\n", [(None, 2, 3)], 0),
        ('r,l,t,text\n1,2,3,"a\nb, c"\n3,4,5,x\n', [(1, 2, 3), (3, 4, 5)], 0),
        ('r,l,t,text\n1,2,3,"a\n3,4,5,x\n', [(1, 2, 3), (3, 4, 5)], 0),
        ("r,l,t\n1,2,3\n\0\0\0\n3,4,5\n", [(1, 2, 3), (3, 4, 5)], 1),
    ],
)
def test_odd_monitor_files(tmp_path, body, episodes, bad):
    """Each valid row is an episode, and each other row is a dead letter."""
    found = monitor(tmp_path, HEADER + body)
    assert episodes_of(found) == episodes
    assert kinds(found)[Kind.DLQ] == bad


@pytest.mark.parametrize("begin", ["NaN", '"yesterday"', "1e300", "-5", "null"])
def test_a_begin_that_is_no_time_is_kept(tmp_path, begin):
    """If the begin is no time, the episodes are read and no time is invented."""
    found = monitor(tmp_path, f'#{{"t_start": {begin}, "env_id": "E"}}\nr,l,t\n1,2,3\n')
    assert episodes_of(found) == [(1, 2, 3)]
    assert "ts" not in found[0]


@given(seconds=st.floats() | st.integers() | st.text() | st.none() | st.booleans())
def test_any_time_is_a_time_or_none(seconds):
    """Any value gives a time or None, and none raises an error."""
    assert iso(seconds) is None or "T" in iso(seconds)


@given(results=st.lists(st.dictionaries(st.sampled_from(
    ["timesteps_total", "training_iteration", "timestamp", "config", "trial_id", "info", "done", "x/y"]
), JSON), min_size=1, max_size=4))  # fmt: skip
@FILES
def test_any_result_of_rllib_is_a_metric_with_all_its_values(tmp_path, results):
    """Each RLlib result gives metrics, whatever values its fields hold."""
    results[0]["training_iteration"] = 1
    file = tmp_path / "result.json"
    file.write_text("\n".join(json.dumps(each) for each in results) + "\n")
    found = lines_of(file)
    assert kinds(found) == Counter({Kind.RUNS: 2, Kind.METRICS: len(results)})


@pytest.mark.parametrize("content", ["", "{}\n", '{\n "acc": 1.0\n}\n', '[{"training_iteration": 1}]', "x"])
def test_another_programs_result_is_no_run(tmp_path, content):
    """A result.json that another program wrote is left out, and a remark names it."""
    (tmp_path / "result.json").write_text(content)
    (tmp_path / "0.monitor.csv").write_text(HEADER)
    found = find(tmp_path)
    assert [source.path.name for source in found.sources] == ["0.monitor.csv"]
    assert "result.json" in found.remarks[0]


@given(paths=st.sets(st.lists(st.sampled_from(["a", "b", "0", "PPO_1"]), min_size=1, max_size=5).map(tuple),
                     min_size=1, max_size=12))  # fmt: skip
def test_every_path_has_a_name_of_its_own(paths):
    """A run is named by the shortest end of its path, in whole folders, that no other run has."""
    sources = [Source(Path("/", *parts), lambda: iter([]), trail_of(Path("/", *parts))) for parts in paths]
    names = best_names(sources, sources, lambda source, name: False)
    assert len(set(names)) == len(names)
    ends = Counter("/".join(s.path.parts[at:]) for s in sources for at in range(1, len(s.path.parts)))
    for source, name in zip(sources, names, strict=True):
        shorter = name.split("/", 1)[1] if "/" in name else None
        assert str(source.path).endswith(f"/{name}") or ends[str(source.path)[1:]] > 1
        assert shorter is None or ends[shorter] > 1 or ends[name] > 1


@given(at=st.integers(20, 3300), value=st.integers(1, 255))
@FILES
def test_a_damaged_event_file_loses_what_is_damaged(tmp_path, at, value):
    """A wrong byte costs at most one record, and no other value changes."""
    data = bytearray((DATA / "events.out.tfevents.1795511653.host").read_bytes())
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    file = folder / "events.out.tfevents.1"
    file.write_bytes(data)
    whole = [json.dumps(line) for line in lines_of(folder) if line["type"] in ("metrics", "episode")]
    data[at % len(data)] ^= value
    file.write_bytes(data)
    found = lines_of(folder)
    values = [json.dumps(line | {"episode_index": 0}) for line in found if line["type"] == "metrics"]
    known = {json.dumps(json.loads(line) | {"episode_index": 0}) for line in whole}
    assert {line for line in values if "episodic_length" not in line} <= known
    assert len([line for line in found if line["type"] in ("metrics", "episode")]) >= len(whole) - 1


@given(at=st.integers(20, 8800), value=st.integers(1, 255))
@FILES
def test_a_damaged_wandb_file_loses_what_is_damaged(tmp_path, at, value):
    """A wrong byte costs at most one record, and no other value changes."""
    data = bytearray((DATA / "run-7nt8e233.wandb").read_bytes())
    file = tmp_path / "run-x.wandb"
    file.write_bytes(data)
    whole = [line["metrics"] for line in lines_of(file) if line["type"] == "metrics"]
    data[at % len(data)] ^= value
    file.write_bytes(data)
    found = [line["metrics"] for line in lines_of(file) if line["type"] == "metrics"]
    assert all(each in whole for each in found)
    assert len(found) >= len(whole) - 1


def tfrecord(data):
    """Frame one record as TensorFlow writes it."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc32c(head)) + data + struct.pack("<I", masked_crc32c(data))


def scalar(tag, value, step, time):
    """Return the bytes of an event with one number."""
    name = tag.encode()
    inside = b"\x0a" + bytes([len(name)]) + name + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(inside)]) + inside
    return (
        b"\x09"
        + struct.pack("<d", time)
        + b"\x10"
        + bytes([step])
        + b"\x2a"
        + bytes([len(summary)])
        + summary
    )


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 100)), max_size=20),
    times=st.sampled_from([1.7e9, math.nan, math.inf, -1.0, 1e300]),
)
@FILES
def test_episodes_of_one_step_have_their_own_lengths(tmp_path, steps, times):
    """Each episode has its own length, also if many end at one step with the same or no valid time."""
    events = b"".join(
        tfrecord(scalar(f"charts/episodic_{word}", length, step, times))
        for step, length in steps
        for word in ("return", "length")
    )
    (tmp_path / "events.out.tfevents.1").write_bytes(tfrecord(scalar("x", 1, 0, 1.7e9)) + events)
    found = episodes_of(lines_of(tmp_path))
    assert [(returned, length) for returned, length, _ in found] == [(n, n) for _, n in steps]


@given(rows=st.lists(st.tuples(JSON, st.integers() | st.text(max_size=3) | st.floats(allow_nan=False))))
@FILES
def test_trackio_of_the_first_versions_is_read(tmp_path, rows):
    """Trackio tables without `run_id` are read, with any JSON value and any step."""
    file = tmp_path / "proj.db"
    file.unlink(missing_ok=True)
    with sqlite3.connect(file) as made:
        made.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step, metrics)"
        )
        made.execute("CREATE TABLE configs (id INTEGER PRIMARY KEY, run_name TEXT, config TEXT)")
        made.execute("INSERT INTO metrics VALUES (1, '2026-01-01', 'r', 0, '{\"loss\": 1}')")
        for values, step in rows:
            step = step if not isinstance(step, int) or abs(step) < 2**63 else 0  # noqa: PLW2901
            said = ("yesterday", "r", step, json.dumps(values))
            made.execute("INSERT INTO metrics (timestamp, run_name, step, metrics) VALUES (?,?,?,?)", said)
    made.close()
    found = lines_of(file)
    assert len(found) == len(rows) + 3
    bad = sum(line["type"] == UNREADABLE for line in found)
    assert kinds(found)[Kind.DLQ] == bad == sum(not isinstance(v, dict) or not v for v, _ in rows)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2)),
        max_size=12,
    )
)
@FILES
def test_mlflow_keeps_every_value(tmp_path, rows):
    """Every value is imported, also values with the same name, step and time."""
    file = tmp_path / "mlflow.db"
    file.unlink(missing_ok=True)
    with sqlite3.connect(file) as made:
        made.executescript(
            "CREATE TABLE experiments (experiment_id, name, lifecycle_stage);"
            "CREATE TABLE runs (run_uuid, status, start_time, end_time, lifecycle_stage, experiment_id);"
            "CREATE TABLE metrics (key, value, timestamp, run_uuid, step, is_nan);"
            "CREATE TABLE params (key, value, run_uuid);"
            "INSERT INTO experiments VALUES (1, 'kept', 'active'), (2, 'gone', 'deleted');"
            "INSERT INTO runs VALUES ('r', 'FINISHED', 1, 2, 'active', 1),"
            " ('d', 'FINISHED', 1, 2, 'deleted', 1), ('e', 'FINISHED', 1, 2, 'active', 2);"
        )
        made.executemany("INSERT INTO metrics VALUES (?, ?, 1700000000000, 'r', ?, 0)", rows)
    made.close()
    found = lines_of(file)
    values = [
        (name, value, line["step"]) for line in found for name, value in line.get("metrics", {}).items()
    ]
    assert Counter(values) == Counter(rows)
    assert len(find(file).remarks) == 2
