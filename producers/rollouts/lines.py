"""What a file holds → lines of a spool, in the form that `producers.lines.rollout` reads. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from producers.lines.rollout import MARK, Scored
from producers.lines.watched import Line, Status
from producers.rollouts.messages import exchanges
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
    moment = getattr(what, "moment", None)
    fields: dict[str, Any] = {
        MARK: [source.name, source.state.generation, finding.number, finding.row, finding.flushed],
        "run_id": getattr(what, "run", None) or run_id,
        "agent_id": agent_id,
        "ts": moment if moment is not None and 0 < moment < 253_402_300_799 else None,
    }
    if isinstance(what, Rollout):
        place = {"episode_index": episode, "turns_before": turns}
        return _rollout(what, source, finding.row, fields | place)
    return encoded(fields | _other(what)) + b"\n"


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


def _rollout(what: Rollout, source: Source, row: int, fields: dict[str, Any]) -> bytes:
    key, scope, generation = place_of(what, source)
    follows = _follow(what)
    tokens, extras = _arrays(what)
    line: Line[Any] = Line(
        **fields,
        split=what.split,
        training_step=what.step,
        group_id=what.group,
        sample_id=what.sample,
        attempt=what.again + 1,
        reward=_word(what.reward),
        advantage=_word(what.advantage),
        rewards={
            name: {"value": _word(value), "weight": weight} for name, (value, weight) in what.rewards.items()
        },
        input_tokens=what.input_tokens,
        output_tokens=what.output_tokens,
        policy_start=what.policy_start,
        policy_end=what.policy_end,
        status=cast(Status, what.status),
        stop_reason=what.stop_reason,
        format=source.format.name,
        source=source.name if source.holds_one else f"{source.name}:{row}",
        sample_key=key,
        scope=scope,
        generation=generation,
        precedence=what.precedence,
        duration=what.duration,
        tokens=tokens,
        metrics=finite(what.metrics) if what.metrics else None,
        extras=finite(extras) if extras else None,
        final_text=None if follows else what.final_text,
        turns=None if follows else [_turn(turn) for turn in what.turns],
        scored=[_scored(turn) for turn in what.turns] if follows else None,
        messages=finite(what.messages) if what.messages else None,
    )
    try:
        return _encode(line) + b"\n"
    except UnicodeEncodeError:
        return encoded({"type": "rollout", **msgspec.structs.asdict(line)}) + b"\n"


def _arrays(what: Rollout) -> tuple[str | None, Mapping[str, Any]]:
    """Token arrays, packed, and extras; arrays of what is no number are kept in extras."""
    if not what.tokens:
        return None, what.extras
    try:
        return _packed(what.tokens), what.extras
    except (ValueError, OverflowError):
        return None, what.extras | {"tokens": dict(what.tokens)}


def _follow(what: Rollout) -> bool:
    """Whether turns and final text follow from the messages: then they are not written once more."""
    found, final = exchanges(what.messages)
    return found == [(turn.observation, turn.action) for turn in what.turns] and final == what.final_text


def place_of(what: Rollout, source: Source) -> tuple[str, str, int]:
    """Sample key, scope and generation of a rollout."""
    own = f"{what.split or ''}/{'' if what.step is None else what.step}/{what.group}/{what.sample}"
    key = what.copy_key or f"{source.name}:{own}"
    scope = f"{source.name}#{what.scope}" if what.scope else source.name
    return key, scope, (source.state.generation - 1) * AGAIN + what.again + 1


def _turn(turn: Turn) -> list[Any]:
    scored = _scored(turn)
    return [turn.observation, turn.action, scored.reward, *([scored.metrics] if scored.metrics else [])]


def _scored(turn: Turn) -> Scored:
    reward = turn.reward if turn.reward is None or math.isfinite(turn.reward) else None
    return Scored(reward, finite(turn.metrics) if turn.metrics else None)


def _packed(arrays: Mapping[str, Any]) -> str:
    return base64.b64encode(token_arrays.pack(arrays)).decode()


_TAKEN = ("run_id", "type", "event", "event_type", "tokens", "ts", "timestamp", "agent", "split", "step",
          "training_step", "group_id", "sample_id", "metrics", MARK)  # fmt: skip


def _free(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that do not say where the line belongs; those that would stand below `payload`."""
    kept = {name: finite(value) for name, value in payload.items() if name not in _TAKEN}
    below = {name: finite(value) for name, value in payload.items() if name in _TAKEN}
    return {**kept, **({"payload": below} if below else {})}


def _word(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return _WORDS.get(value, "NaN")
    return value


def finite(value: Any) -> Any:
    """The value with numbers that are none as their words."""
    if isinstance(value, dict):
        return {str(name): item if item.__class__ is str else finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [item if item.__class__ is str else finite(item) for item in value]
    return _word(value)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): _clean(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value
