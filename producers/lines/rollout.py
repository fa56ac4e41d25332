"""Our own lines about rollouts of language models, written by the SDK and by `watch`.

A `rollout` line becomes an episode and a record of `rollouts`; its token arrays become one of `tokens`; its
turns become steps in a stream beside the line's. A `tokens` line without a rollout is an event of the run.
"""

from __future__ import annotations

import base64
import json
from binascii import Error as NoBase64
from typing import Any, NamedTuple

import msgspec

from producers.lines.context import Context
from producers.lines.dialects import Columns, Handler, UnusableError, episode, other
from producers.lines.fields import FieldReader
from producers.lines.json_text import join, strict
from producers.lines.values import BadValueError, name_of, string
from producers.rollouts.messages import exchanges, message_of
from producers.rollouts.model import to_json
from schemas import token_arrays
from schemas.topics import BESIDE_FIELD, Kind
from schemas.values import clean

Record = dict[str, Any]

STATUSES = ("ok", "truncated", "failed", "aborted")
TURNS_SUFFIX = ".turns"
"""Ends the id of the stream that holds the turns of a stream's lines."""
MARK = "watch_at"
"""Field in which `watch` notes the source of a line."""


def rollout(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """A finished rollout: its episode, and further records of the rollout, its turns and its tokens."""
    reward, spoken = said.double("reward", "reward"), _turns(said)
    turns = said.integer("turns") if spoken is None else len(spoken)
    columns = _columns(said, reward, turns)
    duration = said.double("duration", "duration")
    episode = ended(said.integer("episode_index"), reward, turns, columns["status"], duration)
    _stand_beside(said, columns, episode)
    if spoken:
        said.beside += steps(said.integer("turns_before") or 0, spoken, episode)
    return Kind.EPISODES, episode | said.rest()


def ended(
    index: int | None, reward: float | None, turns: int | None, status: str, duration: float | None
) -> Columns:
    """The columns of a rollout's episode; `duration` in seconds."""
    return {
        "episode_index": index,
        "episode_return": reward,
        "episode_length": turns,
        "terminated": status == "ok",
        "truncated": status == "truncated",
        "seed": None,
        "elapsed": None,
        "duration": duration,
    }


def own_episode(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """An episode of the SDK; `rollout` holds the columns of a rollout whose turns were logged as steps."""
    inside = FieldReader(said.inside("rollout"))
    if not inside.fields:
        return episode(said, context)
    del said.fields["rollout"]
    if "messages" in inside.fields:
        inside.fields["messages"] = _one_form(inside.fields["messages"])
    kind, columns = episode(said, context)
    found = _columns(inside, columns["episode_return"], columns["episode_length"])
    _stand_beside(inside, found, columns)
    said.beside += inside.beside
    return kind, columns


def _stand_beside(said: FieldReader, columns: Columns, episode: Columns) -> None:
    """The rollout's record, and that of its tokens."""
    said.beside.append((Kind.ROLLOUTS, {"episode_index": episode["episode_index"], **columns}))
    if (arrays := said.take("tokens")) is not None:
        said.beside.append((Kind.TOKENS, _tokens(said, columns, *arrays)))


def _columns(said: FieldReader, reward: float | None, turns: int | None) -> Columns:
    """The columns of `rollouts`. A line that names no sample is a sample of its own."""
    columns: Columns = {
        "split": _text(said, "split"),
        "training_step": said.integer("training_step"),
        "group_id": _id(said, "group_id"),
        "sample_id": _id(said, "sample_id"),
        "attempt": said.integer("attempt") or 1,
        "superseded": False,
        "reward": reward,
        "advantage": said.double("advantage", "advantage"),
        "derived_advantage": None,
        "rewards": _strict(said.json("rewards")),
        "turns": turns or 0,
        "input_tokens": said.integer("input_tokens"),
        "output_tokens": said.integer("output_tokens"),
        "policy_start": _id(said, "policy_start"),
        "policy_end": _id(said, "policy_end"),
        "status": _status(said),
        "stop_reason": _text(said, "stop_reason"),
        "format": _text(said, "format") or "sdk",
        "source": _text(said, "source"),
        "sample_key": _text(said, "sample_key"),
        "scope": _text(said, "scope"),
        "generation": said.integer("generation") or 1,
        "precedence": said.integer("precedence") or 0,
        "final_text": _text(said, "final_text"),
        "messages": _unescaped(_strict(said.json("messages"))),
    }
    if columns["sample_key"] is None and columns["sample_id"] is not None:
        columns["sample_key"] = _sample_key(columns)
    return columns


def replayed(said: FieldReader) -> list[tuple[Kind, Columns]]:
    """What stood beside a line that `replay` wrote, its rollout and its tokens, by the columns' names.

    Raises:
        BadValueError: a column holds what it cannot.
    """
    inside = FieldReader(said.inside(BESIDE_FIELD))
    if not inside.fields or not inside.fields.keys() <= {Kind.ROLLOUTS, Kind.TOKENS}:
        return []
    del said.fields[BESIDE_FIELD]
    found: list[tuple[Kind, Columns]] = []
    if "rollouts" in inside.fields:
        own = FieldReader(inside.inside("rollouts"))
        columns = _columns(own, own.double("reward", "reward"), own.integer("turns"))
        found.append((Kind.ROLLOUTS, {"episode_index": own.integer("episode_index"), **columns}))
    if "tokens" in inside.fields:
        own = FieldReader(inside.inside("tokens"))
        arrays = own.take("arrays") or ("arrays", '""')
        found.append((Kind.TOKENS, _tokens(own, _place(own), *arrays)))
    return found


def tokens(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """Token arrays without a rollout: an event of the run, and a record of `tokens`."""
    arrays = said.take("tokens")
    if arrays is None:
        raise BadValueError("tokens", "tokens must hold arrays, and there are none.")
    place = _place(said)
    found = _tokens(said, place, *arrays)
    said.beside.append((Kind.TOKENS, found))
    told = {
        name: json.dumps(value) for name, value in (place | found).items() if name not in ("names", "arrays")
    }
    return Kind.RUNS, {"event": "other", "payload": join({"event": '"tokens"', **told, **said.fields})}


def unusable(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """A part of a file that cannot be used: a dead letter with the file's bytes."""
    reason, message, raw = (_text(said, name) or "" for name in ("reason", "message", "raw"))
    raise UnusableError(reason or "unusable", message, base64.b64decode(raw))


KINDS: dict[str, Handler] = {
    "episode": own_episode,
    "rollout": rollout,
    "tokens": tokens,
    "note": other,
    "unusable": unusable,
}


class Spoken(NamedTuple):
    """A turn: JSON texts of what the model read and said, its reward, JSON text of other numbers."""

    observation: str | None
    action: str | None
    reward: float | None
    metrics: str | None


class _Said(msgspec.Struct, array_like=True):
    """A turn in a line."""

    observation: msgspec.Raw
    action: msgspec.Raw
    reward: float | None = None
    metrics: msgspec.Raw = msgspec.Raw(b"null")


class Scored(msgspec.Struct, array_like=True):
    """A turn in a line whose texts are those of the messages."""

    reward: float | None
    metrics: Any = None


_read_turns = msgspec.json.Decoder(list[_Said]).decode
_read_scored = msgspec.json.Decoder(list[Scored]).decode
_read_messages = msgspec.json.Decoder(list[dict[str, Any]]).decode
_to_json = msgspec.json.Encoder().encode


def spoken_in(turns: str) -> list[Spoken]:
    """Turns as a line has them."""
    return [
        Spoken(_json(turn.observation), _json(turn.action), turn.reward, _json(turn.metrics))
        for turn in _read_turns(turns)
    ]


def of_messages(messages: str, scored: list[Scored]) -> tuple[list[Spoken], str | None]:
    """The turns in messages, and the last thing that the model said.

    Raises:
        BadValueError: the messages have another number of turns.
    """
    turns, final = exchanges(_read_messages(messages))
    if len(turns) != len(scored):
        raise BadValueError("scored", f"scored has {len(scored)} turns, and messages have {len(turns)}.")
    spoken = [
        Spoken(
            _to_json(read).decode(),
            _to_json(told).decode(),
            score.reward,
            None if score.metrics is None else _to_json(score.metrics).decode(),
        )
        for (read, told), score in zip(turns, scored, strict=True)
    ]
    return spoken, final


def _turns(said: FieldReader) -> list[Spoken] | None:
    """The turns; None: the line only counts them. Those of messages come with their final text."""
    try:
        if "scored" in said.fields:
            scored = _read_scored(said.fields.pop("scored"))
            spoken, final = of_messages(strict(said.fields.get("messages", "[]")), scored)
            said.fields["final_text"] = "null" if final is None else json.dumps(final)
            return spoken
        return spoken_in(said.fields.pop("turns")) if said.fields.get("turns", "")[:1] == "[" else None
    except msgspec.MsgspecError as error:
        raise BadValueError(
            "turns", f"turns must be lists of observation, action and reward: {error}."
        ) from None


def steps(before: int, spoken: list[Spoken], episode: Columns) -> list[tuple[Kind, Columns]]:
    """A step for each turn, numbered from `before` + 1 in the stream `<stream>.turns`."""
    last = len(spoken) - 1
    return [
        (
            Kind.STEPS,
            {
                "seq": before + index + 1,
                "episode_index": episode["episode_index"],
                "step_index": index,
                "observation": turn.observation,
                "action": turn.action,
                "reward": turn.reward,
                "terminated": index == last and episode["terminated"],
                "truncated": index == last and episode["truncated"],
                "info": None,
                "metrics": turn.metrics,
                "extras": None,
            },
        )
        for index, turn in enumerate(spoken)
    ]


def _json(raw: msgspec.Raw) -> str | None:
    text = str(raw, "utf-8")
    return None if text == "null" else text


def _place(said: FieldReader) -> Columns:
    return {
        "split": _text(said, "split"),
        "training_step": said.integer("training_step"),
        "group_id": _id(said, "group_id"),
        "sample_id": _id(said, "sample_id"),
    }


def _tokens(said: FieldReader, place: Columns, name: str, text: str) -> Columns:
    try:
        packed = _packed(text)
        arrays = token_arrays.unpack(packed)
    except (ValueError, NoBase64, msgspec.MsgspecError) as error:
        raise BadValueError(name, f"tokens must be arrays of numbers by name: {error}.") from None
    length = max(map(len, arrays.values()), default=0)
    trained = said.integer("trained")
    if trained is None and (mask := arrays.get("mask", arrays.get("loss_mask"))) is not None:
        trained = sum(map(bool, mask))
    return {
        **{name: place[name] for name in ("split", "training_step", "group_id", "sample_id")},
        "length": length,
        "trained": trained,
        "masked": said.integer("masked"),
        "names": json.dumps(list(arrays)),
        "arrays": packed,
    }


def _packed(text: str) -> bytes:
    """Token arrays: packed as base64, or lists by name."""
    if text[0] == '"':
        return base64.b64decode(string(text), validate=True)
    return token_arrays.pack(
        msgspec.json.decode(strict(text).replace('"NaN"', "null"), type=dict[str, list[Any]])
    )


def _status(said: FieldReader) -> str:
    status = _text(said, "status") or "ok"
    if status not in STATUSES:
        raise BadValueError(
            "status", f"status must be one of {', '.join(STATUSES)}, and it is {status[:40]!r}."
        )
    return status


def _sample_key(columns: Columns) -> str:
    names = ("split", "training_step", "group_id", "sample_id")
    return "/".join("" if columns[name] is None else str(columns[name]) for name in names)


def _text(said: FieldReader, name: str) -> str | None:
    found = said.take(name)
    return None if found is None else clean(string(found[1]))


def completed(record: Record, columns: Columns) -> Columns:
    """Columns of a rollout that names no group or sample: made from the key of its line."""
    own = f"{record['stream_id']}:{record['seq']}"
    key = columns["sample_key"] or own
    number = str(record["seq"] if columns["episode_index"] is None else columns["episode_index"])
    return columns | {
        "group_id": columns["group_id"] or number,
        "sample_id": columns["sample_id"] or number,
        "sample_key": key,
        "scope": columns["scope"] or key,
    }


def _one_form(messages: str) -> str:
    """Messages as their library has them, in the form in which those of files are kept."""
    told = json.loads(strict(messages))
    return to_json([message_of(message) for message in told]) if isinstance(told, list) else messages


def _id(said: FieldReader, name: str) -> str | None:
    found = said.take(name)
    return None if found is None else name_of(*found)


def _strict(text: str | None) -> str | None:
    return None if text is None or text == "null" else strict(text)


def _unescaped(text: str | None) -> str | None:
    """JSON text with letters as themselves: search finds no word that is written as `\\u00ef`."""
    if text is None or "\\u" not in text:
        return text
    try:
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except (msgspec.MsgspecError, ValueError, RecursionError):  # a lone surrogate, a number beyond any
        return text
