"""The oldest promised Python runs the SDK, because training environments are old."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import stepstream

WORKER = r"""
import argparse, array, os, sys, warnings
import stepstream as wandb
from stepstream import rollouts, tensorboard

if sys.version_info[:2] != (3, 9):
    sys.exit("no Python 3.9")
warnings.simplefilter("ignore")
config = argparse.Namespace(lr=0.1, layers=(64, 64))
with wandb.init(project="p", config=config, tags=["old"], unknown=1) as run:
    assert "stepstream" in repr(run) and wandb.run is run and run.tags == ["old"]
    run.config.update({"gamma": 0.99})
    for number in range(300):
        run.step(reward=1.0, action=1, loss=number / 3, terminated=number % 100 == 99)
    run.step(reward="odd", observation={"a": [1, {2}]}, info=object(), frame=[[[1, 2, 3]] * 4] * 4, t=1)
    run.step(agent_id="b", reward=float("nan"), frame=lambda: "ansi", step_index=7, big=10**5000)
    run.step(agent_id="b", **{'a "name"\\': 0.5, "50 %": 1.5, "{x}": True, "flag": None})
    run.episode(episode_return=1.0, seed=3)
    run.frame(b"\x89PNG not really")
    wandb.log({"loss": 0.3, "nested": {"a": 1}, "view": wandb.Image([[1, 2]], caption="c")}, step=4)
    wandb.log({"loss": 0.2}, commit=False)
    wandb.log({"more": 1})
    rollouts.log_rollout([{"role": "user", "content": "?"}], "!", rewards={"good": 1.0}, group=1)
    writer = tensorboard.SummaryWriter("runs/x", run=run)
    writer.add_scalar("charts/episodic_return", 5.0, 10)
    writer.add_scalar("charts/episodic_length", 3, 10)
    writer.add_scalars("losses", {"a": 1.0}, 2)
    writer.add_text("hyperparameters", "|param|value|\n|-|-|\n|seed|1|")
    writer.close()
    wandb.anything.of.wandb()
    child = os.fork()
    if child == 0:
        run.step(reward=1.0, agent_id="child")
        sys.exit(0)
    os.waitpid(child, 0)
run.step(reward=1.0)
"""


def _python39():
    """Find an interpreter of Python 3.9 on the path or in pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    found = [shutil.which("python3.9"), *map(str, pyenv.glob("versions/3.9*/bin/python"))]
    for python in filter(None, found):
        asked = [python, "-c", "import sys; print(*sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True).stdout.split() == ["3", "9"]:
            return python
    return None


def test_python_3_9_runs_it(home):
    """Python 3.9 runs right and wrong calls of the SDK without an error, and what was logged arrives."""
    python = _python39()
    if python is None:
        pytest.skip("no Python 3.9 here")
    path = str(Path(stepstream.__file__).parents[1])
    done = subprocess.run(
        [python, "-c", WORKER],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    steps = home.lines("step")
    agents = [line.get("agent_id") for line in steps]
    assert (agents.count(None), agents.count("b"), agents.count("child")) == (302, 2, 1)
    assert [line["loss"] for line in steps[:300]] == [number / 3 for number in range(300)]
    assert [line["episode_length"] for line in home.lines("episode")][:3] == [100, 100, 100]
    assert [line["loss"] for line in home.lines("metrics") if "loss" in line] == [0.3, 0.2]
    assert home.lines("run_started")[-1]["config"] == {
        "lr": 0.1,
        "layers": [64, 64],
        "gamma": 0.99,
        "seed": 1,
    }
    assert home.lines("run_completed")[0]["status"] == "completed"
    assert home.lines("metrics")[-1]["stepstream/dropped"] == 1
