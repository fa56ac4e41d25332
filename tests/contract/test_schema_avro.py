"""The Avro schemas can be read by a stock reader, are documented, and read the records of older versions."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from typing import Any

import avro.schema
import fastavro
import pytest
from avro.io import BinaryDecoder, DatumReader
from fastavro.validation import validate

from infra.sql.writers.base import COLUMNS
from schemas.codec import HEADER, Encoder, checked_in, current_id, current_schema, schema_ids, schema_text
from schemas.tables import EVENT_TABLES
from schemas.topics import Kind
from tests.support.events import record

KINDS = [kind for kind in Kind if kind is not Kind.FRAMES]


def versions(kind: Kind) -> list[dict[str, Any]]:
    """Every version of a kind's schema, oldest first."""
    names = [name for name in schema_ids().values() if name.rpartition(".v")[0] == kind.value]
    return [json.loads(schema_text(name)) for name in sorted(names, key=lambda n: int(n.rpartition(".v")[2]))]


@pytest.mark.parametrize("kind", KINDS)
def test_apache_s_reader_reads_what_we_write(kind: Kind):
    """The Avro body behind the five bytes of Confluent's header is plain Avro."""
    fields = record(kind, 7)
    value = Encoder(kind)(fields)
    assert HEADER.unpack_from(value) == (0, current_id(kind))
    schema = avro.schema.parse(json.dumps(current_schema(kind)))
    read = DatumReader(schema).read(BinaryDecoder(io.BytesIO(value[HEADER.size :])))
    told = read.pop("event_time")
    assert round(told.timestamp() * 1_000_000) == fields.pop("event_time")
    assert read == fields


@pytest.mark.parametrize("kind", list(Kind))
def test_every_field_is_documented(kind: Kind):
    """Each schema and each field says what it means."""
    schema = current_schema(kind)
    assert schema["doc"]
    assert [field["name"] for field in schema["fields"] if not field.get("doc")] == []


@pytest.mark.parametrize("kind", list(Kind))
def test_each_version_reads_the_one_before(kind: Kind):
    """Each version of a schema reads the records of the version before (BACKWARD_TRANSITIVE)."""
    known = versions(kind)
    assert known[-1] == current_schema(kind)
    for older, newer in pairwise(known):
        body = io.BytesIO()
        fields = {field["name"]: _some(field["type"]) for field in older["fields"]}
        fastavro.schemaless_writer(body, fastavro.parse_schema(older), fields)
        body.seek(0)
        read = fastavro.schemaless_reader(body, fastavro.parse_schema(older), fastavro.parse_schema(newer))
        assert validate(read, fastavro.parse_schema(newer))


def test_ids_are_of_one_schema_each():
    """No two ids name the same schema, and each id has a schema text."""
    assert len(set(schema_ids().values())) == len(schema_ids())
    for number in schema_ids():
        assert checked_in(number)["fields"]


@pytest.mark.parametrize("kind", KINDS)
def test_fields_and_columns_have_the_same_names(kind: Kind):
    """The columns of an event table are the fields of its record and the record's place in the log."""
    fields = [field["name"] for field in current_schema(kind)["fields"]]
    columns = [column.name for column in EVENT_TABLES[kind.table].columns]
    own = {"topic_partition", "topic_offset", "redriven_at"}
    assert {name for name in columns if name not in own} == {name for name in fields if name not in own}
    if kind is not Kind.DLQ:
        assert list(COLUMNS[kind.table]) == [*fields, "topic_partition", "topic_offset"]


def _some(kind: Any) -> Any:
    """A value of an Avro type."""
    name = kind["type"] if isinstance(kind, dict) else kind[-1] if isinstance(kind, list) else kind
    return {"string": "x", "long": 1, "int": 1, "double": 0.5, "boolean": True, "bytes": b"x"}[name]
