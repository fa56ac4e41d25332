"""Lines from several sources as one: each once, and which are missing."""

from __future__ import annotations

from operator import attrgetter, itemgetter

from infra.history.items import ORDER, Head, Item
from schemas.topics import BESIDE, Kind

_seq = itemgetter(2)


def hole_in(page: list[Item], expected: int) -> int | None:
    """The first line from `expected` on that a page lacks before its last one."""
    expected = max(expected, 1)
    if page and page[0].seq <= expected and is_dense(page):
        return None
    lines = {item.seq for item in page if item.seq >= expected}
    if not lines or max(lines) + 1 - expected <= len(lines):
        return None
    return next(seq for seq in range(expected, max(lines)) if seq not in lines)


def is_dense(items: list[Item]) -> bool:
    """Whether items are lines in order, each once, none missing."""
    return not items or list(map(_seq, items)) == list(range(items[0][2], items[0][2] + len(items)))


def items_once(items: list[Item]) -> list[Item]:
    """Each line once and what stands beside it, in order; a dead letter gives way to what it became."""
    if is_dense(items):
        return items
    items.sort(key=lambda item: (item[2], ORDER[item[0]]))
    if is_dense(items):
        return items
    kept: dict[tuple[int, Kind | None], Item] = {}
    for item in items:
        kept.setdefault((item.seq, item.kind if item.kind in BESIDE else None), item)
    return list(kept.values())


def heads_once(heads: list[Head]) -> list[Head]:
    """Each line once, in order; a dead letter gives way to what it became."""
    heads.sort(key=attrgetter("seq"))
    seqs = [head.seq for head in heads]
    if len(set(seqs)) == len(seqs):
        return heads
    best: dict[int, Head] = {}
    for head in heads:
        known = best.get(head.seq)
        if known is None or ORDER[head.kind] < ORDER[known.kind]:
            best[head.seq] = head
    return list(best.values())
