"""The dialects of RL workers as tables: what they print, and which columns it becomes."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from producers.lines.context import Context
from producers.lines.fields import FieldReader
from producers.lines.json_text import Fields, strict
from producers.lines.values import BadValueError, TooWideError, boolean, integer, name_of, string
from schemas.topics import Kind
from schemas.values import LONGEST_ID, clean

Columns = dict[str, Any]
Handler = Callable[[FieldReader, Context], tuple[Kind, Columns]]

EPISODE_NUMBER = ("episode_index", "episode")
STEP_NUMBER = ("step_index", "step", "time_step")
OBSERVATION = ("observation", "obs", "state")
ENDED = ("terminated", "truncated", "done")
SUCCESS = ("success", "is_success")
"""Flags of an episode that become numbers, so that their mean is the success rate."""
RETURN = ("total_reward", "episode_return", "return", "reward", "r")
LENGTH = ("steps", "num_steps", "length", "episode_steps", "episode_length", "l")
GLOBAL_STEP = (
    "step", "global_step", "total_timesteps", "timesteps_total", "env_steps", "num_env_steps", "env_step",
    "num_timesteps", "total_steps", "timesteps", "timestep", "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled", "_step",
)  # fmt: skip
"""Names of a global step, alone or at the end of a path such as `time/total_timesteps`."""

KIND_NAMES = ("type", "event_type", "event")
LIFE_CYCLE = (
    "run_started", "run_completed", "run_failed", "run_cancelled", "heartbeat", "checkpoint_saved",
    "checkpoint_loaded", "artifact", "error",
)  # fmt: skip
CHATTER = (
    "init", "ready", "ping", "pong", "stop", "stopped", "paused", "resumed", "agent_ready",
    "action_selected", "ack", "hello", "bye", "shutdown",
)  # fmt: skip
NAMES_AGENT = ("run_started", "ready")
"""Kinds whose agent becomes the agent of later lines that name none."""

_NUMBER_OF_TRUTH = {"true": "1", "false": "0"}
_EPISODE_ID = re.compile(r"(?:^|[-_/:])ep(?:isode)?[-_]?(\d{1,18})$|^(\d{1,18})$", re.I | re.A)
_WORKER_IN_ID = re.compile(r"(?:^|-)(w\w*)-ep(?:isode)?[-_]?\d+$", re.I | re.A)
_BATCH_TYPES = ("samplebatch", "multiagentbatch")
_BATCH_COLUMNS = ("obs", "actions", "new_obs", "next_obs", "dones", "terminateds", "truncateds", "eps_id")


class UnusableError(ValueError):
    """A line that looks like an event and cannot be used as one."""

    field = None

    def __init__(self, reason: str, message: str, raw: bytes = b"") -> None:
        super().__init__(message)
        self.reason = reason
        self.raw = raw
        """The bytes at fault, if they are not the line's."""


def step(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """One environment step."""
    columns: Columns = {"episode_index": episode_index(said), "step_index": said.integer(*STEP_NUMBER)}
    columns["observation"] = said.json(*OBSERVATION)
    columns["action"], columns["info"] = said.json("action"), said.json("info")
    columns["reward"] = said.double("reward", "reward")
    columns |= _ended(said, columns["info"])
    for name in ("observation", "action", "info"):
        columns[name] = _strict(columns[name])
    return Kind.STEPS, columns | said.rest()


def episode(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """One finished episode."""
    columns: Columns = {
        "episode_index": episode_index(said),
        "episode_return": said.double("episode_return", *RETURN),
        "episode_length": said.integer(*LENGTH),
    }
    columns |= _ended(said, said.fields.get("info"))
    columns["seed"] = _seed(said)
    # Gymnasium's `t` is the duration of the episode; a Monitor's `t` is the time since it began.
    elapsed = ("elapsed", "t") if context.monitor else ("elapsed",)
    columns["elapsed"] = said.double("elapsed", *elapsed)
    columns["duration"] = said.double("duration", "duration_seconds", "duration", "t")
    for name in SUCCESS:
        if (text := said.fields.get(name)) in _NUMBER_OF_TRUTH:
            said.fields[name] = _NUMBER_OF_TRUTH[text]
    return Kind.EPISODES, columns | said.rest()


def metrics(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """Numbers by name."""
    numbers, others = said.flattened()
    return Kind.METRICS, {"global_step": _global_step(numbers, others)} | said.columns(numbers, others)


def sdk_metrics(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """What `run.log` writes: numbers with reserved names are inside `metrics`."""
    global_step = said.integer("step")
    return Kind.METRICS, {"global_step": global_step} | said.rest()


def run_event(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """A life cycle event; `event` holds the kind, `payload` all other fields."""
    return Kind.RUNS, {"event": said.kind, "payload": said.joined()}


def monitor_header(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """The first line of a Monitor file."""
    context.monitor = True
    return Kind.RUNS, {"event": "run_started", "payload": said.joined()}


def other(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """Other events: kept, with the kind in the payload."""
    return Kind.RUNS, {"event": "other", "payload": said.joined()}


def log_line(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """A line of the worker's stderr, in stepstream's own stream."""
    source, line = said.take("source"), said.take("line")
    return Kind.LOGS, {
        "source": clean(string(source[1])) if source else "stderr",
        "line": clean(string(line[1])) if line else "",
    }


def unreadable(said: FieldReader, context: Context) -> tuple[Kind, Columns]:
    """A record of another tracker that the importer could not read, with the reason."""
    message = said.take("message")
    raise UnusableError("unreadable", clean(string(message[1])) if message else "It could not be read.")


KINDS: dict[str, Handler] = {
    "step": step,
    "episode": episode,
    "episode_done": episode,
    "episode_end": episode,
    **dict.fromkeys(LIFE_CYCLE, run_event),
    **dict.fromkeys(CHATTER, other),
}
"""Kind → its handler."""

SDK_KINDS: dict[str, Handler] = {
    **KINDS,
    "metrics": sdk_metrics,
    "frame": other,
    "sdk_warning": other,
    "unreadable": unreadable,
}
META_KINDS: dict[str, Handler] = {**KINDS, "log": log_line}


def kind_of(fields: Fields, kinds: dict[str, Handler]) -> tuple[str | None, str | None]:
    """The known kind that a line names, and the field that names it."""
    for name in KIND_NAMES:
        text = fields.get(name, "")
        if text[:1] == '"' and (kind := string(text).strip().lower()) in kinds:
            return kind, name
    return None, None


def classified(said: FieldReader, context: Context) -> Handler:
    """The handler of a line without a kind, or of an unknown kind.

    Raises:
        UnusableError: the line is a batch of many steps, or no event at all.
    """
    if _is_batch(said):
        raise UnusableError("batch", "One line holds a batch of many steps: print one line for each step.")
    if _is_step(said, context):
        context.steps = sorted(said.fields)
        return step
    if _is_episode(said):
        return episode
    if said.has("t_start") and said.has("env_id"):
        return monitor_header
    numbers, _ = said.flattened()
    if numbers:
        return metrics
    if any(said.has(name) for name in KIND_NAMES):
        return other
    if not said.fields:
        raise UnusableError("empty", "The object says nothing at all.")
    raise UnusableError(
        "unknown", "The object has neither a kind nor a number, so nobody can tell what it is."
    )


def _is_step(said: FieldReader, context: Context) -> bool:
    """Whether `reward` is that of one step: the line has a step number, an observation, an action, a flag
    that the episode goes on, or the same names as the step before. With a length, it is a return."""
    if "reward" not in said.fields:
        return False
    acted = said.has("action", "observation", "obs") or said.fields.get("state", '"')[0] not in '"n'
    ended = _flags(said)
    if said.has("step_index", "time_step") or (acted and said.has("step")) or (ended and not any(ended)):
        return True
    if said.has(*LENGTH):
        return False
    if acted or (ended and said.has("step")) or context.steps == sorted(said.fields):
        return True
    return bool(ended) and not _is_episode(said)


def _flags(said: FieldReader) -> list[bool]:
    """Those of `terminated`, `truncated` and `done` that are not null."""
    found = []
    for name in ENDED:
        if said.has(name):
            with suppress(BadValueError):
                found.append(boolean(name, said.fields[name]))
    return found


def _is_episode(said: FieldReader) -> bool:
    """Whether it has a return, and a length or a number, and does not say that the episode goes on."""
    if (flags := _flags(said)) and not any(flags):
        return False
    returned = said.has(*RETURN)
    numbered = said.has(*EPISODE_NUMBER) or _episode_in_id(said) or _episode_in_metadata(said)
    return (said.has("r") and said.has("l")) or (returned and (said.has(*LENGTH) or numbered is not None))


def _is_batch(said: FieldReader) -> bool:
    fields = said.fields
    if any(string(fields.get(name, "")).lower() in _BATCH_TYPES for name in KIND_NAMES):
        return True
    lists = fields.get("rewards", "")[:1] in ("[", '"') and fields.get("rewards", "") != ""
    return fields.get("policy_batches", "")[:1] == "{" or (lists and said.has(*_BATCH_COLUMNS))


def episode_index(said: FieldReader) -> int | None:
    """The episode's index. If the metadata has one, it is right, and `episode` is a number for display."""
    right = _episode_in_metadata(said)
    if right is not None:
        said.fields = {
            name: text
            for name, text in said.fields.items()
            if name != "episode_index" or text not in (str(right), "null")
        }
        return right
    found = said.integer(*EPISODE_NUMBER)
    return found if found is not None else _episode_in_id(said)


def _episode_in_metadata(said: FieldReader) -> int | None:
    text = said.inside("metadata").get("episode_index", "null")
    try:
        return None if text == "null" else integer("episode_index", text)
    except (BadValueError, TooWideError):
        return None


def _episode_in_id(said: FieldReader) -> int | None:
    found = _EPISODE_ID.search(string(said.fields.get("episode_id", "")))
    return int(found[1] or found[2]) if found else None


def worker_of(said: FieldReader) -> str | None:
    """The worker: `worker_id`, else as an `episode_id` such as `run-w0-ep000004` has it."""
    found = said.take("worker_id")
    if found is not None and (named := name_of(*found)) is not None:
        return named
    in_id = _WORKER_IN_ID.search(string(said.fields.get("episode_id", "")))
    return in_id[1] if in_id and len(in_id[1]) <= LONGEST_ID else None


def _seed(said: FieldReader) -> int | None:
    """A seed that is no whole number stays in extras; the line is not refused."""
    try:
        integer("seed", said.fields.get("seed", "null"))
    except BadValueError:
        return None
    except TooWideError:
        pass
    return said.integer("seed")


def _ended(said: FieldReader, info: str | None) -> Columns:
    """terminated and truncated; for old Gym's `done`, `TimeLimit.truncated` says which."""
    terminated, truncated = said.boolean("terminated"), said.boolean("truncated")
    if terminated is None and said.has("done"):
        done = said.boolean("done")
        limit = _time_limit(said, info)
        truncated = limit if truncated is None else truncated
        terminated = done and not truncated
    return {"terminated": terminated, "truncated": truncated}


def _time_limit(said: FieldReader, info: str | None) -> bool | None:
    found = said.take("TimeLimit.truncated")
    if found is None and info is not None and "TimeLimit.truncated" in info:
        text = FieldReader({"info": info}).inside("info").get("TimeLimit.truncated", "null")
        found = None if text == "null" else ("info", text)
    return None if found is None else boolean(*found)


def _global_step(numbers: Fields, others: Fields) -> int | None:
    for name in _step_names(numbers, others):
        group = numbers if name in numbers else others
        try:
            value = integer(name, group[name])
        except (BadValueError, TooWideError):
            continue
        del group[name]
        return value
    return None


def _step_names(numbers: Fields, others: Fields) -> list[str]:
    """Names of a global step in the line, the best first; its value may be a string."""
    rank = {name: place for place, name in enumerate(GLOBAL_STEP)}
    there = [name for name in (*numbers, *others) if name in rank]
    below = [name for name in numbers if "/" in name and name.rpartition("/")[2] in rank]
    return sorted(there, key=rank.__getitem__) + sorted(below, key=lambda name: rank[name.rpartition("/")[2]])


def _strict(text: str | None) -> str | None:
    return None if text is None else strict(text)
