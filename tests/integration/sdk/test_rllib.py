"""The RLlib callback in a real PPO, compared with what RLlib itself counts."""

import pytest

pytest.importorskip("ray.rllib", reason="make test-integrations has it")
pytest.importorskip("torch", reason="RLlib trains with torch: install python3-torch")

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from stepstream.integrations.rllib import callback


@pytest.mark.parametrize("runners", [0, 1], ids=["in the algorithm's process", "in a process of its own"])
def test_what_arrives_is_what_rllib_counts(home, run, runners):
    """Every episode of the env runners arrives with its return, and every result as metrics."""
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=runners)
        .training(train_batch_size=400, minibatch_size=100, num_epochs=1)
        .callbacks(callback(run))
    )
    algorithm = config.build_algo()
    results = [algorithm.train() for _ in range(2)]
    algorithm.stop()
    ray.shutdown()  # its processes keep the environment, and so the home, that they were started with
    run.finish()
    lines = home.lines("metrics")
    assert [line["step"] for line in lines] == [int(r["num_env_steps_sampled_lifetime"]) for r in results]
    mean = results[-1]["env_runners"]["episode_return_mean"]
    assert lines[-1]["metrics"]["env_runners/episode_return_mean"] == pytest.approx(mean)
    episodes = home.lines("episode")
    assert len(episodes) == results[-1]["env_runners"]["num_episodes_lifetime"]
    assert all(line["episode_return"] == line["episode_length"] for line in episodes)
    assert {line["run_id"] for line in home.lines()} == {"r"}
    assert len(home.streams()) == 1 + runners
