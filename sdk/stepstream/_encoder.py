"""Rows of the buffer as JSON lines. Runs off the training thread, in batches.

Steps next to each other that have the same shape (agent, names and types of the values) become lines at
once, by a function that was compiled for this shape.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from itertools import count, groupby, repeat
from operator import itemgetter

from stepstream import _warn
from stepstream._frames import FrameGate, Picture
from stepstream._values import Dumper, quote

STEP, PLACED, EPISODE, METRICS, FRAME, LINE, END = range(7)
"""What a row is: the first of its shape. PLACED is a step that brings an index or a frame.

A row begins with its shape and the time. The shape of a step, and of metrics, goes on with agent_id,
terminated, truncated, the types of the values and the names: what rows of one shape share is done once.
"""
SHAPE = REWARD = itemgetter(0)
MAX_PLANS = 1000
"""Shapes of steps that are remembered per agent: names that are new in each step would fill the memory."""

# Names that the reader of a line gives a meaning of their own: a metric of such a name goes below
# "metrics", where every number is only a number.
RESERVED = frozenset(
    "type event_type event payload ts timestamp ts_unix_ns time run_id agent_id agent player_id worker_id "
    "stream_id seq episode episode_id episode_index step step_index time_step global_step total_timesteps "
    "timesteps_total env_steps reward total_reward episode_return return r steps num_steps length "
    "episode_steps episode_length l t done terminated truncated seed duration duration_seconds elapsed "
    "t_start env_id env_name game_id action action_json observation observation_json info metadata "
    "metadata_json metrics extras status source line render_payload render_hint_json rgb_b64 frame_b64 "
    "render_b64 frame_ref frame_thinned".split()
)

_NOT_FINITE = re.compile(r'(?<!\\)":(nan|-?inf)(?=[,}])')
_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def metrics_row(now: int, agent_id: object, step: object, data: dict) -> tuple:
    """A row of numbers by name at a global step."""
    values = tuple(data.values())
    return (METRICS, agent_id, None, None, tuple(map(type, values)), *data), now, values, step


class Agent:
    """How far one agent is: what the SDK counts where the caller does not."""

    __slots__ = ("earlier", "ended", "episode_index", "length", "plans", "prefix", "step_index", "total")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.earlier = self.length = 0
        self.plans: dict[tuple, Plan] = {}
        self.begin(0)

    def begin(self, episode_index: int) -> None:
        """Count a new episode from its first step."""
        self.episode_index = episode_index
        self.earlier += self.length
        self.step_index = self.length = 0
        self.total = 0.0
        self.ended: tuple[int, bool, bool] | None = None


class Plan:
    """How the lines of steps of one shape are made.

    `lines` takes times, numbers of steps and values, row by row, and the episode's number. It is compiled
    from an f-string, for that costs half of what `%` does: the text between the values is not read again.

    Args:
        text: the line, with each value as `{v0!r}`, `{dump(v1)}` ….
        types: of the values, which `floats` picks those of that are to be finite; their sum tells it, far
            cheaper than a search in the text.
        dump: makes JSON of a value.
    """

    __slots__ = ("floats", "lines", "rewarded")

    def __init__(self, text: str, types: tuple, dump: Dumper) -> None:
        names = "".join(f"v{place}, " for place in range(len(types)))
        loop = f"[f{text!r} for stamp, micros, step, ({names}) in zip(stamps, times, steps, rows)]"
        source = f"lambda stamps, times, episode, steps, rows: {loop}"
        # Only names of values get into the source as code; the rest is inside one literal.
        self.lines: Callable[..., list[str]] = eval(source, {"dump": dump, "quote": quote, "zip": zip})  # noqa: S307
        places = [place for place, kind in enumerate(types) if kind is float]
        self.floats = itemgetter(*places, places[0]) if places else None
        self.rewarded = types[:1] in ((float,), (int,))


class Encoder:
    """One run's rows → lines. Not for several threads at once.

    Args:
        run_id, worker_id: stand in every line.
        agent_id: stands where a row names none; None: the line names none.
        frames: decides which pictures are sent.
    """

    def __init__(self, run_id: str, agent_id: str | None, worker_id: str | None, frames: FrameGate) -> None:
        self.dump = Dumper()
        self.lost = 0
        """Rows that could not be made lines."""
        self._frames = frames
        self._run = f'"run_id":{quote(run_id)}'
        self._worker = f',"worker_id":{quote(worker_id)}' if worker_id else ""
        self._agent_id = agent_id
        self._agents: dict[object, Agent] = {}
        self._second, self._stamp = 0, ""
        self._logs = 0
        self._clock = Clock()
        self._by_kind: dict[int, Callable[..., None]] = {
            PLACED: self._step,
            EPISODE: self._episode,
            FRAME: self._frame,
            LINE: self._line,
            END: self._end,
        }

    def encode(self, rows: Iterable[tuple]) -> tuple[bytes, int]:
        """The rows as lines, and how many lines that is."""
        self._lines: list[str] = []
        self._offset = self._clock.offset()
        for shape, group in groupby(rows, SHAPE):
            if shape[0] == STEP:
                self._steps(shape, list(group))
            elif shape[0] == METRICS:
                self._metrics(shape, list(group))
            else:
                for row in group:
                    self._one(self._by_kind[shape[0]], row)
        return "".join(self._lines).encode("ascii"), len(self._lines)

    def _one(self, write: Callable[..., None], row: tuple) -> None:
        try:
            write(*row)
        except Exception as error:  # whatever it was: the other rows are good
            self.lost += 1
            _warn.once(f"row:{error!r:.80}", f"an event could not be written and was dropped ({error!r}).")

    def _steps(self, shape: tuple, rows: list[tuple]) -> None:
        """Steps of one agent and one shape, next to each other."""
        if len(rows) > 1 and not (shape[2] or shape[3]):
            try:
                self._steps_at_once(shape, rows)
                return
            except Exception:
                pass
        for row in rows:
            self._one(self._step, row)

    def _steps_at_once(self, shape: tuple, rows: list[tuple]) -> None:
        """The hot path: a row costs hardly any bytecode but that of its text."""
        agent = self._agent(shape[1])
        if agent.ended is not None:
            self._auto_episode(agent)
        plan = agent.plans.get(shape) or self._plan(agent, shape)
        values = [row[2] for row in rows]
        stamps, micros = self._times([row[1] for row in rows])
        lines = plan.lines(stamps, micros, agent.episode_index, count(agent.step_index), values)
        if plan.floats and sum(map(sum, map(plan.floats, values))) * 0.0 != 0.0:
            lines = [_spelled(line) for line in lines]
        if plan.rewarded:
            agent.total += sum(map(REWARD, values))
        self._lines += lines
        agent.step_index += len(rows)
        agent.length += len(rows)

    def _step(self, shape: tuple, now: int, values: tuple, place: tuple = (None, None, None)) -> None:
        """One step, alone; `place` is its episode, its number there and its picture, where they are given."""
        _, agent_id, terminated, truncated = shape[:4]
        episode, step, frame = place
        agent = self._agent(agent_id)
        if agent.ended is not None:
            self._auto_episode(agent)
        if episode is not None and int(episode) != agent.episode_index:
            agent.begin(int(episode))
        step = agent.step_index if step is None else int(step)
        plan = agent.plans.get(shape) or self._plan(agent, shape)
        micros = self._micros(now + self._offset)
        (line,) = plan.lines((self._stamp,), (micros,), agent.episode_index, (step,), (values,))
        if plan.floats and sum(plan.floats(values)) * 0.0 != 0.0:
            line = _spelled(line)
        self._lines.append(line if frame is None else self._frames.attach(line, frame, agent_id))
        agent.step_index = step + 1
        agent.length += 1
        agent.total += _number(values[0])
        if terminated or truncated:
            agent.ended = (now + self._offset, bool(terminated), bool(truncated))

    def _plan(self, agent: Agent, shape: tuple) -> Plan:
        """The plan of a shape; remembered, as long as there are not too many."""
        kind, _, terminated, truncated, types, *metrics = shape
        of_step = kind != METRICS
        head = '"type":"step",' if of_step else '"type":"metrics",'
        parts = ["{{", head, '"ts":"{stamp}{micros:06d}+00:00",', _literal(agent.prefix)]
        parts.append('"episode_index":{episode},"step_index":{step}' if of_step else '"step":{step}')
        fields = ("reward", "action", "observation", "info") if of_step else ()
        parts += [_slot(name, place, types[place]) for place, name in enumerate(fields)]
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            parts.append("" if value is None else f',"{name}":{"true" if value else "false"}')
        named = "".join(_slot(name, place, types[place]) for place, name in enumerate(metrics, len(fields)))
        # Where one name means something else to a reader, all go below "metrics".
        parts.append(named if RESERVED.isdisjoint(metrics) else ',"metrics":{{' + named[1:] + "}}")
        plan = Plan("".join([*parts, "}}\n"]), types, self.dump)
        if len(agent.plans) >= MAX_PLANS:
            _warn.once("plans", "metric names that are new with every step cost time; give them few names.")
            agent.plans.clear()
        agent.plans[shape] = plan
        return plan

    def _times(self, nows: list[int]) -> tuple[Iterable[str], list[int]]:
        """Text up to the second, and microseconds in it, of each time."""
        self._micros(nows[0] + self._offset)
        shift = self._offset - self._second
        micros = [(now + shift) // 1000 for now in nows]
        if min(micros) >= 0 and max(micros) < 1_000_000:
            return repeat(self._stamp), micros
        micros = []
        stamps = []
        for now in nows:
            micros.append(self._micros(now + self._offset))
            stamps.append(self._stamp)
        return stamps, micros

    def _micros(self, now: int) -> int:
        """Microseconds in the second of `now`, whose text up to the point is `_stamp` from here on."""
        second, rest = divmod(now, 1_000_000_000)
        if second * 1_000_000_000 != self._second:
            self._second = second * 1_000_000_000
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return rest // 1000

    def _auto_episode(self, agent: Agent) -> None:
        assert agent.ended is not None
        now, terminated, truncated = agent.ended
        fields: dict[str, object] = {"episode_index": agent.episode_index, "episode_return": agent.total}
        fields.update(episode_length=agent.length, terminated=terminated, truncated=truncated)
        self._object("episode", now, agent.prefix, fields, {})
        agent.begin(agent.episode_index + 1)

    def _episode(self, _: tuple, now: int, agent_id: object, fields: dict, metrics: dict) -> None:
        agent = self._agent(agent_id)
        index = fields.get("episode_index")
        if index is not None and int(index) != agent.episode_index:
            if agent.ended is not None:  # that one was another episode
                self._auto_episode(agent)
            if int(index) != agent.episode_index:
                agent.begin(int(index))
        counted: dict[str, object] = {"episode_index": agent.episode_index}
        if agent.length:
            counted.update(episode_return=agent.total, episode_length=agent.length)
        if agent.ended is not None:
            counted.update(terminated=agent.ended[1], truncated=agent.ended[2])
        counted.update((name, value) for name, value in fields.items() if value is not None)
        self._object("episode", now + self._offset, agent.prefix, counted, metrics)
        agent.begin(agent.episode_index + 1)

    def _metrics(self, shape: tuple, rows: list[tuple]) -> None:
        """What `log` was given, calls of one shape next to each other."""
        self._steps_of_run = self.steps
        try:
            self._lines += self._metric_lines(shape, rows)
        except Exception:  # one of them is odd
            for row in rows:
                self._one(lambda *row: self._lines.extend(self._metric_lines(row[0], [row])), row)

    def _metric_lines(self, shape: tuple, rows: list[tuple]) -> list[str]:
        agent = self._agent(shape[1])
        plan = agent.plans.get(shape) or self._plan(agent, shape)
        values = [row[2] for row in rows]
        stamps, micros = self._times([row[1] for row in rows])
        lines = plan.lines(stamps, micros, 0, [self._global_step(row[3]) for row in rows], values)
        if plan.floats and sum(map(sum, map(plan.floats, values))) * 0.0 != 0.0:
            lines = [_spelled(line) for line in lines]
        return lines

    def _global_step(self, step: int | None) -> int:
        """As wandb counts, where none is given; where steps are logged, they are the better measure."""
        if step is None:
            step = self._steps_of_run or self._logs
        step = int(step)
        self._logs = step + 1
        return step

    def _frame(self, _: tuple, now: int, agent_id: object, frame: Picture) -> None:
        agent = self._agent(agent_id)
        fields = {"episode_index": agent.episode_index, "step_index": max(agent.step_index - 1, 0)}
        self._object("frame", now + self._offset, agent.prefix, fields, {})
        self._lines[-1] = self._frames.attach(self._lines[-1], frame, agent_id)

    def _line(self, _: tuple, now: int, kind: str, fields: dict) -> None:
        self._object(kind, now + self._offset, self._prefix(None), fields, {})

    def _object(self, kind: str, now: int, prefix: str, fields: dict, metrics: dict) -> None:
        dump, micros = self.dump, self._micros(now)
        parts = [f'{{"type":"{kind}","ts":"{self._stamp}{micros:06d}+00:00",{prefix[:-1]}']
        parts += [f"{quote(str(name))}:{dump(value)}" for name, value in fields.items()]
        named = [f"{quote(str(name))}:{dump(value)}" for name, value in metrics.items()]
        parts += named if RESERVED.isdisjoint(metrics) else ['"metrics":{' + ",".join(named) + "}"]
        self._lines.append(",".join(parts) + "}\n")

    def _agent(self, agent_id: object) -> Agent:
        agent = self._agents.get(agent_id)
        if agent is None:
            agent = self._agents[agent_id] = Agent(self._prefix(agent_id))
        return agent

    def _prefix(self, agent_id: object) -> str:
        """Who a line is about: `"run_id":…,"agent_id":…,`."""
        who = self._agent_id if agent_id is None else str(agent_id)
        return self._run + self._worker + (f',"agent_id":{quote(who)},' if who is not None else ",")

    @property
    def steps(self) -> int:
        """Steps so far, of all agents."""
        return sum(agent.earlier + agent.length for agent in self._agents.values())

    def end(self) -> tuple[bytes, int]:
        """The episodes that ended with the last step of their agent."""
        return self.encode([((END,), 0)])

    def _end(self, _: tuple, now: int) -> None:
        for agent in self._agents.values():
            if agent.ended is not None:
                self._auto_episode(agent)


class Clock:
    """Wall-clock time that never goes back: the monotonic clock, and its offset, which only grows."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def offset(self) -> int:
        """Nanoseconds to add to `time.monotonic_ns()`."""
        offset = time.time_ns() - time.monotonic_ns()
        if offset < self._offset - 1_000_000_000:
            back = (self._offset - offset) / 1e9
            _warn.once("clock", f"the clock jumped back by {back:.0f} s; times go on without the jump.")
        self._offset = max(self._offset, offset)
        return self._offset


def _spelled(text: str) -> str:
    """Python's words for numbers that are none as JSON dialects have them."""
    return _NOT_FINITE.sub(lambda found: '":' + _WORDS[found[1]], text)


def _slot(name: object, place: int, kind: type) -> str:
    """The part of a plan's text for one value; empty where there is none."""
    if kind is type(None):
        return ""
    label = _literal(f",{quote(str(name))}:")
    if kind in (int, float) and "\\" not in label:
        return f"{label}{{v{place}!r}}"
    return f"{label}{{{'quote' if kind is str else 'dump'}(v{place})}}"


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
