"""What logging costs a training loop of 10,000 steps a second with four metrics each, all threads counted.

The peers run in the same loop in the same run, from `.venv-integrations` (`make test-integrations`) or from
this environment, whichever has them.
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
    """Measure run.step, beside printing a JSON line to a file."""
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
    """Measure the p99 of one call of run.step as the training thread sees it.

    The peer fills its file's buffer of 8 KiB at each 75th call, which then waits for the disk. That is 1.3 %
    of the calls, so the peer's p99 varies between a short call and a long one.
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
    """Measure one call of log_rollout with 10 kB of text, two rewards, group, sample and advantage.

    The loop waits between two calls, as a training waits for an accelerator. Python switches threads every
    5 ms in a loop that never waits, and a call during a switch takes as long as the writer's thread works.
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
    """Measure 100 rollouts of 10 kB a second, beside the same loop without them."""
    return _rollouts("SDK: share of a loop's time, 100 rollouts a second", "rollouts")


def rollouts_cost_of_a_full_disk() -> Row:
    """Measure 100 rollouts a second while no byte can be written and rollouts are dropped."""
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
    """Measure run.step beside a SummaryWriter: tensorboardX's, because torch's needs torch."""
    return _beside("tensorboard", "TensorBoard SummaryWriter")


def beside_wandb() -> Row:
    """Measure run.step beside Weights & Biases, offline."""
    return _beside("wandb", "W&B offline")


def beside_mlflow() -> Row:
    """Measure run.step beside MLflow with SQLite, a thousand metrics in a batch."""
    return _beside("mlflow", "MLflow in batches")


def beside_trackio() -> Row:
    """Measure run.step beside Trackio."""
    return _beside("trackio", "Trackio")


def frames_cost() -> Row:
    """Measure pictures of 210 × 160 × 3 at 30 a second, beside the same loop without them."""
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
    """Measure `import stepstream`, beside importing json and threading."""
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
    """Measure the size of the wheel that training environments install."""
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
    """Run a logger's loop, each round in a process of its own; peers run one shorter round."""
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
    """Return the last JSON object, because trackers print other lines, too."""
    return next(line for line in reversed(printed.splitlines()) if line.startswith("{"))


def _import_ms(modules: str) -> float:
    timed = f"import time; t = time.perf_counter(); import {modules}; print(1000 * (time.perf_counter() - t))"
    command = [sys.executable, "-I", "-c", timed]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
