"""Real servers that need no installation: Apache Kafka on a wheel's Java, Valkey from a wheel.

Each dies with the process that started it, keeps to the loopback, and holds its data in one folder.
"""
