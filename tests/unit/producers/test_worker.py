"""The output of a worker is taken to its end, however slowly it is stored."""

from __future__ import annotations

import os
import sys
import time

import pytest

from producers.capture.worker import SILENCE_SECONDS, Worker


@pytest.fixture
def handlers() -> None:
    """Restore the signal handlers of the test, because a worker replaces them."""
    import signal

    from producers.capture.worker import PASSED_ON

    before = {number: signal.getsignal(number) for number in PASSED_ON}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(worker: Worker) -> int:
    """Wait until the worker ends, and return its return code."""
    while (code := worker.wait(0.1)) is None:
        pass
    return code


@pytest.mark.usefixtures("handlers")
def test_nothing_comes_after_the_finish() -> None:
    """`finish` waits for a slow reader of the output, and asks meanwhile whether to give up."""
    taken, asked = [], []

    def slowly(data: bytes) -> None:
        time.sleep(3 * SILENCE_SECONDS)
        taken.append(data)

    worker = Worker([sys.executable, "-c", "print('x' * 9)"], os.environ, slowly, print, show_stdout=False)
    assert ended(worker) == 0
    worker.finish(lambda: asked.append(1))
    assert b"".join(taken) == b"x" * 9 + b"\n"
    assert asked


@pytest.mark.usefixtures("handlers")
def test_what_a_child_left_in_the_pipe_is_taken_at_the_end() -> None:
    """`finish` takes what is in the pipe and does not wait for a child that the worker left behind."""
    taken: list[bytes] = []
    script = "sleep 30 & echo first"
    worker = Worker(["sh", "-c", script], os.environ, taken.append, print, show_stdout=False)
    assert ended(worker) == 0
    began = time.monotonic()
    worker.finish()
    assert time.monotonic() - began < 20
    assert b"".join(taken) == b"first\n"
