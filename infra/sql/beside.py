"""Long reads in a process of their own: they take neither Python's lock here nor a core that others need."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing import get_context, parent_process
from typing import Any

from sqlalchemy import Connection

from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql.reading import reading

NICE = 10

_connect: list[Callable[[], AbstractContextManager[Connection]]] = []
"""How this process connects, where it is the one beside."""


class Beside:
    """One process, which begins with the first read. One thread asks.

    Args:
        settings: where the database is.
        seconds: what one read may take.
    """

    def __init__(self, settings: Settings, seconds: float) -> None:
        self._told = settings, seconds
        self._process: ProcessPoolExecutor | None = None

    def ask(self, read: Callable[..., Any], *args: Any) -> Any:
        """What `read(connection, *args)` gives there, with what it raises.

        Args:
            read: a function of a module.
        """
        try:
            return self._submit(read, args)
        except BrokenProcessPool:  # it was killed, or memory ran out: once more, in a new one
            self._process = None
            return self._submit(read, args)

    def close(self) -> None:
        """End the process after the read that is going on."""
        if self._process is not None:
            self._process.shutdown(wait=False, cancel_futures=True)

    def _submit(self, read: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if self._process is None:  # spawned: a fork would copy locks that threads of ours hold
            self._process = ProcessPoolExecutor(1, get_context("spawn"), _begin, self._told)
        return self._process.submit(_read, read, args).result()


def _begin(settings: Settings, seconds: float) -> None:
    """Set up the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICE)
    _connect.append(partial(reading, sql.engine(settings), seconds))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)  # a parent that was killed told nobody


def _read(read: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    with _connect[0]() as connection:
        return read(connection, *args)
