"""The ahead-of-time cache is made once, is used by the next start, and never prevents a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.embedded import aot
from infra.embedded.kafka import KafkaServer


@pytest.mark.slow
def test_a_cache_is_made_once_and_kafka_starts_by_it(
    tmp_path: Path, kafka_jars: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java gets no flag before the cache is made; afterwards Kafka starts from the cache."""
    monkeypatch.setattr(aot, "folder", lambda: tmp_path / "aot")
    (tmp_path / "aot").mkdir()
    (tmp_path / "aot" / f"{aot.TEMPORARY}left").mkdir()
    assert aot.flags(kafka_jars) == []
    made = aot.make(kafka_jars)
    assert [path.name for path in (tmp_path / "aot").iterdir()] == [made.name]
    written = made.stat().st_mtime_ns
    assert aot.make(kafka_jars).stat().st_mtime_ns == written

    # `on` refuses a cache that does not fit; `auto` would start without it.
    server = KafkaServer(
        tmp_path / "kafka", kafka_jars, java_flags=[*aot.flags(kafka_jars), "-XX:AOTMode=on"]
    )
    server.start()
    server.stop()


def test_a_damaged_cache_does_not_keep_kafka_from_starting(tmp_path: Path, kafka_jars: list[Path]) -> None:
    """Java goes on without a cache that it cannot read."""
    (tmp_path / "bad.aot").write_bytes(b"no cache" * 1000)
    server = KafkaServer(tmp_path, kafka_jars, java_flags=[f"-XX:AOTCache={tmp_path / 'bad.aot'}"])
    server.start()
    server.stop()
