"""Kafka to Redis: the newest of each agent."""
