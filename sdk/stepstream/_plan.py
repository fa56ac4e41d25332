"""How rows of one shape become lines: a function that is compiled for the names and types of the values."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter

from stepstream import _warn
from stepstream._values import MAX_CHARS, MAX_ROLLOUT_CHARS, Dumper, number, quote, whole

STEP, METRICS, EPISODE, FRAME, LINE, END = range(6)
"""The kind of a row: the first item of its shape.

A row begins with its shape and the time. The shape of steps and metrics continues with the names and types
of the values: work that rows of one shape share is done once.

    (STEP, names, types), time, *values
    (METRICS, names, types), time, global step, agent_id, *values
"""
COLUMNS = ("reward", "action", "observation", "terminated", "truncated", "info")
"""Values of a step that are no metrics and go into its line."""
PLACES = frozenset(("agent_id", "episode_index", "step_index", "terminated", "truncated", "frame"))
"""Values that say which agent's step it is, which step, or that an episode ends."""

# Names with a meaning for the reader of a line: a metric with such a name goes into "metrics", where
# every number is a metric.
RESERVED = frozenset(
    "type event_type event payload ts timestamp ts_unix_ns time run_id agent_id agent player_id worker_id "
    "stream_id seq episode episode_id episode_index step step_index time_step global_step total_timesteps "
    "timesteps_total env_steps reward total_reward episode_return return r steps num_steps length "
    "episode_steps episode_length l t done terminated truncated seed duration duration_seconds elapsed "
    "t_start env_id env_name game_id action action_json observation observation_json info metadata "
    "metadata_json metrics extras obs state status source line render_payload render_hint_json rgb_b64 "
    "frame_b64 render_b64 frame_ref frame_thinned packed".split()
)


class Plan:
    """Makes the lines of rows of one shape.

    `lines` takes the rows, and for each the head of its line, its time and its number. It is compiled from
    an f-string, which costs half as much as `%`: the text between the values is not parsed again.

    Printing floats costs most, as each has 17 digits: a step's float metrics are packed, and the reader of
    the line prints their digits.

    Args:
        careful: every value goes through `dump`, which never raises.
    """

    __slots__ = ("at", "floats", "lines", "placed")

    def __init__(self, shape: tuple, dump: Dumper, *, careful: bool = False) -> None:
        kind, names, types = shape
        first = 2 if kind == STEP else 4
        self.at = {name: place for place, name in enumerate(names, first)}
        self.placed = not PLACES.isdisjoint(names)
        fields, metrics, floats, packed = [], [], [], []
        for place, (name, of) in enumerate(zip(names, types), first):
            if of is type(None):
                continue
            if kind == STEP and name == "reward" and (careful or of not in (int, float)):
                fields.append(f"{{reward(v{place})}}")
            elif kind == STEP and name in COLUMNS:
                fields.append(_slot(name, place, of, careful))
            elif kind == STEP and name in PLACES:
                continue
            elif kind == STEP and of is float:
                packed.append((name, place))
                continue
            else:
                metrics.append((name, _slot(name, place, of, careful)))
            if of is float:
                floats.append(place)
        # If one name is reserved, all go into "metrics".
        named = "".join(slot for _, slot in metrics)
        if not RESERVED.isdisjoint(name for name, _ in metrics):
            named = ',"metrics":{{' + named[1:] + "}}"
        number = "step_index" if kind == STEP else "step"
        text = f'{{head}}"ts":"{{stamp}}{{micros:06d}}+00:00","{number}":{{step}}{"".join(fields)}{named}'
        if packed:
            text += _packed(packed)
        text += "}}\n"
        values = "".join(f"v{place}, " for place in range(first + len(names)))
        loop = (
            f"[f{text!r} for ({values}), head, stamp, micros, step in zip(rows, heads, stamps, times, steps)]"
        )
        known = {"dump": dump, "quote": quote, "words": ("false", "true"), "truth": truth, "zip": zip}
        known["reward"] = partial(_reward, dump)
        known["pack"] = struct.Struct(f">{len(packed)}d").pack
        # Only our names of values are code in the source; all other text is inside one literal.
        source = f"lambda rows, heads, stamps, times, steps: {loop}"
        self.lines: Callable[..., list[str]] = eval(source, known)  # noqa: S307
        self.floats = itemgetter(*floats, floats[0]) if floats else None


def truth(value: object) -> bool:
    """The truth value; of an array, whether any element is true."""
    try:
        return bool(value)
    except Exception:
        return True


def _slot(name: object, place: int, kind: type, careful: bool) -> str:
    """The part of a plan's text for one value."""
    label = _literal(f",{quote(str(name))}:")
    if name in ("terminated", "truncated"):
        return f"{label}{{words[truth(v{place})]}}"
    if careful or kind not in (int, float, bool, str) or (kind in (int, float) and "\\" in label):
        return f"{label}{{dump(v{place})}}"
    if kind is bool:
        return f"{label}{{words[v{place}]}}"
    return f"{label}{{quote(v{place})}}" if kind is str else f"{label}{{v{place}!r}}"


def _reward(dump: Dumper, value: object) -> str:
    """The part of a step's line for a reward that is no plain number."""
    return "".join("," + part for part in field_parts(dump, {"reward": value}))


_READ: Mapping[str, Callable[[object], object]] = {
    "reward": number, "episode_return": number, "duration_seconds": number, "elapsed": number,
    "episode_length": whole, "terminated": truth, "truncated": truth,
}  # fmt: skip
"""Column → the function that converts its values; it returns None for values that go to `extras`."""


def field_parts(dump: Dumper, fields: Mapping[str, object]) -> list[str]:
    """`"name":value` of each field. A value that its column does not take goes to `extras`, so that the line
    is not refused."""
    beside, parts = [], []
    for name, value in fields.items():
        read = _READ.get(name)
        found = read(value) if read is not None and value is not None else value
        if found is None and value is not None:
            beside.append(f"{quote(name)}:{dump(value)}")
            what = type(value).__name__
            _warn.once(
                f"number:{name}", f"{name} must be a number, and it was of type {what}: kept in extras."
            )
        else:
            longest = MAX_ROLLOUT_CHARS if name == "rollout" else MAX_CHARS
            parts.append(f"{quote(str(name))}:{dump(found, longest)}")
    return [*parts, '"extras":{' + ",".join(beside) + "}"] if beside else parts


def _packed(floats: list[tuple[str, int]]) -> str:
    """The part of a plan's text for a step's floats: `"packed":["<their bits in hex>","loss",…]`."""
    names = _literal(",".join(quote(name) for name, _ in floats))
    values = ", ".join(f"v{place}" for _, place in floats)
    return f',"packed":["{{pack({values}).hex()}}",{names}]'


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
