"""The first fields of any record (its identity and time), without decoding the rest."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro

from schemas.codec import HEADER, MAGIC, Schema, checked_in, current_id, plain
from schemas.errors import SchemaError
from schemas.step_codec import HeadDecoder
from schemas.topics import Kind

HEAD_FIELDS = frozenset({"stream_id", "seq", "agent_id", "event_time", "episode_index"})
_WITH_EPISODE = (Kind.STEPS, Kind.EPISODES, Kind.FRAMES)


Head = tuple[str, int, int, int | None, str]
"""The first fields of a record that replay needs: stream, seq, event time, episode, agent."""
_HEADER_SIZE = HEADER.size


class HeadReader:
    """Reads the first fields only: by hand for the checked-in schemas, by fastavro for a registry's."""

    def __init__(self, lookup: Callable[[int], Schema] = checked_in) -> None:
        self._lookup = lookup
        self._schemas: dict[int, Any] = {}
        self._quick = {
            HEADER.pack(MAGIC, current_id(kind)): HeadDecoder(
                HEADER.pack(MAGIC, current_id(kind)), has_episode=kind in _WITH_EPISODE
            )
            for kind in Kind
        }

    def __call__(self, value: bytes) -> Head:
        """The head of a record in wire bytes.

        Raises:
            SchemaError: the bytes are no record.
        """
        quick = self._quick.get(value[:_HEADER_SIZE])
        found = None if quick is None else quick.head(value)
        return self._read(value) if found is None else found

    def _read(self, value: bytes) -> Head:
        if len(value) < HEADER.size or value[0] != MAGIC:
            raise SchemaError("Not in Confluent's wire format.")
        schema = self._schema(HEADER.unpack_from(value)[1])
        body = io.BytesIO(value)
        body.seek(HEADER.size)
        try:
            head: Any = fastavro.schemaless_reader(body, schema, None)
            episode = head.get("episode_index")
            return head["stream_id"], head["seq"], head["event_time"], episode, head["agent_id"]
        except Exception as error:  # broken bytes can make fastavro raise anything
            raise SchemaError(f"The Avro body does not fit its schema ({error}).") from error

    def _schema(self, schema_id: int) -> Any:
        if schema_id not in self._schemas:
            schema = plain(self._lookup(schema_id))
            names = [field["name"] for field in schema["fields"]]
            last = max((i for i, name in enumerate(names) if name in HEAD_FIELDS), default=-1)
            head = {**schema, "fields": schema["fields"][: last + 1]}
            self._schemas[schema_id] = fastavro.parse_schema(head)
        return self._schemas[schema_id]
