"""verl 0.9: every sample that its reward loop scores, in training and validation.

reward.reward_manager.source=importlib
reward.reward_manager.module.path=pkg://stepstream.integrations.verl
reward.reward_manager.name=StepstreamRewardManager
"""

from __future__ import annotations

from typing import Any

from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

from stepstream import rollouts
from stepstream._newest import newest_or_new


class StepstreamRewardManager(NaiveRewardManager):
    """verl's own `naive` manager, which calls `compute_score`; what it says of a sample is logged.

    It runs in verl's reward workers, one process each: set `STEPSTREAM_RUN_ID`, so that they log to one run.
    """

    async def run_single(self, data: Any) -> dict:
        """Score a sample as before, and log it."""
        scored = await super().run_single(data)
        run = newest_or_new()
        with rollouts.guarded(run, "a sample"):
            rollouts.log_rollout(**_sample(data[-1:][0], self.tokenizer), **_scores(scored), run=run)
        return scored


def _sample(item: Any, tokenizer: Any) -> dict[str, Any]:
    """Texts, ids and group of one item of verl's batch: prompts are padded left, responses right."""
    said, prompt, mask = item.batch["responses"], item.batch["prompts"], item.batch["attention_mask"]
    width = said.shape[-1]
    ids = said[: int(mask[-width:].sum())]
    known = item.non_tensor_batch
    told = known.get("raw_prompt")
    if told is None:
        told = tokenizer.decode(prompt[mask[: prompt.shape[-1]].bool()], skip_special_tokens=True)
    extra = known.get("tool_extra_fields") or {}
    versions = extra.get("min_global_steps"), extra.get("max_global_steps")
    return {
        "prompt": told if isinstance(told, str) else list(told),
        "completion": tokenizer.decode(ids, skip_special_tokens=True),
        "group": known.get("uid"),
        "policy_version": versions,
        "input_tokens": int(mask[:-width].sum()),
        "output_tokens": len(ids),
        "tokens": {"token_ids": ids},
    }


def _scores(scored: dict) -> dict[str, Any]:
    """The score is the reward; other numbers that `compute_score` returned are metrics."""
    extra = scored.get("reward_extra_info") or {}
    plain = (int, float)
    metrics = {name: value for name, value in extra.items() if name != "score" and isinstance(value, plain)}
    return {"rewards": {"score": scored["reward_score"]}, "metrics": metrics}
