"""TRL's own GRPOTrainer trains a tiny language model: what arrives is what the trainer says of itself.

TRL needs a torch that `make test-integrations` does not bring (its wheel brings gigabytes): where both are
installed, this runs. Model, tokenizer and prompts are made here; nothing is downloaded.
"""

import pytest

trl = pytest.importorskip("trl", reason="TRL is not installed; its torch would bring gigabytes")

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


def test_grpo_is_seen_as_the_trainer_sees_it(home, run, tmp_path):
    """Every number of its log at its step, and every rollout that was rewarded, word for word."""
    import datasets
    from stepstream.integrations.transformers import StepstreamCallback, log_rollout

    rewarded = []

    def many_words(prompts, completions, **_):
        rewards = [float(len(completion.split())) for completion in completions]
        for prompt, completion, reward in zip(prompts, completions, rewards, strict=True):
            rewarded.append((prompt, completion, reward))
            log_rollout(prompt, completion, rewards={"words": reward}, group=prompt, run=run)
        return rewards

    trainer = trl.GRPOTrainer(
        model=str(tmp_path / "model"),
        processing_class=_model(tmp_path / "model"),
        reward_funcs=many_words,
        args=trl.GRPOConfig(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=8,
            max_steps=4,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
        ),
        train_dataset=datasets.Dataset.from_dict({"prompt": PROMPTS}),
        callbacks=[StepstreamCallback(run)],
    )
    trainer.train()
    run.finish()
    metrics = home.lines("metrics")
    assert len(metrics) == len(trainer.state.log_history) == 5  # four steps, and the summary
    for line, said in zip(metrics, trainer.state.log_history, strict=True):
        step = said.pop("step")
        assert (line["step"], line.get("metrics", line)) == (step, {**line.get("metrics", line), **said})
    steps = home.lines("step")
    assert [(line["observation"], line["action"], line["reward"]) for line in steps] == rewarded
    assert [line["episode_return"] for line in home.lines("episode")] == [reward for _, _, reward in rewarded]
    assert home.lines("run_started")[-1]["config"]["num_generations"] == 2
