"""Pauses between tries grow to a limit and differ between processes."""

from __future__ import annotations

from itertools import islice

from infra.backoff import pauses


def test_pauses_double_up_to_the_longest() -> None:
    """Each pause is within half of its nominal length, which doubles up to the longest."""
    nominal = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    found = list(islice(pauses(0.2, 5.0), len(nominal)))
    assert all(0.5 * n <= pause <= 1.5 * n for n, pause in zip(nominal, found, strict=True))


def test_two_processes_wait_differently() -> None:
    """Two processes have different pauses, so that they do not ask the server at the same moment."""
    assert list(islice(pauses(1, 8), 6)) != list(islice(pauses(1, 8), 6))
