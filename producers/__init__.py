"""JSONL in, Avro on Kafka out: normalise (pure), spool, forward."""
