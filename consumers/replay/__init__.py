"""Replay: a run's records from the log, in the order its workers wrote them, from any place to any other.

`position` reads what a user says, `tape` puts the records in order, `lines` writes them as JSONL,
`play` paces them and follows a run that goes on.
"""
