"""Records as the live buffer shows them. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from schemas.live import LiveEpisode, LiveFrame, LiveStep, LogRow, MetricPoint

Record = dict[str, Any]

LONG = 16_384
"""A smaller record, in bytes, has no field that is too long."""
LONGEST_TEXT = 8_192
"""Characters of one text in the live buffer; SQL has it in full."""
CUT_MARK = " … (cut here; SQL has all of it)"
LONGEST_STEP = 5 * LONGEST_TEXT
LONGEST_LINE = 4_096
MOST_METRICS = 200
"""Numbers of one metrics record in the live buffer."""
LONGEST_GRID = 65_536
LONGEST_FRAME = 4 * 1024 * 1024


def step(record: Record, size: int) -> LiveStep:
    """A step. Texts of a record of more than `LONG` bytes are cut."""
    made = LiveStep(
        record["stream_id"],
        record["seq"],
        record["event_time"],
        record["episode_index"],
        record["step_index"],
        record["action"],
        record["reward"],
        record["terminated"],
        record["truncated"],
        record["observation"],
        record["info"],
        record["metrics"],
        record["extras"],
    )
    return cut(made) if size > LONG else made


def cut(made: LiveStep) -> LiveStep:
    """A step with long texts cut to JSON strings of their heads; long `metrics` and `extras` are left out."""
    for name in ("action", "observation", "info"):
        text = getattr(made, name)
        if text is not None and len(text) > LONGEST_TEXT:
            words = json.loads(text) if text.startswith('"') else text
            setattr(made, name, json.dumps(words[:LONGEST_TEXT] + CUT_MARK))
    for name in ("metrics", "extras"):
        text = getattr(made, name)
        if text is not None and len(text) > LONGEST_TEXT:
            setattr(made, name, None)
    return made


def episode(record: Record, size: int) -> LiveEpisode:
    """A finished episode. Texts of a record of more than `LONG` bytes are cut."""
    large = size > LONG
    return LiveEpisode(
        record["stream_id"],
        record["seq"],
        record["event_time"],
        record["worker_id"],
        record["episode_index"],
        record["episode_return"],
        record["episode_length"],
        record["terminated"],
        record["truncated"],
        record["seed"],
        record["duration"],
        None if large else record["metrics"],
        None if large else record["extras"],
    )


def metric_point(record: Record) -> MetricPoint | None:
    """Numbers by name; None where there are none. NaN and the infinities become null."""
    try:
        values = json.loads(record["metrics"] or "{}", parse_int=float)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    numbers = {
        name: float(value) if math.isfinite(value) else None
        for name, value in list(values.items())[:MOST_METRICS]
        if isinstance(value, int | float)
    }
    if not numbers:
        return None
    return MetricPoint(record["event_time"], record["agent_id"], record["global_step"], numbers)


def log_row(record: Record) -> LogRow:
    """A log line; of a long one only the head."""
    line = record["line"]
    return LogRow(
        record["event_time"],
        record["agent_id"],
        record["worker_id"],
        record["source"],
        line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " …",
    )


def frame(record: Record) -> LiveFrame:
    """A picture."""
    names = ("event_time", "episode_index", "step_index", "media_type", "width", "height", "thinned", "data")
    return LiveFrame(*(record[name] for name in names))


def has_grid(extras: str | None) -> bool:
    """Whether extras may hold a grid: a search in the text, without parsing it."""
    return extras is not None and '"render_payload"' in extras and '"grid"' in extras


class _Payload(msgspec.Struct):
    mode: Any = None


class _Extras(msgspec.Struct):
    render_payload: msgspec.Raw = msgspec.Raw(b"null")


_read_extras = msgspec.json.Decoder(_Extras).decode
_read_payload = msgspec.json.Decoder(_Payload).decode


def grid_frame(of: LiveStep, extras: str) -> LiveFrame | None:
    """A step's grid as a picture of media type `application/json`: the unchanged render payload."""
    try:
        payload = bytes(_read_extras(extras).render_payload)
        drawable = len(payload) <= LONGEST_GRID and _read_payload(payload).mode == "grid"
    except msgspec.DecodeError:
        return None
    if not drawable:
        return None
    return LiveFrame(
        of.event_time, of.episode_index, of.step_index, "application/json", None, None, 0, payload
    )
