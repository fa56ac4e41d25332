"""The examples run as they stand, learn, and print or spool lines that add up."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


def _lines(program, home, *arguments):
    """What a program printed and what it spooled, as objects."""
    done = subprocess.run(
        [*program, *arguments],
        env={**os.environ, "STEPSTREAM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    spooled = [path.read_text() for path in sorted(home.glob("spool/*/*.jsonl"))]
    return [json.loads(line) for text in [done.stdout, *spooled] for line in text.splitlines()]


def _check_sums(lines):
    """Every episode is the sum of its steps, and the run begins and ends."""
    assert (lines[0]["type"], lines[-1]["type"]) == ("run_started", "run_completed")
    returns, lengths = {}, {}
    for line in lines:
        key = line.get("agent_id"), line.get("episode_index")
        if line["type"] == "step":
            returns[key] = returns.get(key, 0.0) + line["reward"]
            lengths[key] = lengths.get(key, 0) + 1
        elif line["type"] == "episode":
            assert line.get("episode_return", line.get("total_reward")) == pytest.approx(returns.pop(key))
            assert line.get("episode_length", line.get("num_steps")) == lengths.pop(key)
    assert not returns


@pytest.mark.parametrize(
    ("name", "episodes"),
    [
        ("q_learning_frozenlake", 30),
        ("q_learning_taxi", 10),
        ("actor_critic_cartpole", 20),
        ("tictactoe_selfplay", 120),
    ],
)
def test_an_example_streams_what_it_did(tmp_path, name, episodes):
    """An example streams the episodes that it is asked for, with steps that add up and pictures."""
    program = [sys.executable, str(EXAMPLES / f"{name}.py"), "--steps-per-second", "0"]
    lines = _lines(program, tmp_path, "--episodes", str(episodes))
    _check_sums(lines)
    agents = {line.get("agent_id") for line in lines if line["type"] == "episode"}
    assert len([line for line in lines if line["type"] == "episode"]) == episodes * len(agents)
    pictures = [line for line in lines if "frame_b64" in line or "render_payload" in line]
    assert pictures


def test_cartpole_learns(tmp_path):
    """In the CartPole example the last 20 episodes return over four times as much as the first 20."""
    program = [sys.executable, str(EXAMPLES / "actor_critic_cartpole.py"), "--steps-per-second", "0"]
    returns = [
        line["episode_return"]
        for line in _lines(program, tmp_path, "--episodes", "110")
        if line["type"] == "episode"
    ]
    assert sum(returns[-20:]) > 4 * sum(returns[:20])


@pytest.mark.parametrize(
    ("source", "compile_with"),
    [
        ("corridor.rs", ["rustc", "-O", "-o"]),
        ("corridor.cpp", ["g++", "-std=c++17", "-O2", "-o"]),
        ("corridor.go", ["go", "build", "-o"]),
        ("corridor.jl", None),
    ],
)
def test_other_languages_print_the_same_lines(tmp_path, source, compile_with):
    """A program in another language prints lines that add up, without a library of ours."""
    tool = compile_with[0] if compile_with else "julia"
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    program = ["julia", str(EXAMPLES / "other_languages" / source)]
    if compile_with:
        target = str(tmp_path / "corridor")
        path = str(EXAMPLES / "other_languages" / source)
        environment = {**os.environ, "GOCACHE": str(tmp_path / "go"), "GOFLAGS": "-mod=mod"}
        subprocess.run([*compile_with, target, path], check=True, cwd=tmp_path, env=environment, timeout=250)
        program = [target]
    lines = _lines(program, tmp_path / "home", "100")
    _check_sums(lines)
    returns = [line["episode_return"] for line in lines if line["type"] == "episode"]
    assert sum(returns[-20:]) > sum(returns[:20])
