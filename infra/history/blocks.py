"""The blocks of a stream, out of its seek points: what had happened by the end of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter

from schemas.seek_points import SeekPoint
from schemas.topics import Kind

NO_EPISODE = -1
_STEPS = Kind.STEPS.value


@dataclass
class Blocks:
    """A stream's blocks in order, and the running values behind each."""

    numbers: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    episodes: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    points: list[SeekPoint] = field(default_factory=list)
    """All of them, by their block."""

    @classmethod
    def of(cls, points: list[SeekPoint]) -> Blocks:
        """The blocks of a stream's seek points."""
        points.sort(key=attrgetter("block"))
        blocks = cls(points=points)
        numbers, times, episodes, steps = blocks.numbers, blocks.times, blocks.episodes, blocks.steps
        time, episode, count, number = -(1 << 63), NO_EPISODE, 0, -1
        for point in points:
            time = max(time, point.newest_event_time)
            if point.newest_episode is not None and point.newest_episode > episode:
                episode = point.newest_episode
            if point.topic == _STEPS:
                count += point.records
            if point.block != number:
                number = point.block
                numbers.append(number)
                times.append(time)
                episodes.append(episode)
                steps.append(count)
            else:
                times[-1], episodes[-1], steps[-1] = time, episode, count
        return blocks

    @cached_property
    def counts(self) -> list[dict[Kind, int]]:
        """Records of each kind, from the stream's beginning to each block's end."""
        found: dict[int, dict[Kind, int]] = {}
        so_far: dict[Kind, int] = {}
        for point in self.points:
            kind = Kind(point.topic)
            so_far = so_far | {kind: so_far.get(kind, 0) + point.records}
            found[point.block] = so_far
        return list(found.values())

    @cached_property
    def offsets(self) -> list[dict[tuple[Kind, int], tuple[int, int]]]:
        """In each block, the first and last offset in each partition. Few positions need them."""
        found: dict[int, dict[tuple[Kind, int], tuple[int, int]]] = {number: {} for number in self.numbers}
        for point in self.points:
            here, place = found[point.block], (Kind(point.topic), point.topic_partition)
            low, high = here.get(place, (point.first_offset, point.last_offset))
            here[place] = (min(low, point.first_offset), max(high, point.last_offset))
        return list(found.values())

    def same(self, other: Blocks) -> int:
        """How many blocks at the beginning are the same in another state of the stream."""
        mine = zip(self.numbers, self.times, self.counts, self.offsets, strict=True)
        others = zip(other.numbers, other.times, other.counts, other.offsets, strict=True)
        return next(
            (n for n, (one, two) in enumerate(zip(mine, others, strict=False)) if one != two),
            min(len(self.numbers), len(other.numbers)),
        )
