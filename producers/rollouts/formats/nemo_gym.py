"""NeMo-Gym: `<name>.jsonl` and `<name>_failures.jsonl`, a line is one rollout in the Responses API's form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import final_text, message_of, turns_of
from producers.rollouts.model import (
    FAILED,
    Again,
    Item,
    Message,
    Place,
    Rollout,
    Row,
    Whole,
    divided,
    inside,
    listed,
    name_of,
    number,
    rest,
    status_of,
    text_of,
    whole,
)

_KNOWN = ("_ng_task_index", "_ng_rollout_index", "response", "reward", "responses_create_params")
_LEFT_OUT = "_materialized_inputs.jsonl"


class NemoGym:
    """The format."""

    name = "nemo-gym"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """A task's number and what came of it."""
        is_answer = "response" in row or "reward" in row or "_ng_failure_class" in row
        return "_ng_task_index" in row and is_answer and not path.name.endswith(_LEFT_OUT)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """Its folder."""
        return path.parent

    def reader(self, place: Place) -> NemoGymReader:
        """For one file."""
        return NemoGymReader()


class NemoGymReader(Whole):
    """Reads one file."""

    def __init__(self) -> None:
        self._again = Again()
        self._samples: Counter[str] = Counter()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout."""
        group = name_of(row.get("_ng_task_index")) or "0"
        sample = name_of(row.get("_ng_rollout_index")) or str(self._samples[group])
        self._samples[group] += 1
        asked = inside(row.get("responses_create_params")).get("input")
        response = inside(row.get("response"))
        prompt = [_message(item) for item in asked] if isinstance(asked, list) else _text(asked)
        messages = [*prompt, *(_message(item) for item in listed(response.get("output")))]
        rest_ = rest(row, *_KNOWN)
        rewards, metrics, extras = divided(rest_)
        usage = inside(response.get("usage"))
        reason = inside(response.get("incomplete_details")).get("reason") or response.get("status")
        failure = row.get("_ng_failure_class")
        turns = turns_of(messages)
        if turns:
            turns[-1].reward = number(row.get("reward"))
        yield Rollout(
            group,
            sample,
            copy_key=f"{group}/{sample}",
            scope=f"sample {group}/{sample}",
            again=self._again((group, sample), None),
            precedence=0 if failure else 1,
            reward=number(row.get("reward")),
            rewards={} if failure else rewards,
            metrics=metrics | ({k: v for k, (v, _) in rewards.items()} if failure else {}),
            extras=extras | rest(response, "output", "usage"),
            messages=messages,
            turns=turns,
            input_tokens=whole(usage.get("input_tokens")),
            output_tokens=whole(usage.get("output_tokens")),
            status=FAILED if failure else status_of(reason),
            stop_reason=text_of(failure or reason),
            final_text=final_text(messages),
        )


def _text(asked: Any) -> list[Message]:
    return [] if asked is None else [{"role": "user", "content": text_of(asked)}]


def _message(item: Any) -> Message:
    """An item of the Responses API as a message."""
    raw = inside(item)
    kind = raw.get("type", "message")
    if kind == "function_call":
        call = {"id": raw.get("call_id"), "name": raw.get("name"), "arguments": raw.get("arguments")}
        return {"role": "assistant", "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "content": text_of(raw.get("output")), "tool_call_id": raw.get("call_id")}
    if kind == "reasoning":
        return {"role": "reasoning", "content": text_of(raw.get("summary") or raw.get("content")) or ""}
    return message_of({k: v for k, v in raw.items() if k not in ("type", "id", "status")})
