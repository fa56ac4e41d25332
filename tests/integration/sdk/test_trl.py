"""TRL's own GRPOTrainer trains a tiny language model: what arrives is what the trainer says of itself.

TRL needs a torch that `make test-integrations` does not bring (its wheel brings gigabytes): where it is
installed, this runs. Model, tokenizer and prompts are made here; nothing is downloaded.
"""

import pytest

pytest.importorskip("torch", minversion="2.4", reason="no torch that TRL takes; it would bring gigabytes")
trl = pytest.importorskip("trl", reason="TRL is not installed")

PROMPTS = ["the quick", "brown fox", "lazy dog", "one two"]


def _model(folder):
    """A Llama of a few hundred weights and a tokenizer of a dozen words, as files."""
    import tokenizers
    import transformers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordLevelTrainer(special_tokens=["[PAD]", "[EOS]", "[UNK]"])
    words.train_from_iterator([*PROMPTS, "jumps over a three"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        eos_token="[EOS]",
        unk_token="[UNK]",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _trainer(kind, tmp_path, reward_funcs, **arguments):
    """A trainer of the tiny model, on the CPU."""
    import datasets

    config = {"GRPOTrainer": trl.GRPOConfig, "RLOOTrainer": trl.RLOOConfig}[kind]
    data = datasets.Dataset.from_dict({"prompt": PROMPTS})
    return getattr(trl, kind)(
        model=str(tmp_path / "model"),
        processing_class=_model(tmp_path / "model"),
        reward_funcs=reward_funcs,
        args=config(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=2,
            per_device_eval_batch_size=4,
            num_generations=2,
            max_completion_length=8,
            max_steps=4,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            **arguments,
        ),
        train_dataset=data,
        eval_dataset=data,
    )


def _scorer(scored):
    """Two reward functions; the first one appends its prompts, completions and rewards to `scored`."""

    def many_words(prompts, completions, trainer_state, **_):
        rewards = [float(len(completion.split())) for completion in completions]
        scored.append((trainer_state.global_step, prompts, completions, rewards))
        return rewards

    async def even(completions, **_):
        counts = [len(completion.split()) for completion in completions]
        return [None if count == 0 else float(count % 2 == 0) for count in counts]

    return [many_words, even]


@pytest.mark.parametrize("kind", ["GRPOTrainer", "RLOOTrainer"])
def test_every_completion_is_logged_as_the_trainer_sees_it(home, run, tmp_path, kind):
    """Training and evaluation log each completion's texts, weighted rewards, advantage, step and group."""
    from stepstream.integrations.trl import StepstreamCallback

    scored, advantages = [], []
    trainer = _trainer(kind, tmp_path, _scorer(scored), reward_weights=[1.0, 0.5])
    score = trainer._generate_and_score_completions

    def counted(inputs):
        found = score(inputs)
        advantages.extend(trainer._logs["advantages"])
        return found

    trainer._generate_and_score_completions = counted
    trainer.add_callback(StepstreamCallback(trainer, run))
    trainer.train()
    trained = len(advantages)
    trainer.evaluate()
    run.finish()
    texts = [
        (step, prompt, completion, reward)
        for step, *columns in scored
        for prompt, completion, reward in zip(*columns, strict=True)
    ]
    assert len(texts) == len(advantages) > trained >= 8
    episodes = home.lines("episode")
    steps = home.lines("step")
    assert [(line["observation"], line["action"]) for line in steps] == [text[1:3] for text in texts]
    found = [line["rollout"] for line in episodes]
    assert [one["rewards"]["many_words"] for one in found] == [
        {"value": reward, "weight": 1.0} for *_, reward in texts
    ]
    for one, (_, _, completion, words) in zip(found, texts, strict=True):
        parity = float(words % 2 == 0)
        assert one["rewards"].get("even") == (
            {"value": parity, "weight": 0.5} if completion.split() else None
        )
    assert [one["advantage"] for one in found] == advantages
    assert [one["training_step"] for one in found] == [step for step, *_ in texts]
    assert [one["policy_start"] for one in found] == [str(step) for step, *_ in texts]
    assert [one["split"] for one in found] == ["train"] * trained + ["eval"] * (len(found) - trained)
    keys = [tuple(one[name] for name in ("split", "training_step", "group_id", "sample_id")) for one in found]
    assert len(set(keys)) == len(keys)
    by_group = {}
    for key, text in zip(keys, texts, strict=True):
        by_group.setdefault(key[:3], []).append(text[1])
    assert all(len(prompts) == 2 and len(set(prompts)) == 1 for prompts in by_group.values())
    totals = [line["episode_return"] for line in episodes]
    assert totals == [words + 0.5 * (words > 0 and words % 2 == 0) for *_, words in texts]


def test_the_trainers_own_log_stays_as_it_is(home, run, tmp_path):
    """Each entry of the trainer's log is a metric at its step; the trainer keeps its last completions."""
    from stepstream.integrations.trl import StepstreamCallback

    trainer = _trainer("GRPOTrainer", tmp_path, _scorer([]), log_completions=True)
    trainer.add_callback(StepstreamCallback(trainer, run))
    trainer.train()
    run.finish()
    metrics = home.lines("metrics")
    assert len(metrics) == len(trainer.state.log_history) == 5  # four steps, and the summary
    for line, said in zip(metrics, trainer.state.log_history, strict=True):
        step = said.pop("step")
        assert (line["step"], line.get("metrics", line)) == (step, {**line.get("metrics", line), **said})
    assert home.lines("run_started")[-1]["config"]["num_generations"] == 2
    assert len(trainer._logs["completion"]) == trainer._logs["completion"].maxlen
    assert list(trainer._logs["completion"]) == [line["action"] for line in home.lines("step")][-2:]


def test_reward_functions_that_log(home, run, tmp_path):
    """Reward functions that `logged` wraps log every completion without the callback."""
    from stepstream.integrations.trl import logged

    scored = []
    trainer = _trainer("GRPOTrainer", tmp_path, logged(_scorer(scored), [1.0, 0.5], run))
    assert trainer.reward_func_names == ["many_words", "even"]
    trainer.train()
    run.finish()
    texts = [
        (prompt, completion, reward)
        for _, *columns in scored
        for prompt, completion, reward in zip(*columns, strict=True)
    ]
    assert [(line["observation"], line["action"]) for line in home.lines("step")] == [
        text[:2] for text in texts
    ]
    found = [line["rollout"] for line in home.lines("episode")]
    assert [one["rewards"]["many_words"]["value"] for one in found] == [text[2] for text in texts]
    assert [one["training_step"] for one in found] == [step for step, prompts, *_ in scored for _ in prompts]
    groups = {}
    for one, text in zip(found, texts, strict=True):
        groups.setdefault(text[0], set()).add(one["group_id"])
    assert all(len(ids) == 1 for ids in groups.values())


def test_a_trainer_that_keeps_no_completions_is_told_the_other_way(home, run):
    """A trainer that keeps no completions gives a warning that names `logged` as the way to log them."""
    from stepstream.integrations.trl import StepstreamCallback

    with pytest.warns(
        UserWarning, match="object keeps no completions: wrap its reward functions with `logged`"
    ):
        StepstreamCallback(object(), run)
