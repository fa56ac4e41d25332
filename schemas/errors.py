"""Every error that a user of stepstream can meet.

    StepstreamError            exit code 1: something failed; the sentence says what to do
    ├── UsageError             exit code 2: the command, a setting or an argument is wrong
    ├── BrokerError            Kafka refused, or cannot be reached
    ├── DatabaseError          SQL refused, or cannot be reached
    │   └── RevisionError      the database's tables are of another version
    ├── LiveBufferError        Redis refused, or cannot be reached
    ├── RegistryError          the schema registry refused, or cannot be reached
    ├── SchemaError            bytes that no known schema fits
    └── AlreadyRunning         another process holds the lock

`infra` translates the errors of Kafka, SQL and Redis into these.
"""

from __future__ import annotations


class StepstreamError(Exception):
    """One sentence for the user: what is wrong, and what to do about it."""

    exit_code = 1


class UsageError(StepstreamError):
    """The command, a setting or an argument is wrong."""

    exit_code = 2


class BrokerError(StepstreamError):
    """Kafka refused, or cannot be reached."""


class DatabaseError(StepstreamError):
    """The database refused, or cannot be reached."""


class RevisionError(DatabaseError):
    """The database's tables are of another version than this program's."""


class LiveBufferError(StepstreamError):
    """Redis refused, or cannot be reached."""


class RegistryError(StepstreamError):
    """The schema registry refused, or cannot be reached."""


class SchemaError(StepstreamError):
    """Bytes whose schema is unknown, or that do not fit it."""


class AlreadyRunning(StepstreamError):  # noqa: N818 - a state, said as users would say it
    """Another process holds the lock."""
