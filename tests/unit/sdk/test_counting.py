"""The SDK counts steps and episodes and sums returns where the caller does not."""

import pytest


def _indices(home):
    return [(line["episode_index"], line["step_index"]) for line in home.lines("step")]


def test_steps_and_episodes_are_counted_from_zero(home, run):
    """A step's numbers go up by one; the step after a terminated one begins the next episode."""
    for terminated in (False, True, False, True):
        run.step(reward=1.0, terminated=terminated)
    run.finish()
    assert _indices(home) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_an_ended_episode_is_written_with_its_sum_and_length(home, run):
    """Without a call of `episode`, the SDK writes an ended episode before the next step or at the end."""
    run.step(reward=1.5)
    run.step(reward=2.0, truncated=True)
    run.step(reward=5.0, terminated=True)
    run.finish()
    assert [line["type"] for line in home.lines()][1:-1] == ["step", "step", "episode", "step", "episode"]
    first, second = home.lines("episode")
    assert (first["episode_return"], first["episode_length"], first["truncated"]) == (3.5, 2, True)
    assert (second["episode_return"], second["episode_length"], second["terminated"]) == (5.0, 1, True)
    assert (first["episode_index"], second["episode_index"]) == (0, 1)


@pytest.mark.parametrize("reward", [{}, {"reward": None}, {"reward": "none"}], ids=str)
@pytest.mark.parametrize("named", [{}, {"episode_index": 0}], ids=["counted", "named"])
def test_a_return_that_no_step_told_is_not_made_up(home, run, reward, named):
    """Steps without a reward have a length and no return, also where other episodes run beside theirs."""
    run.step(**reward, **named)
    run.episode(status="failed")
    run.step(**reward, terminated=True)
    run.finish()
    assert [line["episode_length"] for line in home.lines("episode")] == [1, 1]
    assert not any("episode_return" in line for line in home.lines("episode"))


def test_parts_of_an_episode_are_not_counted_as_the_whole(home, run):
    """Of episodes whose steps come in turns, the last steps are not given as the return and the length."""
    for step in range(2):
        for episode in range(2):
            run.step(reward=1.0, episode_index=episode, step_index=step)
    run.episode(episode_index=1)
    run.episode(episode_index=0, episode_return=2.0)
    run.step(reward=1.0, episode_index=2, step_index=1)
    run.episode()
    run.finish()
    told = [(line.get("episode_return"), line.get("episode_length")) for line in home.lines("episode")]
    assert told == [(None, None), (2.0, None), (1.0, 1)]


def test_a_called_episode_is_the_only_one(home, run):
    """`episode` after the last step replaces the automatic one and completes what it leaves out."""
    run.step(reward=1.0, terminated=True)
    run.episode(episode_return=9.0, won=True)
    run.step(reward=1.0)
    run.finish()
    (episode,) = home.lines("episode")
    assert (episode["episode_return"], episode["episode_length"], episode["won"]) == (9.0, 1, True)
    assert _indices(home) == [(0, 0), (1, 0)]


def test_agents_are_counted_apart(home, run):
    """Two agents in one run have episodes and steps of their own."""
    run.step(agent_id="a", reward=1.0)
    run.step(agent_id="b", reward=2.0, terminated=True)
    run.step(agent_id="a", reward=1.0, terminated=True)
    run.step(agent_id="b", reward=2.0)
    run.finish()
    assert _indices(home) == [(0, 0), (0, 0), (0, 1), (1, 0)]
    assert {line["agent_id"]: line["episode_return"] for line in home.lines("episode")} == {
        "a": 2.0,
        "b": 2.0,
    }


def test_given_indices_are_kept_and_counting_goes_on_from_there(home, run):
    """An index that the caller gives is kept, and steps without one count on from it."""
    run.step(reward=1.0, episode_index=7, step_index=3)
    run.step(reward=1.0)
    run.finish()
    assert _indices(home) == [(7, 3), (7, 4)]


@pytest.mark.parametrize("ended", ["terminated", "truncated"])
def test_either_end_ends_an_episode(home, run, ended):
    """An episode ends when a step is terminated or truncated."""
    run.step(reward=1.0, **{ended: True})
    run.finish()
    (episode,) = home.lines("episode")
    assert episode[ended] is True


def test_log_counts_its_calls_where_no_steps_are_logged(home, run):
    """A log call without a step takes the number of calls before it, or one after the last step given."""
    run.log({"loss": 1.0})
    run.log({"loss": 2.0})
    run.log({"loss": 3.0}, step=10)
    run.log({"loss": 4.0})
    run.finish()
    assert [line["step"] for line in home.lines("metrics")] == [0, 1, 10, 11]


def test_log_is_measured_in_environment_steps_where_there_are_any(home, run):
    """A log call after steps takes their number, so that losses share the axis of the rewards."""
    for _ in range(5):
        run.step(reward=1.0)
    run.log({"loss": 1.0})
    run.finish()
    assert home.lines("metrics")[0]["step"] == 5
