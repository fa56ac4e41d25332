"""Replay: a run's records in the order its workers wrote them, from any place to any other.

`infra.history` reads them from SQL and Kafka, `play` chooses and paces them, `follow` orders what comes on,
`lines` writes them as JSONL, the `sink` modules give them elsewhere.
"""
