"""Lines from several sources as one: each once, and which are missing."""

from __future__ import annotations

from infra.history.items import ORDER, Head, Item
from schemas.topics import BESIDE, Kind


def hole_in(page: list[Item], expected: int) -> int | None:
    """The first line from `expected` on that a page lacks before its last one."""
    expected = max(expected, 1)
    if page and page[0].seq <= expected and page[-1].seq - page[0].seq + 1 == len(page):
        return None  # each line is there once: pages are in order
    lines = {item.seq for item in page if item.seq >= expected}
    if not lines or max(lines) + 1 - expected <= len(lines):
        return None
    return next(seq for seq in range(expected, max(lines)) if seq not in lines)


def items_once(items: list[Item]) -> list[Item]:
    """Each line once and what stands beside it; a dead letter gives way to what it became."""
    items.sort(key=lambda item: (item.seq, ORDER[item.kind]))
    kept: dict[tuple[int, Kind | None], Item] = {}
    for item in items:
        kept.setdefault((item.seq, item.kind if item.kind in BESIDE else None), item)
    return list(kept.values())


def heads_once(heads: list[Head]) -> list[Head]:
    """Each line once, in order; a dead letter gives way to what it became."""
    best: dict[int, Head] = {}
    for head in heads:
        known = best.get(head.seq)
        if known is None or ORDER[head.kind] < ORDER[known.kind]:
            best[head.seq] = head
    return [best[seq] for seq in sorted(best)]
