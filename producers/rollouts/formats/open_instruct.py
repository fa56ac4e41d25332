"""open-instruct: `<run>_rollouts_<shard>.jsonl` of token ids, `<run>_metadata.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.model import (
    FAILED,
    TRAIN,
    Again,
    Item,
    Note,
    Place,
    Rollout,
    Row,
    Turn,
    Whole,
    inside,
    listed,
    name_of,
    need,
    number,
    rest,
    status_of,
    text_of,
    whole,
)

_KNOWN = ("step", "sample_idx", "prompt_idx", "prompt_tokens", "response_tokens", "reward", "advantage",
          "finish_reason", "logprobs")  # fmt: skip
_SHARD = r"_rollouts_(\d+)\."
_RUN = re.compile(r"_(rollouts_\d+|metadata)\.jsonl$")


class OpenInstruct:
    """The format."""

    name = "open-instruct"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Tokens of prompt and response, or what is beside them."""
        if path.name.endswith("_metadata.jsonl"):
            return "run_name" in row
        return "prompt_tokens" in row and "response_tokens" in row

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """Its folder."""
        return path.parent

    def reader(self, place: Place) -> OpenInstructReader:
        """For one shard."""
        return OpenInstructReader(place)


class OpenInstructReader(Whole):
    """Reads one shard. A restart goes on in the same shard, or in the next one."""

    def __init__(self, place: Place) -> None:
        self._decode = place.tokenizer
        self._run = _RUN.sub("", place.name)
        self._shard = place.number(_SHARD) or 0
        self._again = Again()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout, or what stands beside them."""
        if "prompt_tokens" not in row and "run_name" in row:
            return [Note("other", {"event": "open-instruct", **row})]
        return [self._rollout(row)]

    def _rollout(self, row: Row) -> Rollout:
        prompt, response = need(row, "prompt_tokens", list), need(row, "response_tokens", list)
        step, group = whole(row.get("step")), name_of(row.get("prompt_idx")) or "0"
        sample = name_of(row.get("sample_idx")) or "0"
        info = inside(row.get("request_info"))
        reason = row.get("finish_reason")
        failed = info.get("tool_errors") not in (None, "", 0, False, []) or info.get("timeouts") not in (
            None,
            0,
            False,
        )
        said = self._text(response)
        asked = self._text(prompt)
        logprobs = listed(row.get("logprobs"))
        logprobs = [*([None] * len(prompt)), *logprobs] if len(logprobs) == len(response) else logprobs
        return Rollout(
            group,
            sample,
            run_name=self._run,
            split=TRAIN,
            step=step,
            copy_key=f"{self._run}/{step}/{sample}",
            scope=f"step {step}",
            again=self._again(step, sample),
            precedence=self._shard,
            reward=number(row.get("reward")),
            advantage=number(row.get("advantage")),
            extras=rest(row, *_KNOWN),
            messages=[
                *([] if asked is None else [{"role": "prompt", "content": asked}]),
                *([] if said is None else [{"role": "assistant", "content": said}]),
            ],
            turns=[Turn(asked, said, number(row.get("reward")))],
            input_tokens=len(prompt),
            output_tokens=len(response),
            status=FAILED if failed else status_of(reason),
            stop_reason=text_of(reason),
            final_text=said,
            tokens={
                "token_ids": [*prompt, *response],
                "mask": [False] * len(prompt) + [True] * len(response),
                **({"logprobs": logprobs} if logprobs else {}),
            },
        )

    def _text(self, tokens: list[Any]) -> str | None:
        return None if self._decode is None else self._decode(tokens)
