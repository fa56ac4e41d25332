"""Tabular Q-learning on Taxi, streamed with the SDK, with pictures of the town.

python examples/q_learning_taxi.py                        # waits in the spool until `stepstream up` runs
stepstream run -- python examples/q_learning_taxi.py      # the same, with the log and heartbeats of `run`
"""

import argparse
import os
import time

import gymnasium as gym
import numpy as np
import stepstream

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, no window is needed
TAXI = max(name for name in gym.registry if name.startswith("Taxi-v"))  # v3 until Gymnasium 1.2, then v4


def train(run, episodes, seed, steps_per_second):
    """Learn to fetch and bring passengers; returns the table of action values."""
    rng = np.random.default_rng(seed)
    env = gym.make(TAXI, render_mode="rgb_array")
    q = np.zeros((env.observation_space.n, env.action_space.n))
    learning_rate, gamma = run.config["learning_rate"], run.config["gamma"]
    for episode in range(episodes):
        state, _ = env.reset(seed=seed + episode)
        epsilon = 0.1 * 0.99**episode
        done = False
        while not done:
            explore = rng.random() < epsilon
            action = int(rng.integers(env.action_space.n) if explore else q[state].argmax())
            next_state, reward, terminated, truncated, _ = env.step(action)
            target = reward + gamma * (not terminated) * q[next_state].max()
            error = target - q[state, action]
            q[state, action] += learning_rate * error
            run.step(
                observation=state,
                action=action,
                reward=reward,
                terminated=terminated,
                truncated=truncated,
                frame=env.render,  # drawn only when a picture is due
                td_error=error,
                epsilon=epsilon,
            )
            state, done = next_state, terminated or truncated
            time.sleep(1 / steps_per_second if steps_per_second else 0)
    return q


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Q-learning on Taxi, with the stepstream SDK.")
    parser.add_argument("--episodes", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps-per-second", type=float, default=300, help="0: as fast as it goes")
    arguments = parser.parse_args()
    config = {"learning_rate": 0.5, "gamma": 0.95, "seed": arguments.seed}
    with stepstream.init(project="examples", env_id=TAXI, algorithm="q-learning", config=config) as run:
        train(run, arguments.episodes, arguments.seed, arguments.steps_per_second)
