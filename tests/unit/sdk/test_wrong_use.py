"""Whatever is logged, training goes on: one warning says what was done, and lost rows are counted.

A warning may come from the writing thread, during any of the calls.
"""
# ruff: noqa: PT031 - so the blocks below hold several calls

import json
import math
import os
import threading
import time
import warnings

import numpy as np
import pytest
import stepstream
from stepstream import _encoder, _values, _writer

from producers.lines.context import Identity
from producers.lines.normalise import Normaliser
from schemas.topics import Kind


class Odd:
    """A value that no JSON has."""

    def __str__(self):
        return "odd"


class Hostile:
    """A value that raises whenever it is looked at."""

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")


def _told(home):
    return [line["message"] for line in home.lines("sdk_warning")]


def _counted(home, name):
    return [line[name] for line in home.lines("metrics") if name in line][-1]


def test_a_value_that_is_no_json_is_kept_as_text(home, run):
    """A value that JSON cannot hold is kept as text, named once in a warning, and counted."""
    with pytest.warns(stepstream.StepstreamWarning, match="Odd") as caught:
        for _ in range(3):
            run.step(reward=1.0, info={"what": Odd()})
        run.finish()
    assert len(caught) == 1
    assert [line["info"] for line in home.lines("step")] == [{"what": "odd"}] * 3
    assert _counted(home, "stepstream/replaced") == 3
    assert any("Odd" in message for message in _told(home))


@pytest.mark.filterwarnings("ignore::stepstream.StepstreamWarning")
def test_a_value_that_raises_costs_nothing_else(home, run):
    """All steps arrive, also the one whose values raise."""
    run.step(reward=1.0)
    run.step(reward=1.0, info=Hostile(), observation=Hostile(), loss=Hostile())
    run.step(reward=1.0)
    run.finish()
    assert len(home.lines("step")) == 3


def test_a_circle_is_no_endless_loop(home, run):
    """A dict that holds itself gives a warning, and its step arrives."""
    circle = {}
    circle["self"] = circle
    with pytest.warns(stepstream.StepstreamWarning):
        run.step(reward=1.0, info=circle)
        run.finish()
    assert len(home.lines("step")) == 1


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_numbers_that_are_none_are_kept(home, run, reward):
    """NaN and the infinities are kept in rewards, metrics and arrays, in a batch and alone."""
    for _ in range(3):
        run.step(reward=reward, loss=reward, action=float(reward), observation=np.array([reward, 1.0]))
    run.step(reward=1.0, terminated=True, text='":nan,', loss=float(reward))
    run.log({"loss": reward})
    run.finish()
    *steps, last = home.lines("step")
    for step in steps:
        for value in (step["reward"], step["loss"], step["action"], step["observation"][0]):
            assert value == pytest.approx(float(reward), nan_ok=True)
    assert last["text"] == '":nan,'
    assert last["loss"] == pytest.approx(float(reward), nan_ok=True)
    assert home.lines("metrics")[0]["loss"] == pytest.approx(float(reward), nan_ok=True)


def test_a_huge_array_is_summed_up(home, run):
    """A huge array is reduced to its shape and range; a small one stays whole."""
    with pytest.warns(stepstream.StepstreamWarning, match="too large"):
        run.step(observation=np.arange(1_000_000, dtype=np.float32), action=np.array([1, 2]))
        run.finish()
    (step,) = home.lines("step")
    assert step["observation"] == {"shape": [1_000_000], "dtype": "float32", "min": 0.0, "max": 999_999.0}
    assert step["action"] == [1, 2]


def test_a_huge_text_is_cut(home, run):
    """A text over the limit of one value is cut, and a warning says so."""
    with pytest.warns(stepstream.StepstreamWarning, match="characters"):
        run.step(info={"page": "x" * (_values.MAX_CHARS + 1)})
        run.finish()
    assert len(home.lines("step")[0]["info"]) < 400


@pytest.mark.parametrize(
    "name", ["a name with spaces", 'a "quoted" one', "50 %", "%s", "ünï", "a\\", "", "a\nb"]
)
def test_any_metric_name_is_kept(home, run, name):
    """Any metric name is kept in steps, episodes and logs."""
    for _ in range(2):
        run.step(reward=1.0, **{name: 0.5})
    run.episode(episode_return=1.0, **{name: 0.5})
    run.log({name: 0.5})
    run.finish()
    assert [line[name] for line in home.lines("step", "episode", "metrics")] == [0.5] * 4


@pytest.mark.parametrize("name", ["t", "return", "seed", "type", "ts", "run_id", "step", "metrics"])
def test_a_metric_named_like_a_field_is_no_field(home, run, name):
    """A metric named like a field is read as a metric, whole or not, in a step and in a log."""
    for number in (0.5, 7):
        run.step(reward=1.0, **{name: number, "none": None, "loss": 2})
        run.log({name: number, "loss": 2})
    run.finish()
    normalise = Normaliser(Identity("s", "r", sdk=True))
    events = [normalise(text.encode(), seq, 0) for seq, text in enumerate(home.texts(), 1)]
    read = [json.loads(event.record["metrics"]) for event in events if event.kind is not Kind.RUNS]
    assert read == [{name: number, "loss": 2} for number in (0.5, 7) for _ in ("step", "log")]
    assert [event.kind for event in events[1:-1]] == [Kind.STEPS, Kind.METRICS] * 2


def test_every_float_is_read_as_it_was(home, run):
    """Every float, also NaN and the infinities, is read bit for bit as it was logged."""
    floats = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 1 / 3, math.nan, math.inf, -math.inf]
    for each in floats:
        run.step(reward=each, loss=each, **{'a, "name"': -each})
    run.finish()
    normalise = Normaliser(Identity("s", "r", sdk=True))
    steps = [
        normalise(text.encode(), 1, 0).record for text in home.texts() if text.startswith('{"type":"step"')
    ]
    read = [json.loads(step["metrics"]) for step in steps]
    assert [repr(float(each["loss"])) for each in read] == list(map(repr, floats))
    assert [repr(float(each['a, "name"'])) for each in read] == [repr(-each) for each in floats]
    assert [repr(step["reward"]) for step in steps] == list(map(repr, floats))


def test_a_step_after_finish_is_dropped_and_counted(home, run):
    """A step after finish is dropped with one warning, and counted in a stream of its own."""
    run.step(reward=1.0)
    run.finish()
    with pytest.warns(stepstream.StepstreamWarning, match="finished") as caught:
        run.step(reward=1.0)
        run.log({"loss": 1.0})
    assert len(caught) == 1
    run._tell_late()
    assert len(home.lines("step")) == 1
    assert _counted(home, "stepstream/dropped") == 2


def test_finish_twice_is_one_end(home, run):
    """A run that is finished twice ends once, with the first status."""
    run.finish("failed")
    run.finish()
    assert [line["status"] for line in home.lines("run_completed")] == ["failed"]


def test_two_runs_at_once_do_not_mix(home):
    """Two open runs do not mix; the module logs to the newer one, and one warning says so."""
    first = stepstream.init(run_id="a")
    with pytest.warns(stepstream.StepstreamWarning, match="beside"):
        second = stepstream.init(run_id="b")
    first.step(reward=1.0)
    stepstream.step(reward=2.0)
    first.finish()
    second.finish()
    assert {(line["run_id"], line["reward"]) for line in home.lines("step")} == {("a", 1.0), ("b", 2.0)}
    assert len(home.streams()) == 2


def test_two_runs_under_one_run_id_of_the_environment_are_two_runs(home, monkeypatch):
    """`stepstream run --run-id X` names the first run of a process; a second gets an id of its own."""
    monkeypatch.setenv("STEPSTREAM_RUN_ID", "X")
    stepstream.init().finish()
    stepstream.init().finish()
    ids = [line["run_id"] for line in home.lines("run_started")]
    assert "X" in ids
    assert len(set(ids)) == 2


def test_a_full_disk_drops_and_counts_and_recovers(home, run, monkeypatch):
    """On a full disk rows wait in memory, then are dropped; the lost ones are counted once there is room."""
    monkeypatch.setattr(_writer, "MAX_PENDING", 100_000)
    full = True

    class Disk:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, descriptor, data):
            if full:
                raise OSError(28, "No space left on device")
            return os.write(descriptor, data)

    import stepstream._spool

    monkeypatch.setattr(stepstream._spool, "os", Disk())
    with pytest.warns(stepstream.StepstreamWarning, match="No space left"):
        for _ in range(20):
            for _ in range(100):
                run.step(reward=1.0)
            run.flush()
    full = False
    run.step(reward=7.0)
    run.finish()
    arrived = len(home.lines("step"))
    assert home.lines("step")[-1]["reward"] == 7.0
    assert 0 < arrived < 2001
    assert arrived + _counted(home, "stepstream/dropped") >= 2001


def test_a_home_that_cannot_be_written_is_no_loss(home, monkeypatch, tmp_path):
    """Where the home cannot be written, a run goes to a temporary folder; a warning says how to ship it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEPSTREAM_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.warns(stepstream.StepstreamWarning, match="forward --dir"):
        run = stepstream.init()
        run.step(reward=1.0)
        run.finish()
    assert list(tmp_path.glob("stepstream-*/spool/*/*.jsonl"))


def test_a_clock_that_jumps_back_turns_no_order_around(home, monkeypatch):
    """After the clock jumps back, the lines' times still ascend, and one warning says so."""
    now = [1_800_000_000_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: now[0] + time.monotonic_ns())
    run = stepstream.init()
    run.step(reward=1.0)
    run.flush()
    now[0] -= 3600 * 1_000_000_000
    with pytest.warns(stepstream.StepstreamWarning, match="clock"):
        run.step(reward=1.0)
        run.finish()
    times = [line["ts"] for line in home.lines("run_started", "step")]
    assert times == sorted(times)


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_does_not_end_training(home, run, capsys):
    """Under `python -W error` a warning ends no training: its message goes to stderr."""
    run.step(reward=1.0, info=Odd())
    stepstream.nothing_of_the_kind()
    run.finish()
    assert "nothing_of_the_kind" in capsys.readouterr().err
    assert home.lines("run_completed")


@pytest.mark.filterwarnings("ignore::stepstream.StepstreamWarning")
def test_wrong_arguments_raise_nothing(home, run):
    """Values of the wrong kind in any field raise nothing, and a later step arrives."""
    run.step(reward="much", terminated="yes", truncated=[1], episode_index="x", step_index=object())
    run.step(agent_id=["a"], reward=1.0)
    run.step(reward=None, action=b"bytes", observation={1, 2}, info=[])
    run.episode(episode_return="much", episode_index="x")
    run.log(None)
    run.log([1])
    run.log({1: 2, None: 3}, step="x")
    run.frame("text")
    run.frame(3)
    run.frame(np.zeros((2, 2, 7)))
    run.step(reward=1.0)
    run.finish()
    assert home.lines("step")[-1]["reward"] == 1.0


def test_more_rows_than_the_buffer_holds_are_written_by_the_call(home, run, monkeypatch):
    """A loop that logs 100,000 steps without a pause loses none."""
    for number in range(100_000):
        run.step(reward=number)
    run.finish()
    assert [line["reward"] for line in home.lines("step")] == list(range(100_000))


def test_threads_lose_nothing(home, run):
    """Several threads log to one run, and every step arrives in the order of its agent."""

    def log(agent):
        for _ in range(5000):
            run.step(reward=1.0, agent_id=agent)

    threads = [threading.Thread(target=log, args=(f"a{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    counts = {}
    for line in home.lines("step"):
        assert line["step_index"] == counts.get(line["agent_id"], 0)
        counts[line["agent_id"]] = line["step_index"] + 1
    assert counts == {f"a{number}": 5000 for number in range(4)}


def test_new_metric_names_in_each_step_do_not_fill_the_memory(home, run):
    """The templates of metric names are remembered only up to a limit."""
    for number in range(3000):
        run.step(reward=1.0, **{f"name{number}": 1})
    run.finish()
    assert home.lines("step")[-1]["name2999"] == 1
    assert len(run._writer._encoder.plans) <= _encoder.MAX_PLANS


def test_a_disabled_run_writes_nothing(home):
    """A run with mode="disabled" writes nothing and gives no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with stepstream.init(mode="disabled") as run:
            run.step(reward=1.0)
            run.log({"loss": 1.0})
    assert not home.streams()
