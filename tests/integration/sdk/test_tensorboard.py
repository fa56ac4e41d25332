"""The SummaryWriter stand-in in a script as CleanRL writes them, beside the real writer."""

import random

import pytest
from stepstream.tensorboard import SummaryWriter

TABLE = "|param|value|\n|-|-|\n|learning_rate|0.001|\n|seed|1|\n|cuda|True|\n|env_id|CartPole-v1|"


def _train(writer):
    """A loop of CleanRL's kind: hyperparameters as text, episodes as two scalars, losses by name."""
    rng = random.Random(1)
    writer.add_text("hyperparameters", TABLE)
    for global_step in range(0, 1000, 100):
        if global_step % 200 == 0:
            writer.add_scalar("charts/episodic_return", rng.random() * 100, global_step)
            writer.add_scalar("charts/episodic_length", rng.randrange(100), global_step)
        for tag in ("losses/value_loss", "losses/policy_loss", "charts/SPS"):
            writer.add_scalar(tag, rng.random(), global_step)
    writer.close()


def test_a_cleanrl_script_runs_with_one_changed_import(home):
    """CleanRL's two scalars per episode become an episode, its table the config, all else metrics."""
    writer = SummaryWriter("runs/CartPole-v1__ppo__1")
    _train(writer)
    writer.run.finish()
    started = home.lines("run_started")[-1]
    assert started["name"] == "CartPole-v1__ppo__1"
    assert started["config"] == {
        "learning_rate": 0.001,
        "seed": 1,
        "cuda": True,
        "env_id": "CartPole-v1",
    }
    assert len(home.lines("episode")) == 5
    assert all("episode_length" in line for line in home.lines("episode"))
    assert len(home.lines("metrics")) == 30


def test_the_values_are_those_of_the_real_writer(home, tmp_path):
    """The stand-in records the values that tensorboardX writes to its event files in the same loop."""
    tensorboardx = pytest.importorskip("tensorboardX", reason="make test-integrations has it")
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    real = tensorboardx.SummaryWriter(str(tmp_path / "events"))
    _train(real)
    ours = SummaryWriter("x")
    _train(ours)
    ours.run.finish()
    expected = []
    (path,) = (tmp_path / "events").iterdir()
    for event in loader.LegacyEventFileLoader(str(path)).Load():
        expected += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    expected = [entry for entry in expected if "/" in entry[0] and "text" not in entry[0]]
    got = []
    for line in home.lines("episode", "metrics"):
        if line["type"] == "episode":
            step = line["metrics"]["global_step"]
            got.append(("charts/episodic_return", step, line["episode_return"]))
            got.append(("charts/episodic_length", step, line["episode_length"]))
        else:
            got += [(tag, line["step"], value) for tag, value in line.items() if "/" in tag]
    assert [entry[:2] for entry in got] == [entry[:2] for entry in expected]
    assert [entry[2] for entry in got] == pytest.approx([entry[2] for entry in expected], rel=1e-6)


def test_what_the_writer_has_not_is_named_once(home):
    """A method that the stand-in lacks, such as add_graph, does nothing and is reported once."""
    import stepstream

    writer = SummaryWriter()
    with pytest.warns(stepstream.StepstreamWarning, match="add_graph"):
        writer.add_graph("model")
    writer.add_graph("model")
    writer.run.finish()
    assert len(home.lines("sdk_warning")) == 1


def test_the_real_writer_is_followed(home, tmp_path):
    """With init(sync_tensorboard=True) the values of an unchanged script are recorded as well."""
    tensorboardx = pytest.importorskip("tensorboardX", reason="make test-integrations has it")
    import numpy as np
    import stepstream

    run = stepstream.init(sync_tensorboard=True)
    writer = tensorboardx.SummaryWriter(str(tmp_path / "events"))
    _train(writer)
    writer.add_histogram("weights", np.array([1.0, 3.0]), 7)
    run.finish()
    assert list((tmp_path / "events").iterdir())
    assert len(home.lines("episode")) == 5
    assert len([line for line in home.lines("metrics") if "weights/mean" not in line]) == 30
    assert home.lines("metrics")[-1]["weights/mean"] == 2.0
    assert home.lines("run_started")[-1]["config"]["seed"] == 1
