"""`stepstream forward`: ship every spool in a folder."""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
import threading
from dataclasses import replace
from pathlib import Path

import click

from infra import log as logs
from infra import metrics
from infra import settings as settings_module
from infra.kafka.client import client_config
from infra.settings import Settings
from producers.forward.service import ForwardService
from schemas.errors import UsageError


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Folder of spools. Default: `spool_dir`."
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="After SIGTERM, ship what the spools still hold, at most so long: where the disk goes with the pod.",
)
def forward(folder: Path | None, drain: float) -> None:
    """Ship every spool in a folder, new ones as they appear, until SIGTERM.

    These are the SDK's spools, and those of a killed `run` or `ingest`. It is part of `up`; in a cluster it
    runs beside the workers that share the folder.
    """

    def load() -> Settings:
        settings = settings_module.load()
        return settings if folder is None else replace(settings, spool_dir=folder.absolute())

    settings = load()
    log = logs.configure(settings, "forward")
    client_config(settings)  # fails at once if no Kafka is known
    if settings.spool_dir.exists() and not settings.spool_dir.is_dir():
        raise UsageError(f"{settings.spool_dir} is no folder.")
    settings.spool_dir.mkdir(parents=True, exist_ok=True)  # printed before the log begins
    _allow_many_files()
    service = ForwardService(load, threading.Event(), drain)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: service.stop())
    metrics.on_scrape(
        "stepstream_spool_bytes", "Bytes of spools that Kafka has not acknowledged.", service.unshipped
    )
    metrics.on_scrape(
        "stepstream_spool_oldest_seconds",
        "Age of the oldest line that Kafka has not acknowledged; 0: there is none.",
        service.oldest_seconds,
    )
    service.health.serve(settings)
    log.info("forwarding", folder=str(settings.spool_dir), kafka=settings.bootstrap_servers)
    gc.freeze()  # a full collection would pause the loop for 15 ms
    service.run()


def _allow_many_files() -> None:
    """Raise the limit of open files: each stream holds a lock and up to two files open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
