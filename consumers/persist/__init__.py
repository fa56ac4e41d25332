"""Kafka to SQL, every record once."""
