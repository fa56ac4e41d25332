"""The callback for transformers' Trainer, driven by transformers' own state and control, and log_rollout."""

import pytest
from stepstream.rollouts import log_rollout


def test_the_trainers_logs_arrive_at_its_global_step(home):
    """The main process's logs alone arrive, at the global step, with the arguments as config."""
    transformers = pytest.importorskip("transformers", reason="make test-integrations has it")
    from stepstream.integrations.transformers import StepstreamCallback

    class Arguments:
        def to_sanitized_dict(self):
            return {"learning_rate": 1e-5, "output_dir": "x"}

    callback, control = StepstreamCallback(), transformers.TrainerControl()
    state = transformers.TrainerState(is_world_process_zero=True)
    other = transformers.TrainerState(is_world_process_zero=False)
    callback.on_train_begin(Arguments(), state, control, model=None)
    for step in (10, 20):
        state.global_step = other.global_step = step
        callback.on_log(Arguments(), state, control, logs={"loss": 1 / step, "rewards/format": 0.5})
        callback.on_log(Arguments(), other, control, logs={"loss": 99.0})
    callback.run.finish()
    assert home.lines("run_started")[-1]["config"]["learning_rate"] == 1e-5
    metrics = home.lines("metrics")
    assert [(line["step"], line["loss"]) for line in metrics] == [(10, 0.1), (20, 0.05)]
    assert metrics[0]["rewards/format"] == 0.5


def test_a_rollout_is_an_episode_of_text(home, run):
    """Prompt and answer are observation and action; rewards have names, and their sum is the return."""
    log_rollout("2+2?", "4", rewards={"correct": 1.0, "format": 0.5}, group="q1", step=7, run=run)
    run.finish()
    (step,) = home.lines("step")
    assert (step["observation"], step["action"], step["reward"]) == ("2+2?", "4", 1.5)
    (episode,) = home.lines("episode")
    assert (episode["episode_return"], episode["episode_length"]) == (1.5, 1)
    assert episode["metrics"] == {
        "group": "q1",
        "global_step": 7,
        "reward/correct": 1.0,
        "reward/format": 0.5,
    }


def test_each_turn_of_a_chat_is_a_step(home, run):
    """Each turn of a chat is a step that observes what the model saw since its last turn."""
    chat = [
        {"role": "assistant", "content": "call weather"},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "take an umbrella"},
    ]
    log_rollout([{"role": "user", "content": "umbrella?"}], chat, rewards=1.0, run=run)
    log_rollout("again", "no", rewards=0.0, run=run)
    run.finish()
    assert [(line["observation"], line["action"], line["reward"]) for line in home.lines("step")] == [
        ("user: umbrella?", "call weather", 0.0),
        ("tool: rain", "take an umbrella", 1.0),
        ("again", "no", 0.0),
    ]
    assert [line["episode_index"] for line in home.lines("episode")] == [0, 1]
