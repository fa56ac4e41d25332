"""Where what lies in a run: found by its seek points, then by the heads of one block.

Replay's order: each stream's lines by seq; streams among each other by the greatest event time of their
lines so far, then by name. So a line's moment (time, stream, seq) never falls within a stream, and names
its place among all.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain
from operator import attrgetter

from msgspec import Struct

from infra.history.blocks import NO_EPISODE, Blocks
from infra.history.items import Head
from schemas.seek_points import BLOCK, SeekPoint
from schemas.topics import META_SUFFIX, Kind

KEPT_BLOCKS = 64

Moment = tuple[int, str, int]
"""Time (µs), stream, seq: where a line stands in replay's order."""
Cut = dict[str, int]
"""By stream the first line that lies behind a place in the run."""
Heads = Callable[[str, int, int], list[Head]]


class Line(Struct, frozen=True, gc=False):
    """A record's head, and what had happened in its stream by then, itself included.

    The collector passes over it: blocks of a thousand would set it off at each move through a run.
    """

    seq: int
    kind: Kind
    agent_id: str
    own_episode: int | None
    time: int
    """The greatest event time."""
    episode: int
    """The greatest episode index; NO_EPISODE before any."""
    steps: int
    partition: int
    offset: int


class Index:
    """Finds lines of a run by their time, episode, step or offset.

    Args:
        points: the seek points of every source; those of one block add up.
        heads: the heads of a stream's lines `first` to `last`, in order, each line once.
    """

    def __init__(self, points: Iterable[SeekPoint], heads: Heads) -> None:
        self._heads = heads
        self._lines: OrderedDict[tuple[str, int], list[Line]] = OrderedDict()
        self._step: tuple[int, Moment] | None = None
        """The step that was found last."""
        self.streams: dict[str, Blocks] = {}
        """By name, in the names' order."""
        by_stream: dict[str, list[SeekPoint]] = {}
        for point in points:
            by_stream.setdefault(point.stream_id, []).append(point)
        for name in sorted(by_stream):
            self.streams[name] = Blocks.of(by_stream[name])

    def follow(self, older: Index) -> dict[str, int]:
        """Take over what an older state of the run has read; returns by stream the first line that is new."""
        new = {}
        for stream, blocks in self.streams.items():
            known = older.streams.get(stream)
            same = blocks.same(known) if known is not None else 0
            new[stream] = blocks.numbers[same] * BLOCK if same < len(blocks.numbers) else self.end(stream)
            for number in range(same):
                if (lines := older._lines.get((stream, number))) is not None:
                    self._lines[stream, number] = lines
        return new

    def count(self, kind: Kind, stream: str, seq: int) -> tuple[int, int]:
        """Records of a kind in the whole blocks before a line, and where the block of the line begins."""
        blocks = self.streams[stream]
        number = bisect_left(blocks.numbers, seq // BLOCK)
        return blocks.counts[number - 1].get(kind, 0) if number else 0, seq // BLOCK * BLOCK

    @property
    def workers(self) -> list[str]:
        """Streams of workers, not stepstream's own."""
        return [name for name in self.streams if not name.endswith(META_SUFFIX)]

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return sum(blocks.steps[-1] for blocks in self.streams.values())

    @property
    def newest_time(self) -> int:
        """The run's greatest event time, µs since 1970."""
        return max((blocks.times[-1] for blocks in self.streams.values()), default=0)

    @cached_property
    def offset_ranges(self) -> dict[tuple[Kind, int], tuple[int, int]]:
        """The run's first and last offset in each partition."""
        found: dict[tuple[Kind, int], tuple[int, int]] = {}
        for offsets in chain.from_iterable(blocks.offsets for blocks in self.streams.values()):
            for place, (low, high) in offsets.items():
                known = found.get(place, (low, high))
                found[place] = (min(known[0], low), max(known[1], high))
        return found

    def end(self, stream: str) -> int:
        """The line behind a stream's last."""
        lines = self._block(stream, len(self.streams[stream].numbers) - 1)
        return lines[-1].seq + 1 if lines else 0

    def begin(self, stream: str) -> int:
        """A stream's first line."""
        lines = self._block(stream, 0)
        return lines[0].seq if lines else 0

    def next_block(self, stream: str, block: int) -> int | None:
        """A stream's first block from this number on; None: it has none."""
        numbers = self.streams[stream].numbers
        at = bisect_left(numbers, block)
        return numbers[at] if at < len(numbers) else None

    def ends(self) -> Cut:
        """Behind everything."""
        return {stream: self.end(stream) for stream in self.streams}

    def line(self, stream: str, seq: int) -> Line | None:
        """A stream's first line from this number on; None: it has none."""
        number = bisect_left(self.streams[stream].numbers, seq // BLOCK)
        for each in range(number, len(self.streams[stream].numbers)):
            lines = self._block(stream, each)
            if (at := bisect_left(lines, seq, key=_seq)) < len(lines):
                return lines[at]
        return None

    def first_at_time(self, stream: str, time: int) -> int:
        """A stream's first line at or after a time in µs since 1970; its end, where there is none."""
        number = bisect_left(self.streams[stream].times, time)
        return self._first(stream, number, time, _time)

    def first_at_episode(self, stream: str, episode: int, agent_id: str | None = None) -> int:
        """A stream's first line (of an agent) where an episode of this or a greater index began."""
        number = bisect_left(self.streams[stream].episodes, episode)
        if agent_id is None:
            return self._first(stream, number, episode, _episode)
        for line in self._from(stream, number):
            if line.agent_id == agent_id and _or_none(line.own_episode) >= episode:
                return line.seq
        return self.end(stream)

    def first_at_offset(self, kind: Kind, partition: int, offset: int) -> Moment | None:
        """In replay's order the first line whose record lies at this offset or behind it."""
        found = []
        for stream, blocks in self.streams.items():
            for number, offsets in enumerate(blocks.offsets):
                if offsets.get((kind, partition), (0, -1))[1] >= offset:
                    lines = self._block(stream, number)
                    here = (line for line in lines if _lies(line, kind, partition) and line.offset >= offset)
                    found += [(line.time, stream, line.seq) for line in here][:1]
                    break
        return min(found, default=None)

    def last_at_offset(self, kind: Kind, partition: int, offset: int) -> Moment | None:
        """In replay's order the last line whose record lies at this offset or before it."""
        found = []
        for stream, blocks in self.streams.items():
            for number in reversed(range(len(blocks.offsets))):
                if blocks.offsets[number].get((kind, partition), (offset + 1, 0))[0] <= offset:
                    lines = self._block(stream, number)
                    here = (line for line in lines if _lies(line, kind, partition) and line.offset <= offset)
                    found += [(line.time, stream, line.seq) for line in here][-1:]
                    break
        return max(found, default=None)

    def step(self, number: int) -> Moment | None:
        """The run's step of this number, from 0, in replay's order; None: there is none."""
        if not 0 <= number < self.steps:
            return None
        if self._step is None or self._step[0] != number:  # where a part begins and ends is often one place
            self._step = number, self._found_step(number)
        return self._step[1]

    def _found_step(self, number: int) -> Moment:
        at = self._before_step(number)
        left = number - sum(self._steps_before_block(stream, place) for stream, place in at.items())
        found = sorted(chain.from_iterable(self._steps_in(stream, place) for stream, place in at.items()))
        while reaching := [
            stream
            for stream, place in at.items()
            if place + 1 < len(self.streams[stream].numbers)
            and (left >= len(found) or self.streams[stream].times[place] <= found[left][0])
        ]:
            for stream in reaching:
                at[stream] += 1
                found += self._steps_in(stream, at[stream])
            found.sort()
        return found[left]

    def steps_before(self, cut: Cut) -> int:
        """How many steps lie before a cut."""
        return sum(self._steps_before(stream, seq) for stream, seq in cut.items())

    def moment(self, cut: Cut, streams: Iterable[str]) -> Moment | None:
        """In replay's order the first line behind a cut, of some streams; None: there is none."""
        found = ((stream, self.line(stream, cut[stream])) for stream in streams)
        return min(((line.time, stream, line.seq) for stream, line in found if line), default=None)

    def last_moment(self, cut: Cut, streams: Iterable[str]) -> Moment | None:
        """In replay's order the last line before a cut, of some streams; None: there is none."""
        found = ((stream, self._last_before(stream, cut[stream])) for stream in streams)
        return max(((line.time, stream, line.seq) for stream, line in found if line), default=None)

    def cut(self, moment: Moment, *, behind: bool = False) -> Cut:
        """Every stream's first line at a moment or later; only later where `behind`."""
        time, at, seq = moment
        return {
            stream: seq + behind if stream == at else self.first_at_time(stream, time + (stream < at))
            for stream in self.streams
        }

    def lines(self, cut: Cut, stop: Cut | None = None) -> Iterator[tuple[Moment, Line]]:
        """Heads behind a cut and before another, in replay's order."""
        stop = stop or {}
        return heapq.merge(*(self._moments(stream, seq, stop.get(stream)) for stream, seq in cut.items()))

    def last_step(self, agent_id: str | None) -> tuple[str, Line] | None:
        """In replay's order the last step (of an agent), and its stream."""
        found: list[tuple[int, str, Line]] = []
        for stream, blocks in self.streams.items():
            for number in reversed(range(len(blocks.numbers))):
                steps = [
                    line
                    for line in self._block(stream, number)
                    if line.kind is Kind.STEPS and agent_id in (None, line.agent_id)
                ]
                if steps:
                    found.append((steps[-1].time, stream, steps[-1]))
                    break
        return max(found)[1:] if found else None

    def episode(self, stream: str, agent_id: str, episode: int) -> tuple[Line, Line] | None:
        """The first step and the last record of an agent's episode; None: it has none in this stream."""
        first: Line | None = None
        last: Line | None = None
        start = self.first_at_episode(stream, episode, agent_id)
        number = bisect_left(self.streams[stream].numbers, start // BLOCK)
        for line in self._from(stream, number):
            if line.agent_id != agent_id or line.own_episode is None:
                continue
            if line.own_episode == episode:
                first, last = first or line, line
            elif line.own_episode > episode:
                break
        return (first, last) if first and last else None

    def _first(self, stream: str, number: int, value: int, of: Callable[[Line], int]) -> int:
        """The first line from a block on whose running value is no less; the stream's end, where none is."""
        if number == len(self.streams[stream].numbers):
            return self.end(stream)
        lines = self._block(stream, number)
        at = bisect_left(lines, value, key=of)
        return lines[at].seq if at < len(lines) else self._first(stream, number + 1, value, of)

    def _moments(self, stream: str, seq: int, stop: int | None) -> Iterator[tuple[Moment, Line]]:
        number = bisect_left(self.streams[stream].numbers, seq // BLOCK)
        for line in self._from(stream, number):
            if stop is not None and line.seq >= stop:
                return
            if line.seq >= seq:
                yield (line.time, stream, line.seq), line

    def _before_step(self, number: int) -> dict[str, int]:
        """By stream that has steps a block to begin counting at: what lies before them are steps before this.

        A block is named by its place among its stream's.
        """
        streams = {stream: blocks for stream, blocks in self.streams.items() if blocks.steps[-1]}
        if len(streams) == 1:
            ((stream, only),) = streams.items()
            return {stream: bisect_right(only.steps, number)}
        times = sorted({time for blocks in streams.values() for time in blocks.times})
        # At a candidate time, whole blocks count that may hold a line before it: then no step is missed.
        at = bisect_right(times, number, key=self._at_most_before)
        if not at:
            return dict.fromkeys(streams, 0)
        time = times[at - 1]
        places = {
            stream: min(bisect_left(blocks.times, time), len(blocks.numbers) - 1)
            for stream, blocks in streams.items()
        }
        ending = [stream for stream, place in places.items() if streams[stream].times[place] == time]
        if len(ending) == 1 and places[ending[0]] + 1 < len(streams[ending[0]].numbers):
            places[ending[0]] += 1  # its block was counted, and no line of others at this time was left out
        return places

    def _at_most_before(self, time: int) -> int:
        """How many steps lie before a time, at most: of a stream that begins behind it none do."""
        count = 0
        for stream, blocks in self.streams.items():
            place = min(bisect_left(blocks.times, time), len(blocks.steps) - 1)
            first = self.line(stream, 0) if place == 0 and blocks.steps[0] else None
            if first is None or first.time <= time:
                count += blocks.steps[place]
        return count

    def _steps_before_block(self, stream: str, place: int) -> int:
        return self.streams[stream].steps[place - 1] if place else 0

    def _steps_in(self, stream: str, place: int) -> list[Moment]:
        return [(line.time, stream, line.seq) for line in self._block(stream, place) if line.kind is _STEPS]

    def _steps_before(self, stream: str, seq: int) -> int:
        line = self.line(stream, seq)
        return self.streams[stream].steps[-1] if line is None else line.steps - (line.kind is Kind.STEPS)

    def _last_before(self, stream: str, seq: int) -> Line | None:
        number = bisect_right(self.streams[stream].numbers, (seq - 1) // BLOCK) - 1
        while number >= 0:
            lines = self._block(stream, number)
            if at := bisect_left(lines, seq, key=_seq):
                return lines[at - 1]
            number -= 1
        return None

    def _from(self, stream: str, number: int) -> Iterator[Line]:
        for each in range(number, len(self.streams[stream].numbers)):
            yield from self._block(stream, each)

    def _block(self, stream: str, number: int) -> list[Line]:
        key = (stream, number)
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = list(self._read(stream, number))
            if len(self._lines) > max(KEPT_BLOCKS, 2 * len(self.streams)):
                self._lines.popitem(last=False)
        else:
            self._lines.move_to_end(key)
        return lines

    def _read(self, stream: str, number: int) -> Iterator[Line]:
        blocks = self.streams[stream]
        first = blocks.numbers[number] * BLOCK
        time, episode, steps = -(1 << 63), NO_EPISODE, 0
        if number:
            time, episode, steps = (
                blocks.times[number - 1],
                blocks.episodes[number - 1],
                blocks.steps[number - 1],
            )
        for head in self._heads(stream, first, first + BLOCK - 1):
            time, own = max(time, head.time), head.episode_index
            if own is not None and own > episode:
                episode = own
            if head.kind is _STEPS:
                steps += 1
            yield Line(
                head.seq, head.kind, head.agent_id, own, time, episode, steps, head.partition, head.offset
            )


_STEPS = Kind.STEPS  # a member is looked up slowly
_seq, _time, _episode = attrgetter("seq"), attrgetter("time"), attrgetter("episode")


def _or_none(episode: int | None) -> int:
    return NO_EPISODE if episode is None else episode


def _lies(line: Line, kind: Kind, partition: int) -> bool:
    return line.kind is kind and line.partition == partition
