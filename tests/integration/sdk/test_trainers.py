"""The hooks of verl, OpenRLHF and slime, called as those libraries call them.

verl's and OpenRLHF's own code calls them where these are installed (verl 0.9, OpenRLHF 0.11; their torch
brings gigabytes). slime is on no registry: its samples have the fields of `slime/utils/types.py`.
"""

import asyncio
from enum import Enum
from types import SimpleNamespace

import pytest
from stepstream.integrations import openrlhf, slime


class Letters:
    """A tokenizer of letters that is called like those of transformers."""

    def __call__(self, text, **_):
        """A letter is a token."""
        import torch

        return {"input_ids": torch.tensor([[ord(letter) for letter in text]])}

    def decode(self, ids, skip_special_tokens=False):
        """Join the letters; 0 is padding."""
        return "".join(chr(int(number)) for number in ids if int(number))


def test_a_reward_function_of_openrlhf_logs_its_completions(home, run):
    """Answer, reward and extra logs are recorded, an equal prompt is a group, the result is unchanged."""

    @openrlhf.logged
    def reward_func(queries, prompts, labels):
        return {"rewards": [1.0, 0.0], "scores": [1.0, 0.0], "extra_logs": {"words": [3, 4]}}

    said = reward_func(["2+2?4", "2+2?22"], ["2+2?", "2+2?"], ["4", "4"])
    assert said["rewards"] == [1.0, 0.0]
    run.finish()
    assert [(line["observation"], line["action"]) for line in home.lines("step")] == [
        ("2+2?", "4"),
        ("2+2?", "22"),
    ]
    first, second = home.lines("episode")
    assert (first["episode_return"], second["episode_return"]) == (1.0, 0.0)
    assert (first["words"], second["words"]) == (3, 4)
    assert first["rollout"]["group_id"] == second["rollout"]["group_id"]


def test_a_reward_function_of_openrlhf_that_returns_a_tensor(home, run):
    """Rewards in an array are logged; wrong arguments raise the function's own TypeError."""
    numpy = pytest.importorskip("numpy")
    scored = openrlhf.logged(lambda queries, prompts, labels: numpy.array([0.5]))
    assert scored(["ab"], ["a"], ["b"]).tolist() == [0.5]
    with pytest.raises(TypeError):
        scored(["ab"])
    run.finish()
    assert [line["episode_return"] for line in home.lines("episode")] == [0.5]


def test_openrlhf_itself_calls_it(home, run, tmp_path):
    """OpenRLHF's executor loads the reward file and calls its function; each completion is logged."""
    pytest.importorskip("torch")
    agent = pytest.importorskip("openrlhf.utils.agent", reason="OpenRLHF is not installed")
    file = tmp_path / "reward.py"
    file.write_text(
        "from stepstream.integrations.openrlhf import logged\n"
        "@logged\n"
        "def reward_func(queries, prompts, labels, **kwargs):\n"
        "    return {'rewards': 1.0, 'scores': 1.0, 'extra_logs': {'words': 2}}\n"
    )

    class Engine:
        async def generate(self, ids, params, multi_modal_data=None):
            made = SimpleNamespace(token_ids=[ord("4")], finish_reason="stop", logprobs=None)
            return SimpleNamespace(outputs=[made])

    executor = agent.SingleTurnAgentExecutor([str(file)])
    params = SimpleNamespace(max_tokens=4, logprobs=None)

    async def play():
        asked = [executor.execute("2+2?", "4", params, 64, Letters(), Engine()) for _ in range(20)]
        return await asyncio.gather(*asked)

    assert {answer["reward"] for answer in asyncio.run(play())} == {1.0}
    run.finish()
    lines = home.lines("step", "episode")
    assert [line["type"] for line in lines] == ["step", "episode"] * 20
    assert {line["action"] for line in home.lines("step")} == {"4"}
    assert len({line["rollout"]["group_id"] for line in home.lines("episode")}) == 1


def test_verl_itself_calls_the_reward_manager(home, run):
    """verl's manager scores a padded item; texts, token ids, uid, versions and metrics are logged."""
    torch = pytest.importorskip("torch")
    verl = pytest.importorskip("verl", reason="verl is not installed")
    import numpy as np
    from stepstream.integrations.verl import StepstreamRewardManager
    from tensordict import TensorDict

    def compute_score(data_source, solution_str, ground_truth, extra_info):
        return {"score": float(solution_str == ground_truth), "acc": 1.0, "pred": solution_str}

    def item(**more):
        prompt, said = [0, 0, *map(ord, "2+2?")], [ord("4"), 0, 0]
        batch = {
            "prompts": torch.tensor([prompt]),
            "responses": torch.tensor([said]),
            "attention_mask": torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0, 0]]),
        }
        known = {"data_source": "sums", "reward_model": {"ground_truth": "4"}, "uid": "u1", **more}
        arrays = {name: np.array([value], dtype=object) for name, value in known.items()}
        return verl.DataProto(TensorDict(batch, batch_size=1), arrays)

    async def play():
        manager = StepstreamRewardManager(config=None, tokenizer=Letters(), compute_score=compute_score)
        versions = {"min_global_steps": 3, "max_global_steps": 4}
        return [
            await manager.run_single(item(extra_info={})),
            await manager.run_single(item(extra_info={}, tool_extra_fields=versions)),
        ]

    assert [scored["reward_score"] for scored in asyncio.run(play())] == [1.0, 1.0]
    run.finish()
    assert [(line["observation"], line["action"]) for line in home.lines("step")] == [("2+2?", "4")] * 2
    first, second = (line["rollout"] for line in home.lines("episode"))
    assert first["rewards"] == {"score": {"value": 1.0, "weight": None}}
    assert (first["group_id"], first["input_tokens"], first["output_tokens"]) == ("u1", 4, 1)
    assert first["tokens"] == {"token_ids": [ord("4")]}
    assert "policy_start" not in first
    assert (second["policy_start"], second["policy_end"]) == ("3", "4")
    assert home.lines("episode")[0]["acc"] == 1.0


class Status(Enum):
    """slime's `Sample.Status`."""

    COMPLETED = "completed"
    TRUNCATED = "truncated"
    ABORTED = "aborted"


def _sample(**fields):
    known = {
        "group_index": 0, "index": 0, "prompt": "2+2?", "response": "4", "response_length": 2,
        "tokens": [7, 8, 9], "reward": 1.0, "loss_mask": [1, 1], "weight_versions": ["3", "4"],
        "rollout_log_probs": [-0.5, -0.25], "status": Status.COMPLETED, "metadata": {},
    }  # fmt: skip
    return SimpleNamespace(**{**known, **fields})


def test_the_samples_of_slime(home, run):
    """A sample of slime is logged with its group, weighted rewards, versions, status and tokens."""
    samples = [
        _sample(),
        [_sample(index=1, reward={"right": 0.0, "form": 0.5}, status=Status.TRUNCATED)],
        _sample(index=2, reward=None, status=Status.ABORTED, weight_versions=[], rollout_log_probs=None),
    ]
    args = SimpleNamespace(reward_key="right")
    assert slime.log_rollout_data(5, args, samples, {}, 1.0) is False
    run.finish()
    lines = home.lines("episode")
    first, second, third = (line["rollout"] for line in lines)
    assert [one["status"] for one in (first, second, third)] == ["ok", "truncated", "aborted"]
    assert [
        (one["group_id"], one["sample_id"], one["training_step"], one["split"]) for one in (first, third)
    ] == [
        ("0", "0", 5, "train"),
        ("0", "2", 5, "train"),
    ]
    assert first["tokens"] == {"token_ids": [8, 9], "logprobs": [-0.5, -0.25], "mask": [1, 1]}
    assert (first["policy_start"], first["policy_end"]) == ("3", "4")
    assert second["rewards"] == {
        "right": {"value": 0.0, "weight": 1.0},
        "form": {"value": 0.5, "weight": 0.0},
    }
    assert lines[1]["episode_return"] == 0.0
    assert lines[1]["truncated"]
    assert "policy_start" not in third
    assert third["rewards"] == {}


def test_the_evaluation_of_slime(home, run):
    """In an evaluation the group's id begins with the data set, so that two sets stay apart."""
    data = {"math": {"rewards": [1.0], "truncated": [False], "samples": [_sample()]}, "code": {"rewards": []}}
    assert slime.log_eval_rollout_data(5, SimpleNamespace(), data) is False
    run.finish()
    (line,) = home.lines("episode")
    assert (line["rollout"]["split"], line["rollout"]["group_id"]) == ("eval", "math/0")


def test_a_sample_that_cannot_be_read_is_counted(home, run):
    """A sample that cannot be read gives a warning and is counted as dropped; the others are logged."""
    with pytest.warns(UserWarning, match="a sample could not be logged"):
        slime.log_rollout_data(1, SimpleNamespace(), [object(), _sample()], {}, 1.0)
    run.finish()
    assert len(home.lines("episode")) == 1
    assert home.lines("metrics")[-1]["stepstream/dropped"] == 1
