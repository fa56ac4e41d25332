"""The PettingZoo wrappers against PettingZoo."""

import pytest

pytest.importorskip("pettingzoo")

from pettingzoo.classic import rps_v2, tictactoe_v3
from stepstream.integrations.pettingzoo import StreamAEC, StreamParallel


def test_agents_in_turn(home, run):
    """Both players have an episode for each game, with the reward that the game gave them."""
    env = StreamAEC(tictactoe_v3.env(render_mode="rgb_array", screen_height=90), run)
    results, moves = [], 0
    for game in range(10):
        env.reset(seed=game)
        env.action_space("player_1").seed(game)
        outcome = {}
        for agent in env.agent_iter():
            observation, reward, terminated, truncated, _ = env.last()
            outcome[agent] = reward
            legal = observation["action_mask"]
            action = None if terminated or truncated else env.action_space(agent).sample(legal)
            moves += action is not None
            env.step(action)
        results.append(outcome)
    run.finish()
    for agent in ("player_1", "player_2"):
        episodes = [line for line in home.lines("episode") if line["agent_id"] == agent]
        assert [line["episode_return"] for line in episodes] == [outcome[agent] for outcome in results]
    assert len(home.lines("step")) == moves
    assert any("frame_b64" in line for line in home.lines("step"))


def test_agents_at_once(home, run):
    """Every agent of a parallel environment has its steps under its own name."""
    env = StreamParallel(rps_v2.parallel_env(max_cycles=5), run)
    totals = {}
    for game in range(3):
        env.reset(seed=game)
        while env.agents:
            _, rewards, *_ = env.step({agent: env.action_space(agent).sample() for agent in env.agents})
            for agent, reward in rewards.items():
                totals[agent] = totals.get(agent, 0) + reward
    run.finish()
    sums = {}
    for line in home.lines("episode"):
        sums[line["agent_id"]] = sums.get(line["agent_id"], 0) + line["episode_return"]
        assert line["truncated"] is True
    assert sums == totals
    assert len(home.lines("episode")) == 6
