"""Where a replay goes: another topic."""

from __future__ import annotations

import re

from infra.history.items import Item, Records
from infra.kafka import client as kafka
from infra.kafka import topics
from infra.settings import Settings
from schemas.errors import BrokerError, UsageError
from schemas.topics import Kind

SEND_S = 30.0
_OURS = re.compile(rf"(.*[._-])?({'|'.join(Kind)})")


def check_topic(name: str) -> None:
    """Raise where a name is none for a copy.

    Raises:
        UsageError: Kafka does not take it, or a deployment of stepstream may read it.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name in (".", ".."):
        raise UsageError(f"{name!r} is no name of a topic: letters, digits, '.', '_' and '-', at most 249.")
    if _OURS.fullmatch(name):
        raise UsageError(
            f"{name} is one of the topics that are read, of this deployment or another: the run would be "
            f"there twice. Take a name that does not end in {', '.join(Kind)}."
        )


class TopicSink:
    """One topic for all records: the same bytes under the same key, in order.

    Args:
        settings: which Kafka.
        name: the topic, which is made.
        run_id: the key.
        records: for what only SQL has still: it is encoded anew.
        append: the topic may be there already.

    Raises:
        UsageError: it is there already.
    """

    def __init__(self, settings: Settings, name: str, run_id: str, records: Records, *, append: bool) -> None:
        if not topics.ensure_topic(settings, name) and not append:
            raise UsageError(f"The topic {name} is there already: name another, or add to it with --append.")
        self._name, self._key, self._wire = name, run_id, records.wire
        self._failed: list[str] = []
        self._producer = kafka.producer(
            settings, on_delivery=self._delivered, **{"delivery.report.only.error": True}
        )

    def write(self, items: list[Item]) -> None:
        """Send records and wait until they are acknowledged.

        Raises:
            BrokerError: Kafka did not take a record.
        """
        for item in items:
            self._producer.produce(self._name, self._wire(item), self._key, timestamp=item.timestamp)
        left = self._producer.flush(SEND_S)
        if left or self._failed:
            why = (
                self._failed[0] if self._failed else f"{left} records are not acknowledged after {SEND_S:g} s"
            )
            raise BrokerError(f"{self._name} cannot be written: {why}.")

    def close(self) -> None:
        """All is acknowledged."""

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))
