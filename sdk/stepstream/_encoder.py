"""Rows of the buffer as JSON lines. Runs off the training thread, in batches.

A step costs the training loop little only if its line costs little: the text of a line is a template,
made once for each shape (agent, names and types of the values) and filled by one `%`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from stepstream import _warn
from stepstream._frames import FrameGate
from stepstream._values import Dumper, quote

STEP, EPISODE, METRICS, FRAME, LINE = range(5)

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


class Agent:
    """How far one agent is: what the SDK counts where the caller does not."""

    __slots__ = ("ended", "episode_index", "length", "plans", "prefix", "step_index", "total")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.plans: dict[object, tuple[str, tuple[tuple[int, Callable[[object], str]], ...]]] = {}
        self.begin(0)

    def begin(self, episode_index: int) -> None:
        """Count a new episode from its first step."""
        self.episode_index = episode_index
        self.step_index = self.length = 0
        self.total = 0.0
        self.ended: tuple[int, bool, bool] | None = None


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
        self.steps = 0
        """Steps so far, of all agents."""
        self._frames = frames
        self._run = f'"run_id":{quote(run_id)}'
        self._worker = f',"worker_id":{quote(worker_id)}' if worker_id else ""
        self._agent_id = agent_id
        self._agents: dict[object, Agent] = {}
        self._second, self._stamp = -1, ""
        self._logs = 0
        self._clock = Clock()
        self._by_kind = {EPISODE: self._episode, METRICS: self._metrics, FRAME: self._frame, LINE: self._line}

    def encode(self, rows: list[tuple]) -> tuple[bytes, int]:
        """The rows as lines, and how many lines that is."""
        offset, lines = self._clock.offset(), []
        for row in rows:
            try:
                if row[0] == STEP:
                    self._step(row, row[1] + offset, lines)
                else:
                    self._by_kind[row[0]](row, row[1] + offset, lines)
            except Exception as error:  # whatever it was: the other rows are good
                self.lost += 1
                _warn.once(
                    f"row:{error!r:.80}", f"an event could not be written and was dropped ({error!r})."
                )
        text = "".join(lines)
        if '":nan' in text or '":inf' in text or '":-inf' in text:
            text = _NOT_FINITE.sub(lambda found: '":' + _WORDS[found[1]], text)
        return text.encode("ascii"), len(lines)

    def end(self) -> tuple[bytes, int]:
        """The episodes that ended with the last step of their agent."""
        lines: list[str] = []
        for agent in self._agents.values():
            if agent.ended is not None:
                self._auto_episode(agent, lines)
        return "".join(lines).encode("ascii"), len(lines)

    def _step(self, row: tuple, now: int, lines: list[str]) -> None:
        (
            _,
            _,
            agent_id,
            episode_index,
            step_index,
            reward,
            action,
            observation,
            terminated,
            truncated,
            info,
            frame,
            metrics,
        ) = row
        agent = self._agents.get(agent_id) or self._new_agent(agent_id)
        if agent.ended is not None:
            self._auto_episode(agent, lines)
        if episode_index is not None and episode_index != agent.episode_index:
            agent.begin(int(episode_index))
        if step_index is None:
            step_index = agent.step_index
        agent.step_index = step_index + 1
        agent.length += 1
        self.steps += 1
        second, rest = divmod(now, 1_000_000_000)
        if second != self._second:
            self._new_second(second)
        values = (
            self._stamp,
            rest // 1000,
            agent.episode_index,
            step_index,
            reward,
            action,
            observation,
            info,
            *metrics.values(),
        )
        key = (terminated, truncated, tuple(map(type, values)), *metrics)
        try:
            template, odd = agent.plans[key]
        except KeyError:
            template, odd = self._plan(agent, key, metrics)
        line = template % (values if not odd else _mended(values, odd))
        if frame is not None:
            line = self._frames.attach(line, frame, agent_id)
        lines.append(line)
        if reward is not None:
            agent.total += reward if type(reward) is float else _number(reward)
        if terminated or truncated:
            agent.ended = (now, terminated, truncated)

    def _plan(self, agent: Agent, key: tuple, metrics: dict) -> tuple:
        """Template and conversions for steps of one shape; kept, as long as there are not too many."""
        terminated, truncated, types = key[:3]
        parts = [
            f'{{"type":"step","ts":"%s%06d+00:00",{_escaped(agent.prefix)}"episode_index":%d,"step_index":%d'
        ]
        odd: list = []
        for index, name in enumerate(("reward", "action", "observation", "info"), 4):
            parts.append(self._slot(name, index, types[index], odd))
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            parts.append("" if value is None else f',"{name}":{"true" if value else "false"}')
        nested: list[str] = []
        # Slots are filled in the order of the values, so where one name goes below "metrics", all go.
        below = any(name in RESERVED for name in metrics)
        for index, name in enumerate(metrics, 8):
            (nested if below else parts).append(self._slot(name, index, types[index], odd))
        if below:
            parts.append(',"metrics":{' + "".join(nested).lstrip(",") + "}")
        plan = ("".join(parts) + "}\n", tuple(odd))
        if len(agent.plans) < 1000:  # names that are new in each step would fill the memory
            agent.plans[key] = plan
        return plan

    def _slot(self, name: object, index: int, kind: type, odd: list) -> str:
        """The part of a template for one value, which takes it even where nothing is to be seen."""
        if kind is type(None):
            return "%.0s"
        label = f",{_escaped(quote(str(name)))}:"
        if kind in (int, float) and "\\" not in label:
            return label + "%r"
        odd.append((index, quote if kind is str else self.dump))
        return label + "%s"

    def _auto_episode(self, agent: Agent, lines: list[str]) -> None:
        now, terminated, truncated = agent.ended or (0, False, False)
        fields = {
            "episode_index": agent.episode_index,
            "episode_return": agent.total,
            "episode_length": agent.length,
        }
        fields.update(terminated=bool(terminated), truncated=bool(truncated))
        lines.append(self._object("episode", now, agent.prefix, fields, {}))
        agent.begin(agent.episode_index + 1)

    def _episode(self, row: tuple, now: int, lines: list[str]) -> None:
        _, _, agent_id, fields, metrics = row
        agent = self._agents.get(agent_id) or self._new_agent(agent_id)
        index = fields.get("episode_index")
        if index is not None and int(index) != agent.episode_index:
            if agent.ended is not None:  # that one was another episode
                self._auto_episode(agent, lines)
            if int(index) != agent.episode_index:
                agent.begin(int(index))
        counted: dict[str, object] = {"episode_index": agent.episode_index}
        if agent.length:
            counted.update(episode_return=agent.total, episode_length=agent.length)
        if agent.ended is not None:
            counted.update(terminated=bool(agent.ended[1]), truncated=bool(agent.ended[2]))
        counted.update((name, value) for name, value in fields.items() if value is not None)
        lines.append(self._object("episode", now, agent.prefix, counted, metrics))
        agent.begin(agent.episode_index + 1)

    def _metrics(self, row: tuple, now: int, lines: list[str]) -> None:
        _, _, agent_id, step, data = row
        if step is None:  # as wandb counts; where steps are logged, they are the better measure
            step = self.steps if self.steps else self._logs
        self._logs = int(step) + 1
        prefix = self._prefix(agent_id) if agent_id is not None else self._default_prefix()
        lines.append(self._object("metrics", now, prefix, {"step": step}, data))

    def _frame(self, row: tuple, now: int, lines: list[str]) -> None:
        _, _, agent_id, frame = row
        agent = self._agents.get(agent_id) or self._new_agent(agent_id)
        fields = {"episode_index": agent.episode_index, "step_index": max(agent.step_index - 1, 0)}
        line = self._object("frame", now, agent.prefix, fields, {})
        lines.append(self._frames.attach(line, frame, agent_id))

    def _line(self, row: tuple, now: int, lines: list[str]) -> None:
        _, _, kind, fields = row
        lines.append(self._object(kind, now, self._default_prefix(), fields, {}))

    def _object(self, kind: str, now: int, prefix: str, fields: dict, metrics: dict) -> str:
        second, rest = divmod(now, 1_000_000_000)
        if second != self._second:
            self._new_second(second)
        dump = self.dump
        parts = [f'{{"type":"{kind}","ts":"{self._stamp}{rest // 1000:06d}+00:00",{prefix[:-1]}']
        parts += [f"{quote(str(name))}:{dump(value)}" for name, value in fields.items()]
        below = any(name in RESERVED for name in metrics)
        named = [f"{quote(str(name))}:{dump(value)}" for name, value in metrics.items()]
        parts += ['"metrics":{' + ",".join(named) + "}"] if below else named
        return ",".join(parts) + "}\n"

    def _new_agent(self, agent_id: object) -> Agent:
        agent = self._agents[agent_id] = Agent(self._prefix(agent_id))
        return agent

    def _prefix(self, agent_id: object) -> str:
        """Who a line is about: `"run_id":…,"agent_id":…,`."""
        who = self._agent_id if agent_id is None else str(agent_id)
        return self._run + self._worker + (f',"agent_id":{quote(who)},' if who is not None else ",")

    def _default_prefix(self) -> str:
        return self._prefix(None)

    def _new_second(self, second: int) -> None:
        self._second = second
        self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))


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


def _mended(values: tuple, odd: tuple) -> tuple:
    mended = list(values)
    for index, convert in odd:
        mended[index] = convert(mended[index])
    return tuple(mended)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
