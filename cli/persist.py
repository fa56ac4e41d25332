"""`persist`: the service that writes Kafka's records into SQL."""

from __future__ import annotations

import os
import signal
import threading
import time

import click
from stepstream._masking import masked_url

from consumers.persist.dead_letters import DeadLetterWriter
from consumers.persist.service import Persist
from infra import log
from infra.kafka.registry import Registry
from infra.settings import load
from infra.sql.writers import open_writer
from schemas.codec import Decoder
from schemas.topics import Kind

LAST_WORD_S = 4.5
"""Seconds to wait for a database or broker that hangs: what was not committed is read again."""


@click.command()
def persist() -> None:
    """Service: Kafka to SQL, every record exactly once.

    Start up to one for each partition; they share the partitions. Their positions are in the database.
    """
    settings = load()
    logger = log.configure(settings, "persist")
    writer = open_writer(settings)
    registry = Registry(settings)
    service = Persist(
        settings,
        writer,
        decode=lambda kind: Decoder(kind, registry.schema),
        letters=lambda: DeadLetterWriter(registry.id_to_write(Kind.DLQ)),
    )
    service.health.serve(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end_soon(stop))
    logger.info("started", database=masked_url(str(writer.engine.url)), group=settings.group("persist"))
    service.run(stop)
    logger.info("stopped")


def _end_soon(stop: threading.Event) -> None:
    def force() -> None:
        time.sleep(LAST_WORD_S)
        os._exit(0)

    if not stop.is_set():
        stop.set()
        threading.Thread(target=force, daemon=True).start()
