"""A worker's line → a record. Pure: the same line with the same context becomes the same record.

line ── no `{` ──────────────▶ logs
  ├──── not usable ──────────▶ dead letter, with the reason
  └──── who? when? which kind? ▶ dialects ──▶ steps, episodes, metrics, runs (and a picture beside it)
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, NamedTuple

from producers.lines import frames as pictures
from producers.lines import packed_floats as packed
from producers.lines import rollout, watched
from producers.lines.context import ENDED, NO_AGENT, OPEN, SILENT, Context, Identity
from producers.lines.dialects import (
    CHATTER,
    KINDS,
    LIFE_CYCLE,
    META_KINDS,
    NAMES_AGENT,
    SDK_KINDS,
    Handler,
    UnusableError,
    classified,
    kind_of,
    other,
    step,
    worker_of,
)
from producers.lines.fields import TIME_NAMES, FieldReader, unpack
from producers.lines.frames import Picture
from producers.lines.json_text import Fields, NotJsonError, join, split
from producers.lines.times import moment, nanoseconds
from producers.lines.values import BadValueError, name_of
from schemas.topics import BESIDE_FIELD, Kind
from schemas.values import clean

Record = dict[str, Any]

BOM = b"\xef\xbb\xbf"
BLANKS = b" \t\r\v\f"
LETTER_BYTES = 8 * 1024 * 1024
"""Bytes of a line that its dead letter keeps."""
HEAD_BYTES = 1024 * 1024
"""Bytes that are kept of a line over the size limit."""
AGENT_NAMES = ("agent_id", "agent", "player_id")
IDENTITY = ("run_id", "stream_id", "seq", "agent_id", "worker_id", "event_time")
EVENTS = frozenset({*LIFE_CYCLE, *CHATTER})
"""Kinds whose data may be in `payload`; other kinds only where one of ENVELOPES names the kind."""
ENVELOPES = ("event", "event_type")
PRODUCER_VERSION = version("stepstream-server")
OF_SDK = "+sdk"
"""Ends the version in a dead letter of the SDK's line, whose kinds have a meaning of their own."""

OWN_KINDS = SDK_KINDS | rollout.KINDS
_LIFE = {
    "run_started": OPEN,
    "run_completed": ENDED,
    "run_failed": ENDED,
    "run_cancelled": ENDED,
}


class Event(NamedTuple):
    """What a line became."""

    kind: Kind
    record: Record
    picture: Picture | None = None
    """The picture that the line held."""
    beside: tuple[tuple[Kind, Record], ...] = ()
    """Further records of the line."""
    step_names: tuple[str, ...] = ()
    """Of a common step: the names of its fields, from which `FastStep` learns."""


class Normaliser:
    """One stream's lines → records.

    Args:
        identity: ids of the stream.
        context: what its earlier lines named; changed with each line.
    """

    def __init__(self, identity: Identity, context: Context | None = None) -> None:
        self.identity = identity
        self.context = context or Context()
        self._kinds = META_KINDS if identity.meta else OWN_KINDS if identity.sdk else KINDS

    def __call__(self, line: bytes, seq: int, arrived: int) -> Event:
        """The record of a line.

        Args:
            line: its bytes without the newline.
            seq: its number in the stream, from 1.
            arrived: when it came, µs since 1970.
        """
        event = self._watched(line, seq, arrived) or self._read(line, self._blank(seq, arrived))
        self.context.runs.setdefault(event.record["run_id"], SILENT)
        return event

    def _watched(self, line: bytes, seq: int, arrived: int) -> Event | None:
        """The event of a line of `watch`; None: it is none, or an uncommon one."""
        if not self.identity.sdk or not line.startswith(watched.HEAD):
            return None
        found = watched.read(line, seq, arrived, self.identity, self.context)
        return None if found is None else Event(*found[0], beside=tuple(found[1:]))

    def _read(self, line: bytes, record: Record) -> Event:
        body = line[3:] if line.startswith(BOM) else line
        bare = body.strip(BLANKS)
        if not bare.startswith(b"{"):
            return self._log(record, body)
        try:
            return self._event(record, bare)
        except UnicodeDecodeError as error:
            return self.letter(record, line, "not_utf8", f"Byte {error.start + 1} is no UTF-8.")
        except NotJsonError as error:
            return self.letter(record, line, "broken_json", f"The line is no JSON object: {error}.")
        except (BadValueError, UnusableError) as error:
            return self.letter(record, error.raw or line, error.reason, str(error), error.field)
        except Exception as error:
            return self._failed(record, line, error)

    def too_long(self, head: bytes, length: int, limit: int, seq: int, arrived: int) -> Event:
        """The dead letter of a line over the size limit, of which only the head was kept."""
        message = f"The line has {length:,} bytes, and the limit is {limit:,} (max_line_bytes)."
        return self.letter(self._blank(seq, arrived), head, "too_large", message)

    def failed(self, line: bytes, error: Exception, seq: int, arrived: int) -> Event:
        """The dead letter of a line whose record could not be encoded."""
        return self._failed(self._blank(seq, arrived), line, error)

    def letter(
        self, record: Record, line: bytes, reason: str, message: str, field: str | None = None
    ) -> Event:
        """The dead letter of a line.

        Args:
            record: its run, stream, number, agent, worker and time are kept.
            reason: a short, stable word.
            message: one sentence.
            field: the field at fault, if there is one.
        """
        about = {
            "reason": reason,
            "field": field,
            "message": message,
            "raw": line[:LETTER_BYTES],
            "topic": None,
            "topic_partition": None,
            "topic_offset": None,
            "producer_version": PRODUCER_VERSION + (OF_SDK if self.identity.sdk else ""),
        }
        return Event(Kind.DLQ, {name: record[name] for name in IDENTITY} | about)

    def _failed(self, record: Record, line: bytes, error: Exception) -> Event:
        """Our own code failed on the line: our fault, and only this line is lost."""
        message = f"stepstream failed on this line ({error!r:.200}): please report it with the line."
        return self.letter(record, line, "failed", clean(message))

    def _blank(self, seq: int, arrived: int) -> Record:
        identity, context = self.identity, self.context
        return {
            "run_id": context.run_id or identity.run_id,
            "stream_id": identity.stream_id,
            "seq": seq,
            "agent_id": identity.agent_id or context.agent_id or NO_AGENT,
            "worker_id": None,
            "event_time": arrived,
        }

    def _event(self, record: Record, bare: bytes) -> Event:
        fields = split(bare.decode())
        if self.identity.sdk:
            fields.pop(rollout.MARK, None)
        names = tuple(fields)
        unpack(fields)
        packed.unpack(fields)
        kind, kind_name = kind_of(fields, self._kinds)
        if kind in EVENTS or kind_name in ENVELOPES:
            _unfold(fields)
        said = FieldReader(fields, kind)
        self._who(record, said)
        picture = pictures.take(fields)
        replayed = rollout.replayed(said) if BESIDE_FIELD in fields else []
        handler = other if replayed and kind is None else self._handler(said)
        if kind_name is not None and handler is not other:
            del fields[kind_name]
        topic, columns = handler(said, self.context)
        record |= columns
        if topic is Kind.RUNS:
            self._life(record)
        said.beside += replayed
        if not said.beside:
            is_common = handler is step and kind is not None and picture is None
            return Event(topic, record, picture, step_names=names if is_common else ())
        who = {name: record[name] for name in IDENTITY}
        turns = {"stream_id": record["stream_id"] + rollout.TURNS_SUFFIX}
        beside = tuple(
            (other, who | (turns if other is Kind.STEPS else {}) | more)
            if other is not Kind.ROLLOUTS
            else (other, who | rollout.completed(record, more))
            for other, more in said.beside
        )
        return Event(topic, record, picture, beside)

    def _handler(self, said: FieldReader) -> Handler:
        if said.kind is not None:
            return self._kinds[said.kind]
        return other if self.identity.meta else classified(said, self.context)

    def _who(self, record: Record, said: FieldReader) -> None:
        """Set run, agent, worker and time, if the line names them."""
        found = said.take("run_id")
        if found is not None and (run_id := name_of(*found)):
            self.context.run_id = record["run_id"] = run_id
        agent_id = _agent(said)
        if said.kind in NAMES_AGENT:
            named = agent_id or _agent(FieldReader(said.inside("config")))
            self.context.agent_id = named or self.context.agent_id
        record["agent_id"] = agent_id or self.identity.agent_id or self.context.agent_id or NO_AGENT
        record["worker_id"] = worker_of(said)
        record["event_time"] = _when(said, record["event_time"])

    def _life(self, record: Record) -> None:
        if (state := _LIFE.get(record["event"])) is not None:
            self.context.runs[record["run_id"]] = state

    def _log(self, record: Record, body: bytes) -> Event:
        text = clean(body.removesuffix(b"\r").decode("utf-8", "replace"))
        return Event(Kind.LOGS, record | {"source": "stdout", "line": text})


def _unfold(fields: Fields) -> None:
    """Move the data in `payload` into the line's fields, which win; the rest stays in `payload`."""
    if fields.get("payload", "")[:1] != "{":
        return
    try:
        payload = split(fields["payload"])
    except NotJsonError:
        return
    told = {name: text for name, text in fields.items() if name != "payload"}
    kept = {name: text for name, text in payload.items() if told.get(name, text) != text}
    if not kept:
        del fields["payload"]
    fields |= {name: text for name, text in payload.items() if name not in kept}
    if kept:  # in its place: a line that is read again has the same order
        fields["payload"] = join(kept)


def _agent(said: FieldReader) -> str | None:
    """The agent that a line names. `agent` and `player_id` may mean something else and then stay."""
    for name in AGENT_NAMES:
        text = said.fields.get(name, "null")
        if text == "null" or (name != "agent_id" and text[0] in "{[tf"):
            continue
        del said.fields[name]
        if (agent_id := name_of(name, text)) is not None:
            return agent_id
    return None


def _when(said: FieldReader, arrived: int) -> int:
    """The first time that can be read, else the arrival. Unreadable ones are noted in extras."""
    while (found := said.take(*TIME_NAMES)) is not None:
        try:
            return nanoseconds(*found) if found[0] == "ts_unix_ns" else moment(*found)
        except BadValueError:
            if found[1] != '""':
                said.note(*found)
    return arrived
