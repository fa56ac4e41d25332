"""Marks on a time bar, and moves by Ctrl and an arrow, read from either database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from dashboard.sql.queries import Queries
from dashboard.time import axis, marks
from dashboard.time.moves import Move, moved
from dashboard.time.past import Past, Pasts
from infra.settings import Settings
from schemas.topics import Kind
from tests.support.records import record
from tests.support.replays import START, Lines, store_lines

SECOND = 1_000_000
MISSING = range(500, 510)


def steps(stream: str, last: int, begin: int) -> Lines:
    """One step a second, in episodes of a hundred; the numbers in MISSING are left out."""
    return [
        line(Kind.STEPS, stream, seq, begin + seq, episode_index=seq // 100, step_index=seq % 100, reward=1.0)
        for seq in range(1, last + 1)
        if seq not in MISSING
    ]


def line(kind: Kind, stream: str, seq: int, second: int, **fields: Any) -> tuple[Kind, dict[str, Any]]:
    """A record of a stream, so many seconds after the run began."""
    own = {"seq": seq, "stream_id": stream, "event_time": START + second * SECOND}
    return kind, record(kind, "run", **own, **fields)


def looked_at(database: Settings, lines: Lines, look: Callable[[Past], Coroutine[Any, Any, None]]) -> None:
    """Call `look` with the past of a run of these lines."""
    store_lines(database, "run", lines)
    queries = Queries(database)

    async def open_and_look() -> None:
        pasts = Pasts(database, queries)
        await look(await pasts.of("run"))
        pasts.close()

    asyncio.run(open_and_look())
    queries.close()


def test_a_crash_a_restart_and_a_gap_are_marked(database: Settings) -> None:
    """A crash, a checkpoint, a gap and a restart are marked; workers that start together are no restart."""
    lines = steps("w1", 1200, 10) + steps("w2", 20, 10) + steps("w3", 20, 2000)
    for stream, second in (("w1.meta", 5), ("w2.meta", 6), ("w3.meta", 1900)):
        lines.append(line(Kind.RUNS, stream, 1, second, event="run_started", payload="{}"))
    lines.append(line(Kind.RUNS, "w1.meta", 2, 700, event="checkpoint_saved", payload="{}"))
    lines.append(line(Kind.RUNS, "w1.meta", 3, 1500, event="run_failed", payload="{}"))

    async def look(past: Past) -> None:
        window = (START / 1000, START / 1000 + 4_000_000)
        drawn = await marks.drawing(past, "time", window, "a")
        seen = {mark.kind: (mark.words, mark.stream, round(share, 5)) for mark, share in drawn.marks}
        assert seen == {
            "checkpoint_saved": ("Checkpoint", "w1.meta", 0.175),
            "run_failed": ("Crash", "w1.meta", 0.375),
            "restart": ("Restart", "w3.meta", 0.475),
            "gap": ("10 lines are missing here", "w1", 0.25225),
        }

    looked_at(database, lines, look)


def test_marks_stand_on_the_steps(database: Settings) -> None:
    """A crash behind the last step and the best, last episode stand at the end; a restart where it began."""
    lines = []
    for stream, begin in (("w1", 10), ("w2", 2000)):
        lines += [line(Kind.RUNS, f"{stream}.meta", 1, begin - 5, event="run_started", payload="{}")]
        for seq in range(1, 201):
            lines.append(line(Kind.STEPS, stream, seq, begin + seq, episode_index=seq // 101, reward=1.0))
        lines.append(line(Kind.EPISODES, stream, 201, begin + 200, episode_index=1, episode_return=begin))
    lines.append(line(Kind.RUNS, "w2.meta", 2, 2300, event="run_failed", payload="{}"))

    async def look(past: Past) -> None:
        window = axis.span(past.history, "step", "a")
        assert window == (0, 399)
        drawn = await marks.drawing(past, "step", window, "a")
        seen = {mark.kind: round(share, 2) for mark, share in drawn.marks}
        assert seen == {"best": 1.0, "worst": 0.5, "restart": 0.5, "run_failed": 1.0}

    looked_at(database, lines, look)


def test_a_crash_of_a_lone_worker_stands_at_its_end(database: Settings) -> None:
    """What `run` says of it is a stream of its own, which has no steps."""
    lines = steps("w1", 300, 10)
    lines.append(line(Kind.RUNS, "w1.meta", 1, 400, event="run_failed", payload="{}"))

    async def look(past: Past) -> None:
        window = axis.span(past.history, "step", "a")
        assert window is not None
        drawn = await marks.drawing(past, "step", window, "a")
        assert [(mark.kind, share) for mark, share in drawn.marks] == [("run_failed", 1.0)]

    looked_at(database, lines, look)


def test_a_training_step_is_an_axis_and_a_move(database: Settings) -> None:
    """A training step is a value of the axis, and Ctrl with an arrow goes to the step before or after."""
    lines = steps("w", 400, 0)
    for number, training_step in enumerate((3, 4, 7), 1):
        own = {"training_step": training_step, "messages": "[]", "rewards": "{}"}
        lines.append(line(Kind.ROLLOUTS, "w", 100 * number, 100 * number, **own))

    async def look(past: Past) -> None:
        history = past.history
        assert axis.span(history, "training", "a") == (3, 7)
        place = past.place(axis.find(history, axis.position(history, "training", 4, "a"), "a"), "a")
        assert place.line is not None
        assert (axis.value(history, "training", place), place.line.seq) == (4, 200)
        seen = []
        for way in ("1", "-1", "-1", "-1"):
            cut = moved(past, Move("training", way), place, "a")
            place = past.place(cut, "a") if cut else place
            seen.append(axis.value(history, "training", place) if cut else None)
        assert seen == [7, 4, 3, None]

    looked_at(database, lines, look)
