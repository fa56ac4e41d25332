"""Spools to Kafka: windows of lines, encoded, acknowledged, checkpointed."""
