"""Tabular Q-learning on FrozenLake, streamed with nothing but `print`.

    stepstream run -- python examples/q_learning_frozenlake.py

Each step is one JSON object on one line of stdout; any language can do that. The lake goes along as a
grid picture: small, and drawn sharp by the dashboard.
"""

import argparse
import json
import time

import gymnasium as gym
import numpy as np

TILES = {"S": "start", "F": "ice", "H": "hole", "G": "goal"}


def emit(kind, **fields):
    """One event, one line. `flush` matters: stdout to a pipe is buffered by the block."""
    print(json.dumps({"type": kind, **fields}), flush=True)


def picture(env, state):
    """The lake as rows of words, with the agent on its tile."""
    rows = [[TILES[tile.decode()] for tile in row] for row in env.unwrapped.desc]
    row, column = divmod(state, len(rows[0]))
    rows[row][column] = "agent"
    return {"mode": "grid", "grid": rows}


def train(episodes, seed, steps_per_second):
    """Learn the lake; returns the table of action values."""
    rng = np.random.default_rng(seed)
    env = gym.make("FrozenLake-v1", map_name="4x4", is_slippery=True)
    q = np.zeros((env.observation_space.n, env.action_space.n))
    gamma = 0.99
    emit("run_started", env_id="FrozenLake-v1", algorithm="q-learning", config={"gamma": gamma, "seed": seed})
    for episode in range(episodes):
        state, _ = env.reset(seed=seed + episode)
        epsilon = max(0.02, 1.0 - episode / (0.4 * episodes))
        learning_rate = max(0.05, 0.5 - episode / episodes)
        total, length, done = 0.0, 0, False
        while not done:
            greedy = rng.choice(np.flatnonzero(q[state] == q[state].max()))
            action = int(env.action_space.n * rng.random() if rng.random() < epsilon else greedy)
            next_state, reward, terminated, truncated, _ = env.step(action)
            target = reward + gamma * (not terminated) * q[next_state].max()
            error = target - q[state, action]
            q[state, action] += learning_rate * error
            done = terminated or truncated
            emit(
                "step", episode_index=episode, step_index=length, observation=int(state), action=action,
                reward=float(reward), terminated=terminated, truncated=truncated, epsilon=round(epsilon, 4),
                td_error=round(float(error), 6), render_payload=picture(env, next_state),
            )  # fmt: skip
            state, total, length = int(next_state), total + reward, length + 1
            time.sleep(1 / steps_per_second if steps_per_second else 0)
        emit(
            "episode", episode_index=episode, total_reward=float(total), num_steps=length,
            terminated=terminated, truncated=truncated, seed=seed + episode, epsilon=round(epsilon, 4),
        )  # fmt: skip
    emit("run_completed", status="completed")
    return q


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Q-learning on FrozenLake, as JSON lines on stdout.")
    parser.add_argument("--episodes", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps-per-second", type=float, default=400, help="0: as fast as it goes")
    arguments = parser.parse_args()
    train(arguments.episodes, arguments.seed, arguments.steps_per_second)
