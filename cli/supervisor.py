"""Runs programs side by side: prefixes their output, restarts those that end, and ends all in order.

One thread loops over pipes, signals and ends of children: the kernel binds a child's life to the thread that
started it.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from rich.console import Console
from rich.text import Text

from infra.embedded import process
from schemas.errors import UsageError

TICK_SECONDS = 0.2
LONGEST_PAUSE = 30.0
SAME_WISH_SECONDS = 0.5
STEADY_SECONDS = 60.0
"""A service that ran this long is restarted with the shortest pause again."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")


def program(*arguments: str) -> list[str]:
    """The command line of one of our own commands, with this Python, independent of the working folder."""
    return [sys.executable, "-P", "-m", "cli.main", *arguments]


@dataclass
class Service:
    """One program to keep running (or, with `keep=False`, to let run once).

    `due` is the time of its next start, by the monotonic clock; None: not scheduled.
    """

    name: str
    spawn: Callable[[], subprocess.Popen[bytes]]
    keep: bool = True
    grace: float = 8.0
    on_end: Callable[[int], None] | None = None
    child: subprocess.Popen[bytes] | None = None
    due: float | None = 0.0
    started: float = field(default=0.0, init=False)
    failures: int = field(default=0, init=False)
    colour: str = field(default="", init=False)
    partial: bytes = field(default=b"", init=False)


class Supervisor:
    """Runs stages of services. The others need the last stage, so it ends last."""

    def __init__(self, stages: Sequence[Sequence[Service]], console: Console) -> None:
        self.stages = [list(stage) for stage in stages]
        self.services = [service for stage in self.stages for service in stage]
        self.console = console
        self._width = max(len(service.name) for service in self.services)
        self._selector = selectors.DefaultSelector()
        self._stops: list[float] = []  # time of the request
        self._kills = False
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        for service, colour in zip(self.services, COLOURS * 9, strict=False):
            service.colour = colour

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was requested."""
        return bool(self._stops)

    def when(self, ready: Callable[[], bool], then: Callable[[], None]) -> None:
        """Call `then` once, as soon as `ready()` is true; it is checked five times a second."""
        self._waiting.append((ready, then))

    def say(self, name: str, text: str, style: str = "") -> None:
        """Print one line under a service's name."""
        colour = next((service.colour for service in self.services if service.name == name), "bold")
        said = Text(text, style) if style else Text.from_ansi(text)
        self._print(Text.assemble((f"{name:<{self._width}} │ ", colour), said))

    def _print(self, line: Text | str) -> None:
        try:
            self.console.print(line, soft_wrap=True)
        except (OSError, SystemExit):  # the terminal is gone, or the pipe's reader: rich leaves for that
            self.console.quiet = True
            self._stops.append(time.monotonic())

    def run(self) -> None:
        """Keep all services running until SIGINT, SIGTERM or SIGHUP, then end them in order."""
        with self._signals():
            try:
                while not self._stops:
                    self._start_what_is_due()
                    self._pump(TICK_SECONDS)
                    self._notice_ends()
                    self._ask_what_is_waited_for()
            finally:
                self._end_all()

    def _start_what_is_due(self) -> None:
        for service in self.services:
            if service.child is None and service.due is not None and service.due <= time.monotonic():
                service.started, service.due = time.monotonic(), None
                try:
                    self._adopt(service, service.spawn())
                except Exception as error:  # whatever fails, the other services go on
                    self._after_an_end(service, f"did not start: {str(error).rstrip('.')}")

    def _adopt(self, service: Service, child: subprocess.Popen[bytes]) -> None:
        service.child = child
        if (pipe := child.stdout or child.stderr) is not None:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, service)

    def _pump(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                os.read(key.fd, 64)  # a signal; its handler has counted it
            elif not self._read(key.data, key.fd):
                self._selector.unregister(key.fileobj)

    def _read(self, service: Service, pipe: int) -> bool:
        """Print the complete lines that came; False at the pipe's end."""
        try:
            data = os.read(pipe, 65536)
        except BlockingIOError:
            return True
        *lines, service.partial = (service.partial + data).split(b"\n") if data else (service.partial, b"")
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                self.say(service.name, text)
        return bool(data)

    def _notice_ends(self) -> None:
        for service in self.services:
            if service.child is not None and (code := service.child.poll()) is not None:
                self._close_pipe(service, service.child)
                service.child = None
                if service.on_end is not None:
                    service.on_end(code)
                if service.keep and not self._stops:
                    self._after_an_end(service, f"ended ({how_it_ended(code)})", code)

    def _close_pipe(self, service: Service, child: subprocess.Popen[bytes]) -> None:
        """Print the rest. A grandchild may keep the pipe open: do not wait for its end."""
        if (pipe := child.stdout or child.stderr) is None:
            return
        while select.select([pipe], [], [], 0)[0] and self._read(service, pipe.fileno()):
            pass
        if pipe in {key.fileobj for key in self._selector.get_map().values()}:
            self._selector.unregister(pipe)
        pipe.close()

    def _after_an_end(self, service: Service, what: str, code: int = 1) -> None:
        if code == UsageError.exit_code:
            self.say(service.name, f"{what}: a setting is wrong, so it is not started again", "bold red")
            return
        if time.monotonic() - service.started > STEADY_SECONDS:
            service.failures = 0
        pause = min(0.5 * 2**service.failures, LONGEST_PAUSE)
        service.failures += 1
        service.due = time.monotonic() + pause
        self.say(service.name, f"{what}; starts again in {pause:g} s", "bold yellow")

    def _ask_what_is_waited_for(self) -> None:
        for ready, then in list(self._waiting):
            if ready():
                self._waiting.remove((ready, then))
                then()

    def _end_all(self) -> None:
        self._print("\n[bold]Stopping[/] (Ctrl-C again kills what is slow)")
        for stage in self.stages:
            alive = [service for service in stage if service.child is not None]
            for service in alive:
                assert service.child is not None
                service.child.terminate()
            deadline = time.monotonic() + max((service.grace for service in alive), default=0.0)
            while any(service.child is not None for service in alive):
                if time.monotonic() > deadline or self._kills:
                    self._kill(alive)
                self._pump(0.05)
                self._notice_ends()

    def _kill(self, services: Sequence[Service]) -> None:
        for service in services:
            if service.child is not None:
                process.kill_group(service.child)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP request a stop, a later Ctrl-C kills; each wakes the loop."""

        def note(number: int, _frame: FrameType | None) -> None:
            now = time.monotonic()
            # make and uv pass the terminal's signal on: two at once count as one.
            again = bool(self._stops) and now - self._stops[0] > SAME_WISH_SECONDS
            self._kills |= again and number == signal.SIGINT
            self._stops.append(now)

        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._selector.register(reader, selectors.EVENT_READ, None)
        before_fd = signal.set_wakeup_fd(writer)
        before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)
            self._selector.close()
            os.close(reader)
            os.close(writer)


def how_it_ended(code: int) -> str:
    """An exit code or a signal as text for users."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
