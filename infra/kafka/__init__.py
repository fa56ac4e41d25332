"""Kafka: clients, consumers, producers and the schema registry, with errors translated."""
