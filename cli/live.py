"""`live`: the service that puts the newest records into Redis."""

from __future__ import annotations

import gc
import signal
import threading

import click
from stepstream._masking import masked_url

from consumers.live.service import TAIL, Live
from infra import log
from infra.kafka.registry import Registry
from infra.kafka.tail_consumer import Tail
from infra.redis.live_store import LiveStore
from infra.settings import load
from schemas.codec import Decoder


@click.command()
def live() -> None:
    """Service: Kafka to Redis, the newest for the dashboard.

    Start up to one for each partition; they share the partitions. Their positions are in Redis.
    """
    settings = load()
    logger = log.configure(settings, "live")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    registry = Registry(settings, stop)
    store = LiveStore(settings)
    tail = Tail(settings, [kind.topic(settings.topic_prefix) for kind in TAIL])
    service = Live(settings, store, tail, decode=lambda kind: Decoder(kind, registry.schema))
    service.health.serve(settings)
    logger.info("started", redis=masked_url(settings.redis_url), group=settings.group("live"))
    gc.freeze()  # Freeze the heap: a full collection would hold up every step for 15 ms
    service.run(stop)
    logger.info("stopped")
