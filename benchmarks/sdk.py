"""What logging costs a training loop of 10,000 steps a second with four metrics each, all threads counted.

The peers run in the same loop in the same run, from `.venv-integrations` (`make test-integrations`) or from
this environment, where they are installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import ROOT, Row, Unmeasured, python_with

LOOP = ROOT / "benchmarks" / "sdk_loop.py"
ROUNDS = 3
PEERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}


def step_cost() -> Row:
    """run.step, beside a JSON line printed to a file."""
    ours = _shares("stepstream")
    return Row(
        what="SDK: share of a loop's time, four metrics a step",
        rate=100 * median(ours),
        unit="%",
        peer=100 * median(_shares("json")),
        peer_name="print(json.dumps(…), file=…)",
        spread=(max(ours) - min(ours)) / median(ours),
        goal="≤ 5 %, aim 2 %",
        lower_is_better=True,
    )


def call_p99() -> Row:
    """One call of run.step as the training thread sees it.

    The peer's is of two kinds: its file's buffer of 8 KiB is full each 75th call, which then waits for the
    disk. That is 1.3 % of them, so its p99 is now a short call and now a long one.
    """
    rounds = [1e6 * each["p99"] for each in _rounds("stepstream")]
    return Row(
        what="SDK: p99 of one call",
        rate=min(rounds),
        unit="µs",
        peer=1e6 * min(each["p99"] for each in _rounds("json")),
        peer_name="print(json.dumps(…), file=…)",
        spread=(max(rounds) - min(rounds)) / median(rounds),
        goal="< 50 µs",
        lower_is_better=True,
    )


def rollout_call_p99() -> Row:
    """One call of log_rollout with 10 kB of text, two rewards, group, sample and advantage.

    Between two calls the loop waits, as one does for an accelerator. A loop that never waits hands the
    interpreter's lock over each 5 ms: a call that this falls into lasts as long as the writer's thread works.
    """
    rounds = [1e6 * each["p99"] for each in _rounds("rollout_calls")]
    return Row(
        what="SDK: p99 of log_rollout, 10 kB",
        rate=min(rounds),
        unit="µs",
        spread=(max(rounds) - min(rounds)) / median(rounds),
        goal="< 200 µs",
        lower_is_better=True,
    )


def rollouts_cost() -> Row:
    """100 rollouts of 10 kB a second, beside the same loop without."""
    return _rollouts("SDK: share of a loop's time, 100 rollouts a second", "rollouts")


def rollouts_cost_of_a_full_disk() -> Row:
    """The same while no byte can be written: they wait in memory, and then are dropped and counted."""
    return _rollouts("SDK: the same on a full disk", "rollouts_full")


def _rollouts(what: str, logger: str) -> Row:
    ours = _shares(logger)
    return Row(
        what=what,
        rate=100 * median(ours),
        unit="%",
        spread=(max(ours) - min(ours)) / median(ours),
        goal="< 5 %",
        lower_is_better=True,
    )


def beside_tensorboard() -> Row:
    """TensorBoard's SummaryWriter (tensorboardX's, as torch's needs torch)."""
    return _beside("tensorboard", "TensorBoard SummaryWriter")


def beside_wandb() -> Row:
    """Weights & Biases, offline."""
    return _beside("wandb", "W&B offline")


def beside_mlflow() -> Row:
    """MLflow, a thousand metrics in a batch, SQLite."""
    return _beside("mlflow", "MLflow in batches")


def beside_trackio() -> Row:
    """Trackio."""
    return _beside("trackio", "Trackio")


def frames_cost() -> Row:
    """Pictures of 210 × 160 × 3 at 30 a second, beside the same loop without."""
    ours = _shares("frames")
    return Row(
        what="SDK: share of a loop's time, 30 pictures a second",
        rate=100 * median(ours),
        unit="%",
        spread=(max(ours) - min(ours)) / median(ours),
        goal="< 5 %",
        lower_is_better=True,
    )


def import_time() -> Row:
    """`import stepstream`, beside an interpreter that imports nothing."""
    ours = [_import_ms("stepstream") for _ in range(9)]
    return Row(
        what="SDK: import stepstream",
        rate=min(ours),
        unit="ms",
        peer=min(_import_ms("json, threading") for _ in range(9)),
        peer_name="import json, threading",
        spread=(max(ours) - min(ours)) / median(ours),
        goal="< 20 ms",
        lower_is_better=True,
    )


def wheel_size() -> Row:
    """The wheel that training environments install."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        done = subprocess.run(build, cwd=ROOT / "sdk", capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise Unmeasured(f"hatchling does not build it: {done.stderr[-200:]}")
        size = wheels[0].stat().st_size / 1000
    return Row("SDK: wheel", size, "KB", goal="< 100 KB, no dependency", lower_is_better=True)


def _beside(peer: str, name: str) -> Row:
    ours = _shares("stepstream")
    return Row(
        what=f"SDK: share of a loop's time, beside {name}",
        rate=100 * median(ours),
        unit="%",
        peer=100 * median(_shares(peer)),
        peer_name=name,
        spread=(max(ours) - min(ours)) / median(ours),
        goal="cheaper",
        lower_is_better=True,
    )


def _shares(logger: str) -> list[float]:
    return [each["share"] for each in _rounds(logger)]


@cache
def _rounds(logger: str) -> list[dict[str, Any]]:
    """A logger's loop, each round in a process of its own; a slow peer has shorter rounds."""
    python = python_with(PEERS.get(logger, "stepstream"))
    pairs = "4" if logger in PEERS else "20"
    with tempfile.TemporaryDirectory() as home:
        variables = os.environ | {"STEPSTREAM_HOME": home, "WANDB_SILENT": "true", "TMPDIR": home}
        command = [python, str(LOOP), logger, pairs]
        runs = [
            subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
            for _ in range(1 if logger in PEERS else ROUNDS)
        ]
    if failed := [run for run in runs if run.returncode]:
        raise Unmeasured(f"the loop with {logger} failed: {failed[0].stderr[-200:]}")
    return [json.loads(_last_object(run.stdout)) for run in runs]


def _last_object(printed: str) -> str:
    """Trackers print, too."""
    return next(line for line in reversed(printed.splitlines()) if line.startswith("{"))


def _import_ms(modules: str) -> float:
    timed = f"import time; t = time.perf_counter(); import {modules}; print(1000 * (time.perf_counter() - t))"
    command = [sys.executable, "-I", "-c", timed]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
