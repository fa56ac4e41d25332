"""Real servers that need no installation: Apache Kafka on a wheel's Java, Valkey from a wheel.

Each ends with the process that started it, listens on the loopback only, and keeps its data in one folder.
"""
