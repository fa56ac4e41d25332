"""Kafka in: persist (SQL), live (Redis), replay."""
