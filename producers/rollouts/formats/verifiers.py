"""verifiers 0.4: `traces.jsonl`, a line is one episode. prime-rl writes the same, by folder of its step.

prime-rl: `rollouts/step_<N>/{train,eval}/all` gets each episode as it ends, `effective` those of the batch
that ships, with advantages: the same ids, so `effective` takes the place of `all`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import is_models, message_of, said
from producers.rollouts.model import (
    ABORTED,
    FAILED,
    OK,
    TRUNCATED,
    Item,
    Message,
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
    split_of,
    status_of,
    text_of,
    whole,
)

_FOLDER = re.compile(r"step_(\d+)/([^/]+)/(all|effective)/")
_PER_TOKEN = {
    "logprobs": "logprobs",
    "advantages": "advantages",
    "reference_logprobs": "reference_logprobs",
    "trainer_logprobs": "trainer_logprobs",
    "entropies": "entropy",
}
"""Of a value for each token: their names in a node and here."""


class Verifiers:
    """The format."""

    name = "verifiers"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Traces of an episode that is not in prime-rl's folders."""
        return isinstance(row.get("traces"), list) and not _FOLDER.search(str(path))

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The folder of the evaluation."""
        return path.parent

    def reader(self, place: Place) -> EpisodeReader:
        """For one file."""
        return EpisodeReader(place)


class PrimeRl(Verifiers):
    """The same episodes in prime-rl's folders."""

    name = "prime-rl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Traces of an episode in one of its folders."""
        return isinstance(row.get("traces"), list) and bool(_FOLDER.search(str(path)))

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The run's folder."""
        folder = path.parents[3]
        return folder.parent if folder.name == "rollouts" else folder


class EpisodeReader(Whole):
    """Reads one file."""

    def __init__(self, place: Place) -> None:
        found = _FOLDER.search(str(place.path))
        self._step = int(found[1]) if found else None
        self._folder = found[2] if found else None
        self._precedence = int(found is not None and found[3] == "effective")

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout."""
        traces = [trace for trace in need(row, "traces", list) if isinstance(trace, dict)]
        run = inside(row.get("run"))
        work = inside(run.get("work"))
        policy = inside(work.get("policy"))
        main = _main(traces)
        episode = name_of(row.get("id")) or name_of(main.get("id")) or str(number_)
        word = self._folder or work.get("type") or run.get("type")
        rewards = {} if main is None else _rewards(main)
        reward = sum(value * (1.0 if weight is None else weight) for value, weight in rewards.values())
        messages, turns = _conversation(traces)
        if turns and rewards:
            turns[-1].reward = reward
        reason = main.get("stop_condition") or _finish_reason(main)
        begins, ends = _times(main)
        yield Rollout(
            _group(row) or episode,
            episode,
            run=name_of(run.get("id")),
            run_name=name_of(run.get("name")),
            split=split_of(word),
            step=self._step if self._step is not None else whole(work.get("step")),
            copy_key=episode if self._folder else None,
            precedence=self._precedence,
            reward=reward if rewards else None,
            advantage=number(inside(main.get("info")).get("advantage")),
            rewards=rewards,
            metrics={k: v for k, v in inside(main.get("metrics")).items() if number(v) is not None},
            extras=_extras(row, traces, work),
            messages=messages,
            turns=turns,
            input_tokens=_usage(row, traces, "num_input_tokens", "prompt_tokens"),
            output_tokens=_usage(row, traces, "num_output_tokens", "completion_tokens"),
            policy_start=name_of(policy.get("start")),
            policy_end=name_of(policy.get("end")),
            status=_status(row, main, reason),
            stop_reason=text_of(reason),
            final_text=_last_said(messages),
            duration=ends - begins if begins and ends else None,
            moment=ends or begins,
            tokens=_tokens(main),
        )


def _main(traces: Sequence[Row]) -> Row:
    """The trace that is trained, else the first."""
    trainable = (trace for trace in traces if inside(trace.get("agent")).get("trainable") is not False)
    return next(trainable, traces[0] if traces else {})


def _group(row: Row) -> str | None:
    task = inside(row.get("task"))
    return (
        name_of(inside(row.get("group")).get("id")) or name_of(task.get("hash")) or name_of(task.get("key"))
    )


def _rewards(trace: Row) -> dict[str, tuple[float, float | None]]:
    found: dict[str, tuple[float, float | None]] = {}
    for name, value in inside(trace.get("rewards")).items():
        scored = value if isinstance(value, dict) else {"score": value}
        if (score := number(scored.get("score"))) is not None:
            found[name] = (score, number(scored.get("weight")))
    return found


def _conversation(traces: Sequence[Row]) -> tuple[list[Message], list[Turn]]:
    messages: list[Message] = []
    turns: list[Turn] = []
    for trace in traces:
        nodes = [node for node in listed(trace.get("nodes")) if isinstance(node, dict)]
        has_sampled = any("sampled" in node for node in nodes)
        read: list[str] = []
        for node in nodes:
            message = message_of(node.get("message"))
            if len(traces) > 1:
                message["agent"] = name_of(inside(trace.get("agent")).get("name"))
            messages.append(message)
            if node.get("sampled") if has_sampled else is_models(message):
                turns.append(Turn("\n\n".join(read), said(message)))
                read = []
            else:
                read.append(message.get("content") or "")
    return messages, turns


def _last_said(messages: Sequence[Message]) -> str | None:
    spoken = [message for message in messages if is_models(message)]
    return spoken[-1].get("content") or "" if spoken else None


def _finish_reason(trace: Row) -> Any:
    calls = [call for call in listed(trace.get("calls")) if isinstance(call, dict)]
    return calls[-1].get("finish_reason") if calls else None


def _status(row: Row, trace: Row, reason: Any) -> str:
    by_words = status_of(reason)
    if by_words == ABORTED:
        return ABORTED
    if row.get("ok") is False or trace.get("ok") is False:
        return FAILED
    if row.get("is_timeout") or trace.get("is_timeout") or trace.get("is_truncated"):
        return TRUNCATED
    if TRUNCATED in (by_words, status_of(_finish_reason(trace))):
        return TRUNCATED
    return FAILED if listed(trace.get("errors")) else OK


def _times(trace: Row) -> tuple[float | None, float | None]:
    timing = inside(trace.get("timing"))
    ends = [number(inside(timing.get(part)).get("end")) for part in ("agent", "finalize", "scoring")]
    last = max((end for end in ends if end), default=None)
    return number(timing.get("start")) or None, last


def _usage(row: Row, traces: Sequence[Row], total: str, of_calls: str) -> int | None:
    if (found := whole(row.get(total))) is not None:
        return found
    sums = [whole(trace.get(total)) for trace in traces]
    known = [value for value in sums if value is not None]
    if not known:
        usages = (
            inside(call.get("usage")) for trace in traces for call in listed(trace.get("calls")) if call
        )
        known = [value for usage in usages if (value := whole(usage.get(of_calls))) is not None]
    return sum(known) if known else None


def _extras(row: Row, traces: Sequence[Row], work: Row) -> Row:
    extras = rest(row, "id", "traces", "group", "run", "ok", "num_input_tokens", "num_output_tokens")
    others = [
        {k: v for k, v in rest(trace, "nodes", "rewards", "metrics", "version").items() if v != row.get(k)}
        for trace in traces
    ]
    dispatched = whole(work.get("step"))
    return {
        **{name: value for name, value in extras.items() if value not in ([], {}, False)},
        **({"dispatch_step": dispatched} if dispatched is not None else {}),
        "traces": [{k: v for k, v in other.items() if v not in ([], {})} for other in others],
    }


def _tokens(trace: Row) -> Mapping[str, list[Any]]:
    """Arrays over all nodes; where a node has values of sampled tokens only, the others are null."""
    nodes = [node for node in listed(trace.get("nodes")) if isinstance(node, dict) and node.get("token_ids")]
    if not nodes:
        return {}
    masks = [_mask(node) for node in nodes]
    arrays: dict[str, list[Any]] = {
        "token_ids": [token for node in nodes for token in node["token_ids"]],
        "mask": [value for mask in masks for value in mask],
    }
    for theirs, ours in _PER_TOKEN.items():
        if any(listed(node.get(theirs)) for node in nodes):
            arrays[ours] = [
                value
                for node, mask in zip(nodes, masks, strict=True)
                for value in _spread(listed(node.get(theirs)), mask)
            ]
    return arrays


def _mask(node: Row) -> list[bool]:
    length, mask = len(node["token_ids"]), listed(node.get("mask"))
    return [bool(value) for value in mask] if len(mask) == length else [bool(node.get("sampled"))] * length


def _spread(values: list[Any], mask: list[bool]) -> list[Any]:
    if len(values) == len(mask):
        return values
    if len(values) != sum(mask):
        return [None] * len(mask)
    following = iter(values)
    return [next(following) if sampled else None for sampled in mask]
