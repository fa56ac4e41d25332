"""The Stable-Baselines3 callback in a real training, compared with SB3's own Monitor file."""

import csv

import pytest

pytest.importorskip("stable_baselines3", reason="needs torch, whose wheel for Linux is gigabytes with CUDA")

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stepstream.integrations.sb3 import StepstreamCallback


def test_what_arrives_is_what_the_monitor_wrote(home, run, tmp_path):
    """Every episode arrives with return and length, and the logger's values arrive at its own steps."""
    env = Monitor(gym.make("CartPole-v1"), str(tmp_path / "monitor.csv"))
    model = PPO("MlpPolicy", env, n_steps=256, seed=1, device="cpu")
    model.learn(1024, callback=StepstreamCallback(run))
    run.finish()
    with (tmp_path / "monitor.csv").open() as file:
        next(file)
        written = [(float(row["r"]), int(row["l"])) for row in csv.DictReader(file)]
    assert [(line["episode_return"], line["episode_length"]) for line in home.lines("episode")] == written
    steps = [line["step"] for line in home.lines("metrics") if "train/loss" in line]
    assert steps == [512, 768, 1024]
