"""Logs of stepstream's own services: one structured line for each event, on stderr."""

from __future__ import annotations

import logging
import sys

import structlog

from infra.settings import Settings


def configure(settings: Settings, service: str) -> structlog.stdlib.BoundLogger:
    """Set up logging for this process and return its logger, bound to the service's name."""
    level = logging.getLevelName(settings.log_level.upper())
    kind = settings.log_format
    if kind == "auto":
        kind = "console" if sys.stderr.isatty() else "logfmt"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _renderer(kind),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger().bind(service=service)
    return logger


def _renderer(kind: str) -> structlog.typing.Processor:
    if kind == "json":
        return structlog.processors.JSONRenderer()
    if kind == "console":
        return structlog.dev.ConsoleRenderer(pad_event_to=0)
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "service", "event"])
