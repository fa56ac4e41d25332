"""Values of any library are copied at the call and read later."""

import argparse
import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid
from collections import OrderedDict, deque

import numpy as np
import pytest
import stepstream


class Colour(enum.Enum):
    """A user's own type."""

    RED = 1


@dataclasses.dataclass
class Options:
    """Hyperparameters."""

    lr: float = 0.1
    layers: tuple = (64, 64)


def _action(home, run, value):
    run.step(action=value)
    run.finish()
    return home.lines("step")[0]["action"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(7), 7),
        (np.array([7.5]), 7.5),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["a", "b"]), ["a", "b"]),
        ({"a": np.array([1.5, 2.5]), "b": (np.int8(1), None)}, {"a": [1.5, 2.5], "b": [1, None]}),
        (True, True),
        ("e2e4", "e2e4"),
        (10**30, 10**30),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        (OrderedDict(a=1), {"a": 1}),
        ({3, 1, 2}, [1, 2, 3]),
        (b"bytes", "bytes"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (pathlib.Path("a/b"), "a/b"),
        (decimal.Decimal("0.1"), "0.1"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (Options(), {"lr": 0.1, "layers": [64, 64]}),
        (argparse.Namespace(lr=1), {"lr": 1}),
        ("\ud800 \0 ü", "\ud800 \0 ü"),
    ],
    ids=repr,
)
def test_a_value_arrives(home, run, value, read):
    """A value of a known type arrives as the JSON that one would expect of it."""
    assert _action(home, run, value) == read


@pytest.mark.filterwarnings("ignore::stepstream.StepstreamWarning")
@pytest.mark.parametrize("value", [Colour.RED, deque([1]), 1j, lambda: 1, object])
def test_other_objects_arrive_as_text(home, run, value):
    """An object of any other type arrives as text."""
    assert isinstance(_action(home, run, value), str)


def test_what_changes_after_the_call_was_copied(home, run):
    """A value is copied at the call, because environments reuse their arrays and dicts."""
    observation, info, loss = np.zeros(2), {"lives": [3]}, np.zeros(1)
    run.step(observation=observation, info=info, loss=loss)
    observation += 1
    info["lives"].append(2)
    loss += 1
    run.finish()
    (step,) = home.lines("step")
    assert (step["observation"], step["info"], step["loss"]) == ([0, 0], {"lives": [3]}, 0.0)


def test_tensors_are_understood_without_torch(home, run):
    """A tensor is detached from its graph at the call; a class with torch's names checks the order."""

    class Tensor:
        is_cuda = True
        dtype, shape, ndim = "float32", (), 0

        def __init__(self, detached=False):
            self.detached = detached

        def detach(self):
            return Tensor(detached=True)

        def clone(self):
            assert self.detached
            return self

        def numel(self):
            return 1

        def size(self):
            return ()

        def tolist(self):
            assert self.detached
            return 0.25

    run.step(reward=Tensor(), loss=Tensor())
    run.log({"loss": Tensor()})
    run.finish()
    step, metrics = home.lines("step", "metrics")
    assert (step["reward"], step["loss"], metrics["loss"]) == (0.25, 0.25, 0.25)


def test_returns_of_array_rewards_are_summed(home, run):
    """Rewards that are arrays of one are summed, as vector environments of one give them."""
    run.step(reward=np.array([1.5]))
    run.step(reward=np.float32(2.5), terminated=np.bool_(True))
    run.finish()
    assert home.lines("episode")[0]["episode_return"] == 4.0
    assert stepstream.StepstreamWarning
