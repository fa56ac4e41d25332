"""What a file holds → lines of a spool, in the form that `producers.lines.rollout` reads. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from producers.lines.rollout import MARK
from producers.rollouts.model import Item, Note, Numbers, Rollout, Turn
from producers.rollouts.parsing import Finding, Unusable
from producers.rollouts.source import Source
from schemas import token_arrays
from schemas.values import clean

AGAIN = 1_000_000
"""A file's version counts so much, a step that began anew in it counts one."""

_encode = msgspec.json.Encoder(enc_hook=str).encode
_WORDS = {math.inf: "Infinity", -math.inf: "-Infinity"}


def line_of(
    finding: Finding, source: Source, run_id: str, agent_id: str | None, *, episode: int, turns: int
) -> bytes:
    """The line of a finding, with its newline.

    Args:
        run_id: of items that name none.
        episode: number of a rollout in its run.
        turns: how many turns of rollouts the stream holds before it.
    """
    what = finding.what
    mark = [str(source.shown), source.state.generation, finding.number, finding.row, finding.flushed]
    fields: dict[str, Any] = {"run_id": getattr(what, "run", None) or run_id, MARK: mark}
    if agent_id is not None:
        fields["agent_id"] = agent_id
    if isinstance(what, Rollout):
        fields |= {"type": "rollout", "episode_index": episode, "turns_before": turns}
        fields |= _rollout(what, source, finding.row)
    else:
        fields |= _other(what)
    moment = getattr(what, "moment", None)
    if moment is not None and 0 < moment < 253_402_300_799:
        fields["ts"] = moment
    return encoded(fields) + b"\n"


def encoded(fields: Mapping[str, Any]) -> bytes:
    """JSON; numbers that are none as their words in strings, lone surrogates as U+FFFD."""
    kept = {name: value for name, value in fields.items() if value is not None}
    try:
        return _encode(kept)
    except UnicodeEncodeError:
        return _encode(_clean(kept))


def _other(what: Item | Unusable) -> dict[str, Any]:
    if isinstance(what, Unusable):
        raw = base64.b64encode(what.raw).decode()
        return {"type": "unusable", "reason": what.reason, "message": what.message, "raw": raw}
    if isinstance(what, Numbers):
        return {"type": "metrics", "step": what.step, **_free(what.extras), "metrics": finite(what.values)}
    assert isinstance(what, Note)
    place = {
        "split": what.split,
        "training_step": what.step,
        "group_id": what.group,
        "sample_id": what.sample,
    }
    if what.tokens:
        return {"type": "tokens", **place, **_free(what.payload), "tokens": _packed(what.tokens)}
    return {
        "type": what.event if what.event == "checkpoint_saved" else "note",
        **place,
        "payload": what.payload,
    }


def _rollout(what: Rollout, source: Source, row: int) -> dict[str, Any]:
    key, scope, generation = place_of(what, source)
    whole_file = source.path.suffix == ".json"
    return {
        "split": what.split,
        "training_step": what.step,
        "group_id": what.group,
        "sample_id": what.sample,
        "attempt": what.again + 1,
        "reward": _number(what.reward),
        "advantage": _number(what.advantage),
        "rewards": {
            name: {"value": _word(value), "weight": weight} for name, (value, weight) in what.rewards.items()
        },
        "turns": [_turn(turn) for turn in what.turns],
        "input_tokens": what.input_tokens,
        "output_tokens": what.output_tokens,
        "policy_start": what.policy_start,
        "policy_end": what.policy_end,
        "status": what.status,
        "stop_reason": what.stop_reason,
        "format": source.format.name,
        "source": str(source.shown) if whole_file else f"{source.shown}:{row}",
        "sample_key": key,
        "scope": scope,
        "generation": generation,
        "precedence": what.precedence,
        "final_text": what.final_text,
        "messages": finite(what.messages) if what.messages else None,
        "duration": what.duration,
        "tokens": _packed(what.tokens) if what.tokens else None,
        "metrics": finite(what.metrics) if what.metrics else None,
        "extras": finite(what.extras) if what.extras else None,
    }


def place_of(what: Rollout, source: Source) -> tuple[str, str, int]:
    """Sample key, scope and generation of a rollout."""
    own = f"{what.split or ''}/{'' if what.step is None else what.step}/{what.group}/{what.sample}"
    key = what.copy_key or f"{source.shown}:{own}"
    scope = f"{source.shown}#{what.scope}" if what.scope else str(source.shown)
    return key, scope, (source.state.generation - 1) * AGAIN + what.again + 1


def _turn(turn: Turn) -> list[Any]:
    reward = turn.reward if turn.reward is None or math.isfinite(turn.reward) else None
    made = [turn.observation, turn.action, reward]
    return [*made, finite(turn.metrics)] if turn.metrics else made


def _packed(arrays: Mapping[str, Any]) -> str:
    return base64.b64encode(token_arrays.pack(arrays)).decode()


_TAKEN = ("run_id", "type", "event", "event_type", "tokens", "ts", "timestamp", "agent", "split", "step",
          "training_step", "group_id", "sample_id", "metrics", MARK)  # fmt: skip


def _free(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that do not say where the line belongs; those that would stand below `payload`."""
    kept = {name: finite(value) for name, value in payload.items() if name not in _TAKEN}
    below = {name: finite(value) for name, value in payload.items() if name in _TAKEN}
    return {**kept, **({"payload": below} if below else {})}


def _number(value: float | None) -> Any:
    """A reward: of one that is no number its word, which the column reads."""
    return _word(value)


def _word(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return _WORDS.get(value, "NaN")
    return value


def finite(value: Any) -> Any:
    """The value with numbers that are none as their words. Most have none: those are not copied."""
    if isinstance(value, float):
        return _word(value)
    if isinstance(value, dict):
        return {str(name): finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): _clean(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value
