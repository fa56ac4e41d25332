"""A training program as a child process: its stdout goes to the spool, its stderr to the log."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType

from infra.private import users_umask
from schemas.errors import StepstreamError

READ_BYTES = 256 * 1024
LAST_LINES = 20
LINE_BYTES = 64 * 1024
"""A longer line of stderr is stored in parts."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
POLL_SECONDS = 0.1
SILENCE_SECONDS = 1.0
"""Seconds of silence after which pipes are closed that a process left behind by the program keeps open."""


class CannotStartError(StepstreamError):
    """The program is missing (127), or cannot be executed (126)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Worker:
    """The child.

    Args:
        command: the program and its arguments.
        environment: its variables.
        on_data: called with the bytes of each read of stdout, before anything else is done with them.
        on_log: called with each line of stderr.
        show_stdout: also pass stdout through to ours.

    Raises:
        CannotStartError: there is no such program.
    """

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        on_data: Callable[[bytes], None],
        on_log: Callable[[str], None],
        *,
        show_stdout: bool = True,
    ) -> None:
        self.stopped_by: int | None = None
        """The last signal that we got and passed on."""
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._on_data, self._on_log = on_data, on_log
        self._show_stdout = show_stdout
        self._heard_at = time.monotonic()
        self._pending = b""
        self.error: BaseException | None = None
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)
        self._child: subprocess.Popen[bytes] | None = None
        self._child = self._start(command, environment)
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._over, self._end_reading = os.pipe()
        self._threads = [
            threading.Thread(target=self._read, args=(pipe.fileno(), take), daemon=True)
            for pipe, take in ((self._child.stdout, self._stdout), (self._child.stderr, self._stderr))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    def wait(self, seconds: float) -> int | None:
        """Wait at most `seconds` until it has ended and all its output is read; returns its return code."""
        assert self._child is not None
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        if self.error is not None:
            raise self.error
        reading = any(thread.is_alive() for thread in self._threads)
        code = self._child.poll()
        if not reading and code is None:  # it closed its pipes and still runs
            try:
                return self._child.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                return None
        if reading and time.monotonic() - self._heard_at < SILENCE_SECONDS:
            return None
        return code

    def finish(self, waiting: Callable[[], object] = lambda: None) -> None:
        """Read the rest of the pipes, also of a process that was left behind, and close them.

        Args:
            waiting: called repeatedly meanwhile.
        """
        os.close(self._end_reading)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                waiting()
        os.close(self._over)
        if self.error is not None:
            raise self.error
        if self._pending:
            self._log(self._pending)
            self._pending = b""

    def _start(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command,
                env=dict(environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                umask=users_umask(),
            )
        except (FileNotFoundError, NotADirectoryError):
            raise CannotStartError(
                f"There is no program {command[0]!r}: check its name and PATH.", 127
            ) from None
        except OSError as error:
            raise CannotStartError(f"{command[0]!r} cannot be started: {error.strerror}.", 126) from None

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.stopped_by = number
        child = self._child
        if child is None or child.poll() is not None:
            return
        if number in (signal.SIGINT, signal.SIGQUIT) and _is_foreground():
            return  # the terminal sent it to the whole process group, so to the child, too
        child.send_signal(number)

    def _read(self, pipe: int, take: Callable[[bytes], None]) -> None:
        try:
            while data := self._next(pipe):
                self._heard_at = time.monotonic()
                take(data)
        except BaseException as error:
            self.error = error

    def _next(self, pipe: int) -> bytes:
        """The bytes of one read; empty at the pipe's end, or after `finish` once the pipe is empty."""
        ready, _, _ = select.select([pipe, self._over], [], [])
        return os.read(pipe, READ_BYTES) if pipe in ready else b""

    def _stdout(self, data: bytes) -> None:
        self._on_data(data)
        if self._show_stdout:
            self._show_stdout = _show(1, data)

    def _stderr(self, data: bytes) -> None:
        _show(2, data)
        *lines, self._pending = (self._pending + data).split(b"\n")
        while len(self._pending) > LINE_BYTES:
            lines.append(self._pending[:LINE_BYTES])
            self._pending = self._pending[LINE_BYTES:]
        for line in lines:
            self._log(line)

    def _log(self, line: bytes) -> None:
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        self.last_lines.append(text)
        self._on_log(text)


def _show(descriptor: int, data: bytes) -> bool:
    """Write to our own stdout or stderr; False: its reader is gone."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return False
    return True


def _is_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.__stderr__.fileno()) == os.getpgrp()  # type: ignore[union-attr]
    except (OSError, ValueError, AttributeError):
        return False
