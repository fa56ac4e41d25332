"""Actor-critic on CartPole in plain NumPy: policy and value are one small network each.

    python examples/actor_critic_cartpole.py

Steps, episodes and pictures go by `run.step`, the losses of each update by `run.log`.
"""

import argparse
import os
import time

import gymnasium as gym
import numpy as np
import stepstream

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, no window is needed


class Network:
    """Two layers with tanh between, trained by Adam."""

    def __init__(self, sizes, learning_rate, rng):
        inputs, hidden, outputs = sizes
        self.weights = [
            rng.normal(0, inputs**-0.5, (inputs, hidden)),
            np.zeros(hidden),
            rng.normal(0, 0.1 * hidden**-0.5, (hidden, outputs)),
            np.zeros(outputs),
        ]
        self.first = [np.zeros_like(w) for w in self.weights]
        self.second = [np.zeros_like(w) for w in self.weights]
        self.learning_rate, self.updates = learning_rate, 0

    def __call__(self, x):
        """Outputs for rows of inputs; remembered for the next `descend`."""
        w1, b1, w2, b2 = self.weights
        self.input, self.hidden = x, np.tanh(x @ w1 + b1)
        return self.hidden @ w2 + b2

    def descend(self, gradient):
        """One step of Adam against the gradient of the newest outputs."""
        at_hidden = gradient @ self.weights[2].T * (1 - self.hidden**2)
        gradients = [self.input.T @ at_hidden, at_hidden.sum(0), self.hidden.T @ gradient, gradient.sum(0)]
        self.updates += 1
        for w, g, m, v in zip(self.weights, gradients, self.first, self.second, strict=True):
            m[:] += 0.1 * (g - m)
            v[:] += 0.001 * (g * g - v)
            corrected = m / (1 - 0.9**self.updates), v / (1 - 0.999**self.updates)
            w[:] -= self.learning_rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)


def softmax(logits):
    """Probabilities of the actions, row by row."""
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def advantages(rewards, values, gamma, trace):
    """Generalised advantage estimates of one episode; `values` has one more entry, of its last state."""
    result, running = np.zeros(len(rewards)), 0.0
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * values[t + 1] - values[t] + gamma * trace * running
        result[t] = running
    return result


def play(run, env, actor, rng, *, seed, pause):
    """One episode with the policy as it is; returns what the update needs."""
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, done = [observation], [], [], False
    while not done:
        probabilities = softmax(actor(observation[None]))[0]
        action = int(rng.random() < probabilities[1])
        observation, reward, terminated, truncated, _ = env.step(action)
        run.step(
            observation=observations[-1],
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            frame=env.render,  # drawn only when a picture is due
            p_right=probabilities[1],
        )
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        done = terminated or truncated
        time.sleep(pause)
    return np.array(observations), np.array(actions), np.array(rewards), terminated


def update(actor, critic, episode, config):
    """One gradient step of both networks; returns the losses by name."""
    observations, actions, rewards, terminated = episode
    values = critic(observations)[:, 0]
    if terminated:
        values[-1] = 0.0
    advantage = advantages(rewards, values, config["gamma"], config["trace"])
    error = values[:-1] - (advantage + values[:-1])
    critic(observations[:-1])
    critic.descend(error[:, None] / len(error))

    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    probabilities = softmax(actor(observations[:-1]))
    chosen = np.eye(2)[actions]
    logs = np.log(probabilities)
    entropy = -(probabilities * logs).sum(1)
    push = scaled[:, None] * (probabilities - chosen)
    calm = config["entropy"] * probabilities * (logs + entropy[:, None])
    actor.descend((push + calm) / len(actions))
    return {
        "policy_loss": -(scaled * (chosen * logs).sum(1)).mean(),
        "value_loss": 0.5 * (error**2).mean(),
        "entropy": entropy.mean(),
    }


def train(run, episodes, seed, steps_per_second):
    """Learn to balance."""
    rng = np.random.default_rng(seed)
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    actor = Network((4, run.config["hidden"], 2), run.config["actor_rate"], rng)
    critic = Network((4, run.config["hidden"], 1), run.config["critic_rate"], rng)
    pause = 1 / steps_per_second if steps_per_second else 0
    for number in range(episodes):
        episode = play(run, env, actor, rng, seed=seed + number, pause=pause)
        run.log(update(actor, critic, episode, run.config))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Actor-critic on CartPole in NumPy.")
    parser.add_argument("--episodes", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps-per-second", type=float, default=600, help="0: as fast as it goes")
    arguments = parser.parse_args()
    config = {
        "gamma": 0.99, "trace": 0.95, "entropy": 0.01, "hidden": 32,
        "actor_rate": 0.01, "critic_rate": 0.02, "seed": arguments.seed,
    }  # fmt: skip
    with stepstream.init(
        project="examples", env_id="CartPole-v1", algorithm="actor-critic", config=config
    ) as run:
        train(run, arguments.episodes, arguments.seed, arguments.steps_per_second)
