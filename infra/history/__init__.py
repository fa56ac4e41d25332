"""A run's history, read from SQL and Kafka as one: by replay and by the dashboard."""
