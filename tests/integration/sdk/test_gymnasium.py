"""The Gymnasium wrappers against Gymnasium: what arrives is what the library itself counts."""

import pytest

gym = pytest.importorskip("gymnasium")

import numpy as np  # noqa: E402
from stepstream.integrations.gymnasium import Stream, StreamVector  # noqa: E402


def test_every_step_and_episode_arrives(home, run):
    """Returns and lengths are those of RecordEpisodeStatistics; the observation is the one acted on."""
    env = gym.wrappers.RecordEpisodeStatistics(Stream(gym.make("CartPole-v1", render_mode="rgb_array"), run))
    env.action_space.seed(1)
    counted, first = [], env.reset(seed=1)[0]
    while len(counted) < 5:
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        if terminated or truncated:
            counted.append((info["episode"]["r"], info["episode"]["l"]))
            env.reset()
    run.finish()
    assert [(line["episode_return"], line["episode_length"]) for line in home.lines("episode")] == counted
    assert home.lines("step")[0]["observation"] == pytest.approx(first.tolist())
    assert "frame_b64" in home.lines("step")[0]


def test_the_run_is_begun_where_there_is_none(home):
    """A wrapper without a run begins one that has the environment's id."""
    env = Stream(gym.make("FrozenLake-v1", render_mode="ansi"))
    env.reset(seed=1)
    env.step(0)
    env.run.finish()
    assert home.lines("run_started")[0]["env_id"] == "FrozenLake-v1"
    assert home.lines("step")[0]["render_payload"]["mode"] == "ansi"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *[(kind, mode) for kind in ("sync", "async") for mode in ("NEXT_STEP", "SAME_STEP", "DISABLED")],
        ("vector_entry_point", "NEXT_STEP"),  # CartPole's own vector environment knows only this one
    ],
)
def test_vector_environments_count_as_gymnasium_does(home, run, mode, kind):
    """Each autoreset mode gives Gymnasium's episodes; a step that only resets is not counted."""
    autoreset = gym.vector.AutoresetMode[mode]
    if kind == "vector_entry_point":
        envs = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode=kind)
    else:
        envs = gym.make_vec(
            "CartPole-v1", num_envs=3, vectorization_mode=kind, vector_kwargs={"autoreset_mode": autoreset}
        )
    envs = StreamVector(envs, run)
    envs.action_space.seed(1)
    envs.reset(seed=1)
    lengths, returns, resetting = [0] * 3, {0: [], 1: [], 2: []}, [False] * 3
    for _ in range(150):
        _, _, terminated, truncated, _ = envs.step(envs.action_space.sample())
        done = np.logical_or(terminated, truncated)
        for number in range(3):
            lengths[number] += not resetting[number]
            if done[number] and not resetting[number]:
                returns[number].append(lengths[number])
                lengths[number] = 0
        resetting = (done & ~np.array(resetting)).tolist() if mode == "NEXT_STEP" else [False] * 3
        if mode == "DISABLED" and done.any():
            envs.reset(options={"reset_mask": done})
    envs.close()
    run.finish()
    for number in range(3):
        episodes = [line for line in home.lines("episode") if line["agent_id"] == f"env-{number}"]
        assert [line["episode_length"] for line in episodes] == returns[number]
        assert [line["episode_return"] for line in episodes] == returns[number]
    assert len(home.lines("step")) == sum(sum(each) for each in returns.values()) + sum(lengths)
