"""Turns rows of the buffer into JSON lines, in batches, outside the training thread.

Consecutive steps of the same shape (names and types of the values) become lines at once, by a function that
is compiled for this shape.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby, repeat
from operator import itemgetter

from stepstream import _warn
from stepstream._frames import FrameGate, Picture
from stepstream._plan import END, EPISODE, FRAME, LINE, METRICS, RESERVED, STEP, Plan, field_parts, truth
from stepstream._values import Dumper, number, quote

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than all of this package
    from typing import Any

SHAPE = itemgetter(0)
TIME = itemgetter(1)
MAX_PLANS = 1000
"""Shapes that are remembered, at most: names that are new in each step would fill the memory."""
LONGEST_ID = 300
"""Characters of an id, at most: tables take no more."""
_NONE: Mapping = {}
_NOT_FINITE = re.compile(r'(?<!\\)":(nan|-?inf)(?=[,}])')
_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def metrics_row(now: int, step: object, agent_id: object, data: Mapping) -> tuple:
    """A row of numbers by name at a global step."""
    values = tuple(data.values())
    return (METRICS, tuple(data), tuple(map(type, values))), now, step, agent_id, *values


class Agent:
    """The counters of one agent, for callers that do not count.

    Args:
        prefix: the identity in its lines: `"run_id":…,"agent_id":…,`.
    """

    __slots__ = (
        "earlier",
        "ended",
        "episode_index",
        "head",
        "highest",
        "length",
        "prefix",
        "step_index",
        "total",
        "whole",
    )

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.earlier = self.length = 0
        self.episode_index = self.highest = -1
        self.begin(0)

    def begin(self, episode_index: int, first_step: int | None = None) -> None:
        """Count an episode from here on.

        Args:
            first_step: as the caller gives it; not 0 where the episode was left for another one.
        """
        if self.length:
            self.highest = max(self.highest, self.episode_index)
        self.whole = not first_step or episode_index > self.highest
        self.episode_index = episode_index
        self.head = f'{{"type":"step",{self.prefix}"episode_index":{episode_index},'
        self.earlier += self.length
        self.step_index = self.length = 0
        self.total: float | None = None
        self.ended: tuple[int, bool, bool] | None = None

    def add(self, rewards: Iterable[object]) -> None:
        """Add to the return, which is unknown while no step has a reward."""
        known = [value for value in map(number, rewards) if value is not None]
        if known:
            self.total = sum(known, self.total or 0.0)

    def counted(self) -> dict[str, object]:
        """What the steps say of their episode; only parts of it have no return and no length."""
        fields: dict[str, object] = {"episode_index": self.episode_index}
        if self.whole and self.total is not None:
            fields["episode_return"] = self.total
        if self.whole and self.length:
            fields["episode_length"] = self.length
        if self.ended is not None:
            fields.update(terminated=self.ended[1], truncated=self.ended[2])
        return fields


class Encoder:
    """One run's rows → lines. Not for several threads at once.

    Args:
        run_id, worker_id: written into every line.
        agent_id: for rows that name none; None: their lines name none.
        frames: chooses the pictures that are sent.
    """

    def __init__(self, run_id: str, agent_id: str | None, worker_id: str | None, frames: FrameGate) -> None:
        self.dump = Dumper()
        self.lost = 0
        """Number of rows that could not be written."""
        self._frames = frames
        self._run = f'"run_id":{quote(run_id)}'
        self._worker = f',"worker_id":{quote(worker_id[:LONGEST_ID])}' if worker_id else ""
        self._agent_id = agent_id
        self._agents: dict[str | None, Agent] = {}
        self.plans: dict[tuple, Plan] = {}
        self._second, self._stamp = 0, ""
        self._logs = 0
        self._clock = Clock()
        self._by_kind: dict[int, Callable[..., str]] = {
            EPISODE: self._episode,
            FRAME: self._frame,
            LINE: self._line,
            END: self._end,
        }

    def encode(self, rows: Iterable[tuple]) -> tuple[bytes, int]:
        """The rows as lines, and the number of lines."""
        lines: list[str] = []
        self._offset = self._clock.offset()
        for shape, group in groupby(rows, SHAPE):
            if shape[0] == STEP:
                lines += self._steps(shape, list(group))
            elif shape[0] == METRICS:
                lines += self._metrics(shape, list(group))
            else:
                lines += self._each(self._by_kind[shape[0]], group)
        data = "".join(lines).encode("ascii")
        return data, data.count(b"\n")

    def _each(self, make: Callable[..., Any], rows: Iterable[tuple]) -> list[Any]:
        """Apply `make` to each row; a row for which it fails is lost alone."""
        made = []
        for row in rows:
            try:
                made.append(make(*row))
            except Exception as error:  # the other rows are good
                self.lost += 1
                _warn.once(
                    f"row:{error!r:.80}", f"an event could not be written and was dropped ({error!r})."
                )
        return made

    def _steps(self, shape: tuple, rows: list[tuple]) -> list[str]:
        """The lines of consecutive steps of one shape."""
        plan = self._plan(shape)
        if plan.placed:
            places = self._each(partial(self._place, plan.at), rows)
            rows, heads, steps = _columns(places)
        else:  # the hot path: hardly any bytecode for a row besides that of its text
            heads, steps = self._in_a_row(plan.at.get("reward"), rows)
        lines = self._made(shape, rows, heads, steps)
        if "frame" in plan.at:
            for number, row in enumerate(rows):
                picture = row[plan.at["frame"]]
                if picture is not None:
                    agent_id = row[plan.at["agent_id"]] if "agent_id" in plan.at else None
                    lines[number] = self._frames.attach(lines[number], picture, agent_id)
        return lines

    def _in_a_row(self, reward: int | None, rows: list[tuple]) -> tuple[list[str], Sequence[int]]:
        """For steps of the run's own agent in one episode: the heads of their lines, and their numbers."""
        agent = self._agent(None)
        ended = self._auto_episode(agent) if agent.ended is not None else ""
        heads, steps = [agent.head] * len(rows), range(agent.step_index, agent.step_index + len(rows))
        heads[0] = ended + agent.head
        agent.step_index += len(rows)
        agent.length += len(rows)
        if reward is not None:
            agent.add(map(itemgetter(reward), rows))
        return heads, steps

    def _made(self, shape: tuple, rows: list[tuple], heads: list[str], steps: Sequence[int]) -> list[str]:
        plan = self._plan(shape)
        stamps, micros = self._times(list(map(TIME, rows)))
        try:
            lines = plan.lines(rows, heads, stamps, micros, steps)
        except Exception:  # an integer with more digits than Python prints
            lines = Plan(shape, self.dump, careful=True).lines(rows, heads, stamps, micros, steps)
        # The sum shows whether all are finite, far cheaper than a search in the text.
        if plan.floats and sum(map(sum, map(plan.floats, rows))) * 0.0 != 0.0:
            lines = [_spelled(line) for line in lines]
        return lines

    def _place(self, at: Mapping[str, int], *row: Any) -> tuple[tuple, str, int]:
        """A step's row, the head of its line (after that of an episode that ended), its number."""
        said = {name: row[place] for name, place in at.items()}
        agent = self._agent(said.get("agent_id"))
        episode, step = said.get("episode_index"), said.get("step_index")
        episode = None if episode is None else int(episode)
        step = None if step is None else int(step)
        head = self._auto_episode(agent) if agent.ended is not None else ""
        if episode is not None and episode != agent.episode_index:
            agent.begin(episode, step)
        step = agent.step_index if step is None else step
        agent.step_index = step + 1
        agent.length += 1
        agent.add((said.get("reward"),))
        terminated, truncated = truth(said.get("terminated")), truth(said.get("truncated"))
        if terminated or truncated:
            agent.ended = (row[1] + self._offset, terminated, truncated)
        return row, head + agent.head, step

    def _plan(self, shape: tuple) -> Plan:
        """The plan of a shape, remembered unless there are too many."""
        plan = self.plans.get(shape)
        if plan is None:
            if len(self.plans) >= MAX_PLANS:
                _warn.once(
                    "plans", "metric names that are new with every step cost time; give them few names."
                )
                self.plans.clear()
            plan = self.plans[shape] = Plan(shape, self.dump)
        return plan

    def _times(self, nows: list[int]) -> tuple[Iterable[str], list[int]]:
        """Text up to the second, and microseconds in it, of each time."""
        if not nows:
            return (), []
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

    def _auto_episode(self, agent: Agent) -> str:
        assert agent.ended is not None
        line = self._object("episode", agent.ended[0], agent.prefix, agent.counted())
        agent.begin(agent.episode_index + 1)
        return line

    def _episode(self, _: tuple, now: int, agent_id: object, fields: dict, metrics: dict) -> str:
        agent = self._agent(agent_id)
        index = fields.get("episode_index")
        before = ""
        if index is not None and int(index) != agent.episode_index:
            if agent.ended is not None:  # that one was another episode
                before = self._auto_episode(agent)
            if int(index) != agent.episode_index:
                agent.begin(int(index))
        told = {name: value for name, value in fields.items() if value is not None}
        line = self._object("episode", now + self._offset, agent.prefix, agent.counted() | told, metrics)
        agent.begin(agent.episode_index + 1)
        return before + line

    def _metrics(self, shape: tuple, rows: list[tuple]) -> list[str]:
        """The lines of consecutive `log` calls of one shape."""
        places = self._each(partial(self._logged, self.steps), rows)
        rows, heads, steps = _columns(places)
        return self._made(shape, rows, heads, steps)

    def _logged(self, steps_of_run: int, *row: Any) -> tuple[tuple, str, int]:
        """The row, the head of its line, its global step. Without a given step it is the number of logged
        environment steps, else of calls, as wandb counts."""
        step, head = row[2], '{"type":"metrics",' + self._agent(row[3]).prefix
        if type(step) is tuple:  # another metric's value, by define_metric
            return row, head, step[0]
        step = (steps_of_run or self._logs) if step is None else int(step)
        self._logs = step + 1
        return row, head, step

    def _frame(self, _: tuple, now: int, agent_id: object, frame: Picture) -> str:
        agent = self._agent(agent_id)
        fields = {"episode_index": agent.episode_index, "step_index": max(agent.step_index - 1, 0)}
        line = self._object("frame", now + self._offset, agent.prefix, fields)
        return self._frames.attach(line, frame, agent_id)

    def _line(self, _: tuple, now: int, kind: str, fields: dict) -> str:
        return self._object(kind, now + self._offset, self._prefix(None), fields)

    def _object(self, kind: str, now: int, prefix: str, fields: dict, metrics: Mapping = _NONE) -> str:
        dump, micros = self.dump, self._micros(now)
        parts = [f'{{"type":"{kind}",{prefix}"ts":"{self._stamp}{micros:06d}+00:00"']
        parts += field_parts(dump, fields)
        named = [f"{quote(str(name))}:{dump(value)}" for name, value in metrics.items()]
        parts += named if RESERVED.isdisjoint(metrics) else ['"metrics":{' + ",".join(named) + "}"]
        return ",".join(parts) + "}\n"

    def _agent(self, agent_id: object) -> Agent:
        who = agent_id if agent_id is None or type(agent_id) is str else str(agent_id)
        agent = self._agents.get(who)
        if agent is None:
            agent = self._agents[who] = Agent(self._prefix(who))
        return agent

    def _prefix(self, agent_id: str | None) -> str:
        """The identity in a line: `"run_id":…,"agent_id":…,`."""
        who = short("agent_id", self._agent_id if agent_id is None else agent_id)
        return self._run + self._worker + (f',"agent_id":{quote(who)},' if who is not None else ",")

    @property
    def steps(self) -> int:
        """Steps so far, of all agents."""
        return sum(agent.earlier + agent.length for agent in self._agents.values())

    def end(self) -> tuple[bytes, int]:
        """The episodes that ended with the last step of their agent."""
        return self.encode([((END,), 0)])

    def _end(self, _: tuple, now: int) -> str:
        return "".join(self._auto_episode(agent) for agent in self._agents.values() if agent.ended)


def short(name: str, id_: Any) -> Any:
    """An id, cut to the length that tables take."""
    if id_ is not None and len(id_) > LONGEST_ID:
        _warn.once(f"long:{name}", f"{name} has {len(id_)} characters: cut to {LONGEST_ID}.")
        return id_[:LONGEST_ID]
    return id_


def _columns(places: list[tuple]) -> tuple[list[tuple], list[str], Sequence[int]]:
    """Rows, heads and numbers of lines."""
    rows, heads, steps = zip(*places) if places else ((), (), ())
    return list(rows), list(heads), list(steps)


class Clock:
    """Wall-clock time that never goes back: the monotonic clock plus an offset that only grows."""

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
    """The text with NaN and the infinities spelled as in JSON dialects."""
    return _NOT_FINITE.sub(lambda found: '":' + _WORDS[found[1]], text)
