"""A step as Avro, written by hand: the same bytes as fastavro writes, in half the time.

Worth it for this one schema alone, as nine of ten records are steps: JSON text stays bytes, and what is
the same in each record (run, stream, agent) is encoded once. A property test holds it to fastavro.
"""

from __future__ import annotations

from struct import Struct

_reward = Struct("<Bd").pack
_BOOLEAN = {None: b"\x00", False: b"\x02\x00", True: b"\x02\x01"}
_NULL = b"\x00"
_SMALL = 1 << 14


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_LAST = [_varint(number) for number in range(_SMALL)]
"""Varints of 14 bits."""
_INNER = [bytes((number & 127 | 128, number >> 7 | 128)) for number in range(_SMALL)]
"""The same with more to follow."""
_TEXT = [b"\x02" + _varint(length * 2) for length in range(_SMALL // 2)]
"""What stands before an optional text, by its length."""


def long(number: int) -> bytes:
    """A long: zigzag, seven bits a byte."""
    zigzag = number << 1 ^ number >> 63
    if zigzag < _SMALL:
        return _LAST[zigzag]
    if zigzag < 1 << 28:
        return _INNER[zigzag & 16383] + _LAST[zigzag >> 14]
    if 1 << 42 <= zigzag < 1 << 56:  # µs since 1970, in our age
        return (
            _INNER[zigzag & 16383]
            + _INNER[zigzag >> 14 & 16383]
            + _INNER[zigzag >> 28 & 16383]
            + _LAST[zigzag >> 42]
        )
    return _varint(zigzag)


def text(value: bytes) -> bytes:
    """A string, as UTF-8."""
    return long(len(value)) + value


def optional_text(value: bytes | None) -> bytes:
    """A string or null."""
    if value is None:
        return _NULL
    length = len(value)
    return (_TEXT[length] if length < _SMALL // 2 else b"\x02" + long(length)) + value


def optional_long(number: int | None) -> bytes:
    """A long or null."""
    return _NULL if number is None else b"\x02" + long(number)


def encode(  # noqa: PLR0917 - called a hundred thousand times a second: by place
    stream: bytes,
    seq: int,
    who: bytes,
    event_time: int,
    episode_index: int | None,
    step_index: int | None,
    observation: bytes | None,
    action: bytes | None,
    reward: float | None,
    terminated: bool | None,
    truncated: bool | None,
    info: bytes | None,
    metrics: bytes | None,
    extras: bytes | None,
) -> bytes:
    """Wire bytes of a step.

    Args:
        stream: what `beginning` gives: it is the same in each record of a run and stream.
        who: what `whose` gives.
        observation, action, info, metrics, extras: JSON as UTF-8.
    """
    return b"".join(
        (
            stream,
            long(seq),
            who,
            long(event_time),
            _NULL if episode_index is None else b"\x02" + long(episode_index),
            _NULL if step_index is None else b"\x02" + long(step_index),
            _NULL if observation is None else optional_text(observation),
            _NULL if action is None else optional_text(action),
            _NULL if reward is None else _reward(2, reward),
            _BOOLEAN[terminated],
            _BOOLEAN[truncated],
            _NULL if info is None else optional_text(info),
            _NULL if metrics is None else optional_text(metrics),
            _NULL if extras is None else optional_text(extras),
        )
    )


def beginning(header: bytes, run_id: str, stream_id: str) -> bytes:
    """Wire header, run and stream."""
    return header + text(run_id.encode()) + text(stream_id.encode())


def whose(agent_id: str, worker_id: str | None) -> bytes:
    """Agent and worker."""
    return text(agent_id.encode()) + optional_text(None if worker_id is None else worker_id.encode())
