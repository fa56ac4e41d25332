"""Two Q-learners teach each other tic-tac-toe: two agents in one run.

    python examples/tictactoe_selfplay.py

`agent_id` names the player of each step. Losses become draws as both learn; the win rate against a
player who moves at random (`run.log`) shows how good they really are.
"""

import argparse
import os
import time
from collections import defaultdict

import numpy as np
import stepstream
from pettingzoo.classic import tictactoe_v3

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, no window is needed


class Player:
    """A table of action values by board, as the player sees it: own marks, then the other's."""

    def __init__(self, rng, learning_rate=0.5):
        self.values = defaultdict(lambda: np.zeros(9))
        self.rng, self.learning_rate = rng, learning_rate

    def choose(self, observation, epsilon):
        """A legal move: the best one, or with probability `epsilon` any."""
        legal = np.flatnonzero(observation["action_mask"])
        if self.rng.random() < epsilon:
            return int(self.rng.choice(legal))
        values = self.values[board(observation)][legal]
        return int(self.rng.choice(legal[values == values.max()]))

    def learn(self, before, action, reward, observation, over):
        """Move the value of an action towards what came of it; returns the error."""
        legal = np.flatnonzero(observation["action_mask"])
        future = 0.0 if over or not len(legal) else self.values[board(observation)][legal].max()
        error = reward + 0.95 * future - self.values[before][action]
        self.values[before][action] += self.learning_rate * error
        return float(error)


def board(observation):
    """The position as a key."""
    return observation["observation"].tobytes()


def play(env, players, epsilon, run=None, seed=None):
    """One game; what a player did is judged at its next turn. Returns the last rewards by player."""
    env.reset(seed=seed)
    moved, outcome = {}, {}
    for name in env.agent_iter():
        observation, reward, terminated, truncated, _ = env.last()
        if name in moved and run is not None:
            position, action = moved[name]
            error = players[name].learn(position, action, reward, observation, terminated)
            run.step(
                agent_id=name,
                observation=np.frombuffer(position, np.int8).reshape(3, 3, 2) @ [1, -1],
                action=action,
                reward=reward,
                terminated=terminated,
                truncated=truncated,
                frame=env.render,  # drawn only when a picture is due
                td_error=error,
                epsilon=epsilon,
            )
        outcome[name] = reward
        if terminated or truncated:
            env.step(None)
            continue
        action = players[name].choose(observation, epsilon)
        moved[name] = board(observation), action
        env.step(action)
    return outcome


def against_chance(env, player, rng, games=40):
    """How much of its games as `player_1` a player wins against random moves."""
    chance = {"player_1": player, "player_2": Player(rng)}
    return sum(play(env, chance, epsilon=0.0)["player_1"] > 0 for _ in range(games)) / games


def train(run, episodes, seed, steps_per_second):
    """Play against each other and learn."""
    rng = np.random.default_rng(seed)
    env = tictactoe_v3.env(render_mode="rgb_array", screen_height=300)
    quiet = tictactoe_v3.env()
    players = {name: Player(rng) for name in env.possible_agents}
    draws = 0.0
    for game in range(episodes):
        epsilon = max(0.02, 0.8 * (1 - game / (0.7 * episodes)))
        start = time.perf_counter()
        outcome = play(env, players, epsilon, run, seed + game)
        draws += 0.02 * ((outcome["player_1"] == 0) - draws)
        if game % 100 == 0:
            won = against_chance(quiet, players["player_1"], rng)
            positions = sum(len(player.values) for player in players.values())
            found = {"draw_rate": draws, "won_against_chance": won, "positions": positions}
            run.log(found, step=game, agent_id="player_1")
        if steps_per_second:
            time.sleep(max(0.0, 8 / steps_per_second - (time.perf_counter() - start)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two tabular agents learn tic-tac-toe from each other.")
    parser.add_argument("--episodes", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps-per-second", type=float, default=250, help="0: as fast as it goes")
    arguments = parser.parse_args()
    config = {"learning_rate": 0.5, "gamma": 0.95, "seed": arguments.seed}
    with stepstream.init(
        project="examples", env_id="tictactoe_v3", algorithm="q-learning", config=config
    ) as run:
        train(run, arguments.episodes, arguments.seed, arguments.steps_per_second)
