"""A common step line straight to Avro bytes, with the same result as the normaliser's.

It learns from the normaliser's events which names a stream's steps have. From then on msgspec reads such a
line into a Struct that leaves JSON unparsed, and `step_codec` writes it. Whatever is uncommon about a line
makes the Struct refuse it: then the normaliser reads the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii as quote
from operator import add
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import astuple

from producers.lines import packed_floats as floats
from producers.lines.context import NO_AGENT, SILENT, Context, Identity
from producers.lines.dialects import EPISODE_NUMBER, OBSERVATION, STEP_NUMBER
from producers.lines.times import moment
from producers.lines.values import BadValueError
from schemas import step_codec
from schemas.values import LONGEST_ID, clean

Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Raw = msgspec.Raw

OPTIONAL: tuple[tuple[str, Any], ...] = (
    ("ts", str | int | float),
    ("run_id", str),
    ("agent_id", str),
    ("worker_id", str),
    ("action", Raw),
    ("info", Raw),
    ("reward", float | None),
    ("terminated", bool | None),
    ("truncated", bool | None),
    ("packed", list[str]),
)
"""Names with their usual meaning, and the types that they have in a common line."""

UNCOMMON = frozenset(
    {
        *(
            "event_type",
            "event",
            "payload",
            "agent",
            "player_id",
            "episode_id",
            "metadata",
            "metrics",
            "extras",
        ),
        *("done", "TimeLimit.truncated", "action_json", "observation_json", "render_hint_json"),
        *("metadata_json", "rgb_b64", "frame_b64", "render_b64", "frame_thinned"),
    }
)
"""Names for which the normaliser reads the line."""

PICTURES = (b'"rgb"', b'"text"', b'_b64"', b"\\")
"""A line with a `render_payload` and one of these may hold a picture; a backslash can spell any name."""

MOST_NAMES = 64
MOST_KEPT = 10_000
STAMP = len("2025-10-20T10:11:12.345678+00:00")

_UNFIT = re.compile('["\\\\\0-\x1f\ud800-\udfff]')
"""Characters that msgspec's Structs do not take in a name."""
_refusals = (msgspec.MsgspecError, RecursionError, UnicodeError)
"""UnicodeError: msgspec fails to report an unknown field whose name is not UTF-8."""


class FastStep:
    """The fast step of one stream.

    Args:
        identity, context: of the stream's normaliser, which reads all other lines.
        header: the first five bytes of each record.
    """

    def __init__(self, identity: Identity, context: Context, header: bytes) -> None:
        self._identity, self._context, self._header = identity, context, header
        self.learned = False
        """Whether any line can be read here."""
        self._decode: Callable[[bytes], Any] = _refuse
        self._labels: tuple[bytes, ...] = ()
        self._names: dict[str, None] = {}
        self._chosen: tuple[str, str, str] = ("", "", "")
        """The lines' names of episode index, step index and observation; "": none."""
        self._draws = False
        self._said_run: str | None = None
        self._run_id: str | None = ""  # no run has this name
        self._stream = self.key = b""
        self._packed: dict[tuple[str, ...], list[bytes]] = {}
        self._who: dict[tuple[str, str | None], bytes] = {}
        self._second, self._second_us = "", 0

    def learn(self, names: Iterable[str]) -> None:
        """A step of these names was normalised: from the next one on it is read here."""
        found = dict.fromkeys(names)
        timed_otherwise = "ts" not in found and not found.keys().isdisjoint(("timestamp", "ts_unix_ns"))
        if timed_otherwise or not UNCOMMON.isdisjoint(found) or any(map(_UNFIT.search, found)):
            return
        chosen = (
            _first(found, *EPISODE_NUMBER),
            _first(found, *STEP_NUMBER),
            _first(found, *OBSERVATION) or self._chosen[2],
        )
        plain = {"type", *chosen, *(name for name, _ in OPTIONAL)}
        known = self._names if chosen == self._chosen else {}
        others = known | {name: None for name in found if name not in plain}
        is_new = chosen != self._chosen or others.keys() != self._names.keys() or self._decode is _refuse
        if is_new and len(others) <= MOST_NAMES:
            self._build(chosen, others)

    def __call__(self, line: bytes, seq: int, arrived: int) -> bytes | None:
        """Wire bytes of a line's step; None: the normaliser must read it. `key` is its run."""
        try:
            said = self._decode(line)
        except _refusals:
            return None
        (
            _, ts, run_id, agent_id, worker_id, action, info, reward, terminated, truncated,
            packed, episode_index, step_index, observation, *others,
        ) = astuple(said)  # fmt: skip
        if (
            (self._draws and any(name in line for name in PICTURES))
            or not (line.isascii() or _is_utf8(line))
            or agent_id == ""
            or worker_id == ""
        ):
            return None
        if ts is not None:
            try:
                arrived = self._moment(ts)
            except BadValueError:
                return None
        if (run_id is not None and run_id != self._said_run) or self._run_id != self._context.run_id:
            if run_id == "" or (run_id is not None and len(run_id) > LONGEST_ID):
                return None
            self._name_run(run_id)
        if agent_id is None:
            agent_id = self._identity.agent_id or self._context.agent_id or NO_AGENT
        who = self._who.get((agent_id, worker_id)) or self._whose(agent_id, worker_id)
        numbers = [] if packed is None else self._unpacked(packed)
        if numbers is None or not who:
            return None
        metrics, extras = self._divided(numbers, others) if others or numbers else (None, None)
        return step_codec.encode(
            self._stream,
            seq,
            who,
            arrived,
            episode_index,
            step_index,
            None if observation is None else bytes(observation),
            None if action is None else bytes(action),
            reward,
            terminated,
            truncated,
            None if info is None else bytes(info),
            metrics,
            extras,
        )

    def _unpacked(self, packed: list[str]) -> list[bytes] | None:
        """Name and text of each float that the SDK packed; None: they have an uncommon form."""
        try:
            texts = floats.digits(packed)
        except ValueError:
            return None
        if b"null" in texts:
            return None
        key = tuple(packed[1:])
        labels = self._packed.get(key)
        if labels is None:
            labels = [f"{quote(clean(name))}:".encode() for name in key]
            if len(self._packed) < MOST_KEPT:
                self._packed[key] = labels
        return list(map(add, labels, texts))

    def _divided(self, numbers: list[bytes], others: list[Raw | None]) -> tuple[bytes | None, bytes | None]:
        """Split values into numbers and the rest by the first byte of their text; adds to `numbers`."""
        rest: list[bytes] = []
        for label, raw in zip(self._labels, others, strict=True):
            if raw is not None:
                text = bytes(raw)
                (numbers if b"," < text < b":" else rest).append(label + text)
        return (
            b"{" + b",".join(numbers) + b"}" if numbers else None,
            b"{" + b",".join(rest) + b"}" if rest else None,
        )

    def _moment(self, ts: str | float) -> int:
        if not isinstance(ts, str):
            return moment("ts", repr(ts))
        second, fraction = ts[:19], ts[20:26]
        if (
            len(ts) == STAMP
            and ts[26:] == "+00:00"
            and ts[19] == "."
            and fraction.isdecimal()
            and fraction.isascii()
        ):
            if second != self._second:
                self._second_us = moment("ts", quote(second + "+00:00"))
                self._second = second
            return self._second_us + int(fraction)
        return moment("ts", quote(ts))

    def _name_run(self, run_id: str | None) -> None:
        context = self._context
        if run_id is not None:
            context.run_id, self._said_run = clean(run_id), run_id
        self._run_id = context.run_id
        named = context.run_id or self._identity.run_id
        context.runs.setdefault(named, SILENT)
        self.key = named.encode()
        self._stream = step_codec.beginning(self._header, named, self._identity.stream_id)

    def _whose(self, agent_id: str, worker_id: str | None) -> bytes:
        """Agent and worker as Avro; empty: an id is too long."""
        if max(len(agent_id), len(worker_id or "")) > LONGEST_ID:
            return b""
        who = step_codec.whose(clean(agent_id), None if worker_id is None else clean(worker_id))
        if len(self._who) < MOST_KEPT:
            self._who[agent_id, worker_id] = who
        return who

    def _build(self, chosen: tuple[str, str, str], others: dict[str, None]) -> None:
        names = ["type", *(name for name, _ in OPTIONAL), *chosen, *others]
        types = [Literal["step"], *(kind for _, kind in OPTIONAL), Long, Long, Raw, *[Raw] * len(others)]
        required = {"type", *chosen[:2]} - {""}
        if not others.keys().isdisjoint(OBSERVATION):  # if it is missing, one of those is the observation
            required.add(chosen[2])
        fields: list[tuple[str, Any, Any]] = []
        renamed: dict[str, str] = {}
        for place, (name, kind) in enumerate(zip(names, types, strict=True)):
            renamed[f"f{place}"] = name or f"\ufffe{place}"  # a placeholder: no line has a field of this name
            fields.append((f"f{place}", kind, msgspec.NODEFAULT if name in required else None))
        struct = msgspec.defstruct(
            "Step", fields, rename=renamed, forbid_unknown_fields=True, gc=False, kw_only=True
        )
        self._decode = msgspec.json.Decoder(struct).decode
        self._labels = tuple(f"{quote(name)}:".encode() for name in others)
        self._names, self._chosen, self.learned = others, chosen, True
        self._draws = "render_payload" in others


def _first(names: dict[str, None], *wanted: str) -> str:
    return next((name for name in wanted if name in names), "")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse(_line: bytes) -> Any:
    raise msgspec.MsgspecError
