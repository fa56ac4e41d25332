"""A rollout's line as `watch` writes it, written and read whole, by one Struct.

Most lines of `watch` have this form, and the normaliser would take their fields one by one. What is uncommon
about a line (token arrays, a reward that is no number, an escaped letter, a further field) makes `read`
return None: then the normaliser reads the line, with the same result.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from producers.lines.context import NO_AGENT, Context, Identity
from producers.lines.fields import FieldReader
from producers.lines.rollout import TURNS_SUFFIX, Scored, Spoken, ended, of_messages, spoken_in, steps
from producers.lines.times import moment
from producers.lines.values import BadValueError
from schemas.topics import Kind
from schemas.values import LONGEST_ID

Record = dict[str, Any]
J = TypeVar("J")
"""A JSON value where a line is written, its text where it is read."""

_ABSENT: Any = None
"""Raw takes no union with None, and need not."""

HEAD = b'{"type":"rollout","watch_at":'
"""The first bytes of such a line."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Status = Literal["ok", "truncated", "failed", "aborted"]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Line(
    msgspec.Struct,
    Generic[J],
    tag_field="type",
    tag="rollout",
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """The fields, by the names of their columns.

    Args:
        watch_at: the row that it was made of, as `State.take` reads it.
        turns_before: how many turns of rollouts the stream holds before it.
        turns: observation, action, reward and metrics of each turn.
        scored: in place of `turns` and `final_text`, where both follow from `messages`.
        tokens: token arrays, packed, as base64.
        ts: when it ended, seconds since 1970.
    """

    watch_at: list[Any]
    run_id: Id
    episode_index: Long
    turns_before: Long
    group_id: Id
    sample_id: Id
    attempt: Count
    rewards: J
    status: Status
    format: str
    source: str
    sample_key: str
    scope: str
    generation: Count
    precedence: Long
    agent_id: Id | None = None
    split: str | None = None
    training_step: Long | None = None
    reward: float | str | None = None
    advantage: float | str | None = None
    input_tokens: Long | None = None
    output_tokens: Long | None = None
    policy_start: Id | None = None
    policy_end: Id | None = None
    stop_reason: str | None = None
    duration: float | None = None
    ts: float | None = None
    tokens: str | None = None
    metrics: J = _ABSENT
    extras: J = _ABSENT
    final_text: str | None = None
    turns: J = _ABSENT
    scored: list[Scored] | None = None
    messages: J = _ABSENT


_decode = msgspec.json.Decoder(Line[msgspec.Raw]).decode
_escaped = re.compile(rb"\\u").search
"""Finds an escaped letter, in a third of the time that `in` takes."""
_refusals = (msgspec.MsgspecError, RecursionError, UnicodeError, BadValueError)


def read(
    line: bytes, seq: int, arrived: int, identity: Identity, context: Context
) -> list[tuple[Kind, Record]] | None:
    """The records of a line: its episode, its rollout, its turns; None: the normaliser must read it.

    Args:
        seq, arrived: the line's number, and when it came, µs since 1970.
        context: gets the run.
    """
    if _escaped(line):
        return None
    try:
        said = _decode(line)
        if said.tokens is not None or isinstance(said.reward, str) or isinstance(said.advantage, str):
            return None
        spoken, final = _spoken(said)
        rest = _rest(said)
        rollout = _columns(said, len(spoken), final)
        event_time = arrived if said.ts is None else moment("ts", repr(said.ts))
    except _refusals:
        return None
    context.run_id = said.run_id
    who = {
        "run_id": said.run_id,
        "stream_id": identity.stream_id,
        "seq": seq,
        "agent_id": said.agent_id or identity.agent_id or context.agent_id or NO_AGENT,
        "worker_id": None,
        "event_time": event_time,
    }
    episode = ended(said.episode_index, said.reward, len(spoken), said.status, said.duration)
    turns = who | {"stream_id": identity.stream_id + TURNS_SUFFIX}
    return [
        (Kind.EPISODES, who | episode | rest),
        (Kind.ROLLOUTS, who | rollout),
        *((kind, turns | columns) for kind, columns in steps(said.turns_before, spoken, episode)),
    ]


def _rest(said: Line[msgspec.Raw]) -> Record:
    """`metrics` and `extras`: the text of the line where the normaliser would write the same."""
    extras = _text(said.extras) if said.extras else None
    if not said.metrics and (extras is None or extras.isascii()):
        return {"metrics": None, "extras": extras}
    others = {"metrics": said.metrics, "extras": said.extras}
    return FieldReader({name: _text(raw) for name, raw in others.items() if raw}).rest()


def _spoken(said: Line[msgspec.Raw]) -> tuple[list[Spoken], str | None]:
    if said.scored is not None:
        return of_messages(_text(said.messages) if said.messages else "[]", said.scored)
    if said.turns is None:
        raise BadValueError("turns", "turns are missing.")
    return spoken_in(_text(said.turns)), said.final_text


def _columns(said: Line[msgspec.Raw], turns: int, final: str | None) -> Record:
    """The columns of `rollouts`, as `producers.lines.rollout` makes them."""
    return {
        "episode_index": said.episode_index,
        "split": said.split,
        "training_step": said.training_step,
        "group_id": said.group_id,
        "sample_id": said.sample_id,
        "attempt": said.attempt,
        "superseded": False,
        "reward": said.reward,
        "advantage": said.advantage,
        "derived_advantage": None,
        "rewards": _text(said.rewards),
        "turns": turns,
        "input_tokens": said.input_tokens,
        "output_tokens": said.output_tokens,
        "policy_start": said.policy_start,
        "policy_end": said.policy_end,
        "status": said.status,
        "stop_reason": said.stop_reason,
        "format": said.format,
        "source": said.source,
        "sample_key": said.sample_key,
        "scope": said.scope,
        "generation": said.generation,
        "precedence": said.precedence,
        "final_text": final,
        "messages": _text(said.messages) if said.messages else None,
    }


def _text(raw: msgspec.Raw) -> str:
    return str(raw, "utf-8")
