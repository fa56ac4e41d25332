"""A run from SQL and Kafka as one: what SQL holds from there, what is newer from Kafka, each line once.

The seam is exact. SQL's offsets and seek points are read in one transaction, and Kafka from exactly those
offsets on, so a record is in one of the two, or told by its seq where it is in both.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter

from infra.history.finder import Finder
from infra.history.index import Cut, Index
from infra.history.items import SQL_COLUMNS, Head, Item
from infra.history.lines import heads_once, hole_in, is_dense, items_once
from infra.history.log_source import LogSource, clamped
from infra.history.raw_log import RawLog
from infra.history.sql_source import RunFacts, SqlSource
from infra.kafka.log_reader import LogReader
from infra.settings import Settings
from schemas.codec import Schema
from schemas.errors import BrokerError, StepstreamError, UsageError
from schemas.seek_points import BLOCK, SeekPoint
from schemas.topics import LINES, Kind, Watermarks

Offsets = dict[tuple[Kind, int], int]
PATIENCE_S = 1.0
"""A line that is missing among the newest ones is waited for so long."""
RECENT_LINES = 10_000
"""So far back in a stream a line that is missing may still come."""
PAGE_LINES = 20_000
"""Lines that are in memory of all streams together."""
LEAST_PAGE = 50

_place = itemgetter(3, 1)
"""An item's time and stream: its place among other streams'."""


class RunReader:
    """Reads one run.

    Args:
        settings: addresses.
        run_id: the run.
        lookup: schema of an id; raises SchemaError where there is none.
        sql: the run in SQL; None: Kafka alone.
        kafka: False: SQL alone.
        beside: what is wanted of what stands beside lines: rollouts, tokens; pictures are on Kafka alone.
        raw: Kafka's own bytes are wanted, also of what SQL holds.
        streams: only these.
        tell: takes a note for the user.
        progress: told how many records were read from Kafka so far, and how many there are.
    """

    def __init__(
        self,
        settings: Settings,
        run_id: str,
        lookup: Callable[[int], Schema],
        sql: SqlSource | None,
        *,
        kafka: bool = True,
        beside: tuple[Kind, ...] = (),
        raw: bool = False,
        streams: Iterable[str] = (),
        tell: Callable[[str], None] = lambda note: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._settings, self._run_id, self._sql, self.lookup = settings, run_id, sql, lookup
        self._kinds = (*LINES, *beside)
        self._beside = tuple(kind for kind in beside if kind in SQL_COLUMNS)
        """Of these SQL has rows."""
        self._streams = frozenset(streams)
        self._tell, self._progress = tell, progress
        self._log = LogSource(run_id, lookup) if kafka else None
        self._log_reader: LogReader | None = None
        self._raw = RawLog(settings, run_id) if raw and kafka and sql is not None else None
        self._loaded = not kafka
        self._lock = threading.Lock()
        self._offsets: Offsets = {}
        self.facts = RunFacts(False)
        self.counts: Counter[str] = Counter()
        """Records given, by the name of their source."""
        self.missing: Counter[str] = Counter()
        """By stream, lines between others that neither source has."""
        self._cut_off: set[Kind] = set()
        """Kinds whose topics lost records that SQL does not have."""
        self.counting = False
        """Records are only counted: their bytes do not matter."""
        self.next_lines: dict[str, int] = {}
        """By stream, the line behind the last that was given."""
        self.open_at: dict[str, int] = {}
        """By stream, the line that is not there yet: nothing behind it was given."""
        self._points = self._snapshot()
        self.index = self._make_index()
        if len(self._beside) < len(beside) or sql is None or not self._points:
            self.load()

    def close(self) -> None:
        """Give everything back."""
        for each in (self._sql, self._log, self._log_reader, self._raw):
            if each is not None:
                each.close()

    @property
    def log_reader(self) -> LogReader | None:
        """What reads on from where `load` ended; None: nothing was read from Kafka."""
        return self._log_reader

    @property
    def loaded(self) -> bool:
        """Whether what Kafka has beyond SQL is part of the index."""
        return self._loaded

    def refresh(self) -> dict[str, int]:
        """Read what SQL holds now; returns by stream the first line that is new since the last reading."""
        older, known, self._points = self.index, self._points, self._snapshot()
        if self._points == known:
            return {}
        self.index = self._make_index()
        return self.index.follow(older)

    def finder(self, agent_id: str | None) -> Finder:
        """Finds positions in what the index holds now."""
        return Finder(self.index, self._extreme, self._settings.topic_prefix, agent_id, self._partitions)

    def _partitions(self, kind: Kind) -> list[int]:
        watermarks = self._log_reader.watermarks if self._log_reader else {}
        return [partition for each, partition in watermarks if each is kind]

    def is_live(self) -> bool:
        """Whether the run was heard lately, so that lines may still come."""
        newest = max(self.facts.last_seen_at // 1000, self._log.newest if self._log else 0)
        return time.time() - newest / 1000 < self._settings.lost_seconds

    def load(self) -> None:
        """Read what Kafka has beyond SQL, up to its end now. Does nothing the second time.

        Raises:
            BrokerError: Kafka does not answer, and there is no SQL.
        """
        with self._lock:
            if self._loaded or self._log is None:
                return
            try:
                self._read_log(self._log)
            except (BrokerError, UsageError) as error:
                if not self._points:
                    raise
                self._tell(f"played from SQL alone: {error}")
            self._loaded = True
            self.index = self._make_index()

    def beyond(self) -> Iterator[tuple[Item, int | None]]:
        """Records behind those that `items` gave which are there already, and their episodes' indices."""
        with self._lock:
            self.index = self._make_index()
        for stream in self.index.streams:
            first = self.next_lines.get(stream, 0)
            for begin in range(first, self.index.end(stream), BLOCK):
                last = begin + BLOCK - 1
                heads = {(head.seq, head.kind): head for head in self._heads(stream, begin, last)}
                for item in self._page(stream, begin, last):
                    head = heads.get((item.seq, item.kind))
                    yield item, head.episode_index if head else None

    def items(self, start: Cut, stop: Cut | None) -> Iterator[Item]:
        """Records in replay's order, from a cut up to another.

        A stream that neither cut names is played whole: it appeared after they were made.

        Raises:
            StepstreamError: the run was deleted meanwhile, or a source went away.
        """
        known = list(self.index.streams)
        self.open_at.clear()
        parts = [self._stream(name, start.get(name, 0), _end(stop, name)) for name in known]
        yield from parts[0] if len(parts) == 1 else heapq.merge(*parts, key=_place)
        if stop is None or self.is_live():
            self.load()
        late = [name for name in self.index.streams if name not in known]
        yield from heapq.merge(
            *(self._stream(name, start.get(name, 0), _end(stop, name)) for name in late), key=_place
        )

    def _snapshot(self) -> list[SeekPoint]:
        if self._sql is None:
            return []
        with self._sql.snapshot():
            self.facts = self._sql.facts()
            self._offsets = self._sql.next_offsets()
            return self._chosen(self._sql.points()) if self.facts.known else []

    def _make_index(self) -> Index:
        points = list(self._points)
        if self._loaded and self._log is not None:
            points += self._chosen(self._log.points())
        return Index(points, self._heads)

    def _chosen(self, points: list[SeekPoint]) -> list[SeekPoint]:
        return [point for point in points if not self._streams or point.stream_id in self._streams]

    def _read_log(self, log: LogSource) -> None:
        reader = self._log_reader = LogReader(self._settings, self._kinds, self._run_id)
        part = clamped(reader.watermarks, self._offsets)
        self._tell_gaps(reader.watermarks)
        total = sum(held.high - held.low for held in part.values())
        for count, batch in reader.counted(part):
            log.add(batch)
            self._progress(count, total)
        if log.unreadable:
            self._tell(f"{log.unreadable} records of the run cannot be read and are left out.")
        if self._sql is not None:
            self._leave_out_what_sql_has(log)

    def _tell_gaps(self, watermarks: dict[tuple[Kind, int], Watermarks]) -> None:
        for (kind, partition), held in sorted(watermarks.items()):
            if kind not in LINES or self._offsets.get((kind, partition), 0) >= held.low:
                continue
            self._cut_off.add(kind)
            if (begin := self._offsets.get((kind, partition), held.low)) < held.low:
                topic = kind.topic(self._settings.topic_prefix)
                self._tell(
                    f"Kafka no longer holds offsets {begin} to {held.low - 1} of partition {partition} of "
                    f"{topic}, and SQL has not stored them: lines may be missing."
                )

    def _leave_out_what_sql_has(self, log: LogSource) -> None:
        here = {(point.stream_id, point.block) for point in self._points}
        for stream, block in {(point.stream_id, point.block) for point in log.points()} & here:
            assert self._sql is not None
            log.drop(stream, block, self._sql.heads(stream, block * BLOCK, (block + 1) * BLOCK - 1))

    def _extreme(self, best: bool, agent_id: str | None) -> tuple[str, int] | None:
        self.load()
        found = [
            episode
            for source in (self._sql, self._log)
            if source is not None and (episode := source.extreme_episode(best=best, agent_id=agent_id))
        ]
        if not found:
            return None
        pick = max if best else min
        return pick(found, key=itemgetter(0))[1:]  # the first of equals: SQL's, which is older

    def _heads(self, stream: str, first: int, last: int) -> list[Head]:
        heads = self._sql.heads(stream, first, last) if self._sql is not None else []
        if self._loaded and self._log is not None:
            heads += self._log.heads(stream, first, last)
        return heads_once(heads)

    def _stream(self, stream: str, start: int, stop: int | None) -> Iterator[Item]:
        """A stream's records, their times never falling."""
        newest = -(1 << 63)
        for page, first in self._pages(stream, start, stop):
            for item in page:
                if (at := item[3]) > newest:
                    newest = at
                elif at < newest:
                    item = item._replace(time=newest)  # noqa: PLW2901
                if item[2] >= first:
                    yield item

    def _pages(self, stream: str, start: int, stop: int | None) -> Iterator[tuple[list[Item], int]]:
        """Pages of a stream, and the first line that is wanted of each. Ends at a line that is not there yet.

        The first page begins with its block: the greatest time before `start` is known from there.
        """
        wanted, at = max(start, 1) if start else 0, start // BLOCK * BLOCK
        self.next_lines[stream] = start
        while stop is None or at < stop:
            found = self.index.next_block(stream, at // BLOCK)
            if found is None:
                if self._loaded:
                    return
                self.load()
                at = self.next_lines[stream]
                continue
            at = max(at, found * BLOCK)
            last = min(at + self._size(), (found + 1) * BLOCK) - 1
            page, hole = self._whole_page(stream, at, last, self.next_lines[stream])
            cut = last + 1 if hole is None else hole
            cut = cut if stop is None else min(cut, stop)
            if page and page[-1].seq >= cut:
                page = [item for item in page if item.seq < cut]
            if page and page[-1].seq >= self.next_lines[stream]:
                self._count(stream, page, wanted)
                yield page, wanted
                self.next_lines[stream] = wanted = page[-1].seq + 1
            if hole is not None:
                self.open_at[stream] = hole
                return
            at = last + 1

    def _whole_page(self, stream: str, first: int, last: int, expected: int) -> tuple[list[Item], int | None]:
        """A page, and its first line that is missing but may still come."""
        page = self._page(stream, first, last)
        if hole_in(page, expected) is None:
            return page, None
        if not self._loaded:
            self.load()
            page = self._page(stream, first, last)
        hole = hole_in(page, expected)
        if hole is None or not self._may_come(stream, hole):
            return page, None
        page = self._wait(stream, first, last, expected)
        return page, hole_in(page, expected)

    def _may_come(self, stream: str, hole: int) -> bool:
        """Whether a line that is missing may be on its way: the run is heard, the line is a new one, and in
        each topic that lost its oldest records the stream still has an older line."""
        if not self.is_live() or self.index.end(stream) - hole >= RECENT_LINES:
            return False
        oldest = [self._log.first_seq(stream, kind) for kind in self._cut_off] if self._log else []
        return hole > self.index.begin(stream) and all(seq is not None and seq < hole for seq in oldest)

    def _wait(self, stream: str, first: int, last: int, expected: int) -> list[Item]:
        """Read on for a second, until the page has no line missing."""
        until = time.monotonic() + PATIENCE_S
        page = self._page(stream, first, last)
        while self._log and self._log_reader and hole_in(page, expected) and time.monotonic() < until:
            with self._lock:
                self._log.add(self._log_reader.newer())
            page = self._page(stream, first, last)
        return page

    def _page(self, stream: str, first: int, last: int) -> list[Item]:
        items = self._sql.page(stream, first, last, self._beside) if self._sql is not None else []
        if self._raw is not None and not self.counting:
            items = self._raw.fill(items)
        if self._loaded and self._log is not None:
            items += self._log.page(stream, first, last)
        if not items and self._sql is not None and not self._sql.facts().known and self.facts.known:
            raise StepstreamError(f"Run {self._run_id!r} was deleted while it was played.")
        return items_once(items)

    def _count(self, stream: str, page: list[Item], first: int) -> None:
        given = page if page[0].seq >= first else [item for item in page if item.seq >= first]
        of_sql = len(given) if not self._loaded else sum(item.load.__class__ is tuple for item in given)
        self.counts["SQL"] += of_sql
        self.counts["Kafka"] += len(given) - of_sql
        begin = max(self.next_lines[stream], 1)
        if given[0].seq == begin and is_dense(given):
            return
        lines = len({item.seq for item in given if item.seq >= begin})
        self.missing[stream] += max(0, given[-1].seq + 1 - begin - lines)

    def _size(self) -> int:
        return max(LEAST_PAGE, min(BLOCK, PAGE_LINES // max(1, len(self.index.streams))))


def _end(stop: Cut | None, stream: str) -> int | None:
    return None if stop is None else stop.get(stream)
