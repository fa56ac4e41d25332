"""A training loop of 10,000 steps a second, with and without a logger; `sdk` runs it as a program.

    python benchmarks/sdk_loop.py stepstream | json | tensorboard | wandb | mlflow | trackio | frames
    python benchmarks/sdk_loop.py rollouts | rollouts_full | rollout_calls

Blocks of the loop with and without the logger alternate, and both call a function at each step. The program
compares the CPU time of all threads between neighbouring blocks, because the clock of a shared machine
varies. The share is the median. It prints JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

STEP_SECONDS = 100e-6
STEPS = 1000
PAIRS = 40
Log = Callable[[int, float, float, float, float], None]
RANDOM = random.Random(1)
NUMBERS = [tuple(RANDOM.random() for _ in range(4)) for _ in range(STEPS)]


def main(name: str, pairs: int) -> None:
    """Measure one logger and print the result as JSON."""
    if name == "rollout_calls":
        return _rollout_calls(50 * pairs)
    log, flush = LOGGERS[name]()
    turns = _turns_of_a_step()
    latencies: list[float] = []
    ratios = []
    for number in range(pairs + 1):
        seconds: dict[Log, float] = {}
        for each in (log, _nothing) if number % 2 else (_nothing, log):
            seconds[each] = _block(each, turns, flush, latencies if each is log else [])
        ratios.append(seconds[log] / seconds[_nothing] - 1)
    latencies.sort()
    result = {"share": median(ratios[1:]), "p50": latencies[len(latencies) // 2]}  # the first pair warms up
    print(json.dumps(result | {"p99": latencies[int(len(latencies) * 0.99)]}))


def _block(log: Log, turns: int, flush: Callable[[], None], latencies: list[float]) -> float:
    """Return the CPU seconds of all threads for a thousand steps, including the final flush."""
    clock, start = time.perf_counter, time.process_time()
    for step, numbers in enumerate(NUMBERS):
        _work(turns)
        if step % 8:
            log(step, *numbers)
        else:
            before = clock()
            log(step, *numbers)
            latencies.append(clock() - before)
    if log is not _nothing:
        flush()
    return time.process_time() - start


def _nothing(step: int, loss: float, value: float, entropy: float, error: float) -> None:
    """Log nothing."""


def _work(turns: int) -> float:
    """Stand for the training with Python code, which needs the interpreter's lock as a training does."""
    x = 0.5
    for _ in range(turns):
        x = x * 0.99 + 0.01
    return x


def _turns_of_a_step() -> int:
    def seconds(turns: int) -> float:
        start = time.process_time()
        _work(turns)
        return time.process_time() - start

    return int(100_000 * STEP_SECONDS / min(seconds(100_000) for _ in range(20)))


def _stepstream() -> tuple[Log, Callable[[], None]]:
    import stepstream

    run = stepstream.init()

    def log(step: int, loss: float, value: float, entropy: float, error: float) -> None:
        run.step(reward=1.0, action=1, loss=loss, value=value, entropy=entropy, error=error)

    return log, run.flush


def _frames() -> tuple[Log, Callable[[], None]]:
    """Log pictures of 210 × 160 × 3 at 30 a second, with noise in 60 of 210 rows, more than games have."""
    import numpy as np
    import stepstream

    run = stepstream.init()
    frames = np.zeros((8, 210, 160, 3), np.uint8)
    frames[:, :60] = np.random.default_rng(1).integers(0, 255, (8, 60, 160, 3), np.uint8)

    def log(step: int, *_: float) -> None:
        if step % 333 == 0:
            run.frame(frames[step % 8])

    return log, run.flush


def _rollouts() -> tuple[Log, Callable[[], None]]:
    """Log a rollout of 10 kB at each hundredth step."""
    import stepstream

    run = stepstream.init()
    rollout = _rollout(run)

    def log(step: int, *_: float) -> None:
        if step % 100 == 0:
            rollout(step)

    return log, run.flush


def _rollouts_full() -> tuple[Log, Callable[[], None]]:
    """Log a rollout of 10 kB at each hundredth step, while no file may grow."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    return _rollouts()


def _rollout_calls(calls: int) -> None:
    """Print p50 and p99 of the calls; the loop waits 5 ms between two, as for an accelerator."""
    import stepstream

    run, seconds = stepstream.init(), []
    rollout = _rollout(run)
    for number in range(calls):
        time.sleep(0.005)
        before = time.perf_counter()
        rollout(number)
        seconds.append(time.perf_counter() - before)
    seconds.sort()
    print(json.dumps({"p50": seconds[calls // 2], "p99": seconds[int(calls * 0.99)]}))


def _rollout(run: Any) -> Callable[[int], None]:
    from stepstream.rollouts import log_rollout

    prompt, answer = (
        [{"role": "user", "content": "word " * 400}],
        [{"role": "assistant", "content": "word " * 1600}],
    )
    told = {
        "rewards": {"correct": 1.0, "format": 0.5},
        "weights": {"format": 0.2},
        "advantage": 0.3,
        "run": run,
    }

    def log(number: int) -> None:
        log_rollout(prompt, answer, group=number // 8, sample=number % 8, step=number // 64, **told)

    return log


def _json() -> tuple[Log, Callable[[], None]]:
    file = open(os.path.join(tempfile.mkdtemp(), "steps.jsonl"), "w")  # noqa: SIM115 - open to the end

    def log(step: int, loss: float, value: float, entropy: float, error: float) -> None:
        line = {"step": step, "reward": 1.0, "action": 1, "loss": loss, "value": value, "entropy": entropy}
        print(json.dumps({**line, "error": error}), file=file)

    return log, file.flush


def _tensorboard() -> tuple[Log, Callable[[], None]]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(tempfile.mkdtemp())

    def log(step: int, *numbers: float) -> None:
        for name, number in zip(NAMES, numbers, strict=True):
            writer.add_scalar(name, number, step)

    return log, writer.flush


def _wandb() -> tuple[Log, Callable[[], None]]:
    import wandb

    run = wandb.init(mode="offline", dir=tempfile.mkdtemp(), settings=wandb.Settings(silent=True))

    def log(step: int, *numbers: float) -> None:
        run.log(dict(zip(NAMES, numbers, strict=True)))

    return log, lambda: None


def _mlflow() -> tuple[Log, Callable[[], None]]:
    import mlflow
    from mlflow.entities import Metric

    mlflow.set_tracking_uri(f"sqlite:///{tempfile.mkdtemp()}/mlflow.db")
    run = mlflow.start_run()
    client, waiting = mlflow.MlflowClient(), []

    def log(step: int, *numbers: float) -> None:
        now = int(time.time() * 1000)
        waiting.extend(Metric(*each, now, step) for each in zip(NAMES, numbers, strict=True))
        if len(waiting) >= 1000:
            flush()

    def flush() -> None:
        client.log_batch(run.info.run_id, waiting)
        waiting.clear()

    return log, flush


def _trackio() -> tuple[Log, Callable[[], None]]:
    os.environ["TRACKIO_DIR"] = tempfile.mkdtemp()
    import trackio

    trackio.init(project="bench", embed=False)

    def log(step: int, *numbers: float) -> None:
        trackio.log(dict(zip(NAMES, numbers, strict=True)))

    return log, lambda: None


NAMES = ("loss", "value", "entropy", "error")
LOGGERS = {
    "stepstream": _stepstream,
    "frames": _frames,
    "rollouts": _rollouts,
    "rollouts_full": _rollouts_full,
    "json": _json,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else PAIRS)
