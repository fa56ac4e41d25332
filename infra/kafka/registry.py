"""Schema ids: from a Confluent-compatible registry where one is set, else from the checked-in table.

Ids of the checked-in table are larger than those of registries, so a topic that began without a registry
can still be read after one was set.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from stepstream._masking import masked_url

from infra.backoff import pauses
from infra.settings import Settings
from schemas.codec import Schema, checked_in, current_id, current_version, schema_ids, schema_text
from schemas.errors import RegistryError, SchemaError, UsageError
from schemas.topics import Kind

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

COMPATIBILITY = "BACKWARD_TRANSITIVE"
TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
UNKNOWN_SUBJECT, UNKNOWN_SCHEMA, UNKNOWN_LEVEL = 40401, 40403, 40408

T = TypeVar("T")


class Registry:
    """Ids to write with, schemas to read by.

    Args:
        settings: where the registry is; without an address the checked-in table is used.
        stop: while the registry is away, retry until this is set; None: raise at once.
    """

    def __init__(self, settings: Settings, stop: threading.Event | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._client = _client(settings) if settings.schema_registry_url else None

    def id_to_write(self, kind: Kind) -> int:
        """Id of the newest schema of a kind; registers it where that is allowed.

        Raises:
            RegistryError: the registry refuses, or is away and `stop` was set.
        """
        client = self._client
        if client is None:
            return current_id(kind)
        subject = subject_of(kind, self._settings.topic_prefix)
        text = schema_text(current_version(kind))
        if self._settings.schema_registry_auto_register:
            return self._ask(lambda: _register(client, subject, text), subject)
        return self._ask(lambda: _look_up(client, subject, text), subject)

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id.

        Raises:
            SchemaError: the id is unknown.
            RegistryError: the registry refuses, or is away and `stop` was set.
        """
        client = self._client
        if client is None or schema_id in schema_ids():
            return checked_in(schema_id)
        return self._ask(lambda: _by_id(client, schema_id), f"schema id {schema_id}")

    def check(self) -> list[str]:
        """Subjects that the registry knows; for `doctor`.

        Raises:
            RegistryError: it refuses, or is away.
        """
        client = self._client
        return [] if client is None else self._ask(lambda: list(client.get_subjects()), "subjects")

    def _ask(self, question: Callable[[], T], about: str) -> T:
        for pause in pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S):
            try:
                return question()
            except Exception as error:
                reason = _why_away(error)
                if reason is None:
                    raise _translated(error, about) from error
                address = masked_url(self._settings.schema_registry_url)
                if self._stop is None or self._stop.is_set():
                    raise RegistryError(
                        f"The schema registry at {address} does not answer ({reason}): is it running, and "
                        "is STEPSTREAM_SCHEMA_REGISTRY_URL right?"
                    ) from error
                again = round(pause, 1)
                _warn("schema registry is away", url=address, reason=reason, again_in_s=again)
                self._stop.wait(pause)
        raise AssertionError("pauses() has no end")


def _warn(event: str, **values: Any) -> None:
    import structlog  # noqa: PLC0415 - it brings rich, which takes longer than a replay's first line

    structlog.get_logger(part="registry").warning(event, **values)


def subject_of(kind: Kind, prefix: str) -> str:
    """A kind's subject under TopicNameStrategy, which is not the client's default."""
    return f"{kind.topic(prefix)}-value"


def _client(settings: Settings) -> SchemaRegistryClient:
    from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - takes 0.5 s

    user, password = settings.schema_registry_user, settings.schema_registry_password
    config: dict[str, Any] = {
        "url": settings.schema_registry_url,
        "timeout": TIMEOUT_S,
        "max.retries": 0,  # our own retries log the reason, and can be stopped
        "basic.auth.user.info": f"{user}:{password}" if user else None,
        "ssl.ca.location": settings.schema_registry_ca or None,
        "ssl.certificate.location": settings.schema_registry_certificate or None,
        "ssl.key.location": settings.schema_registry_key or None,
    }
    try:
        return SchemaRegistryClient({key: value for key, value in config.items() if value is not None})
    except (ValueError, OSError) as error:  # ssl's errors are OSErrors
        raise UsageError(f"The settings STEPSTREAM_SCHEMA_REGISTRY_* are wrong: {error}") from error


def _register(client: SchemaRegistryClient, subject: str, text: str) -> int:
    from confluent_kafka.schema_registry import Schema as RegisteredSchema  # noqa: PLC0415

    if _level(client, subject) != COMPATIBILITY:
        client.set_compatibility(subject, COMPATIBILITY)
    return int(client.register_schema(subject, RegisteredSchema(text, "AVRO")))


def _level(client: SchemaRegistryClient, subject: str) -> str | None:
    from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

    try:
        return str(client.get_compatibility(subject))
    except SchemaRegistryError as error:
        if error.http_status_code == 404:  # the subject has none of its own
            return None
        raise


def _look_up(client: SchemaRegistryClient, subject: str, text: str) -> int:
    from confluent_kafka.schema_registry import Schema as RegisteredSchema  # noqa: PLC0415

    found = client.lookup_schema(subject, RegisteredSchema(text, "AVRO"))
    if found.schema_id is None:
        raise RegistryError(f"The schema registry gave no id for {subject}.")
    return int(found.schema_id)


def _by_id(client: SchemaRegistryClient, schema_id: int) -> Schema:
    schema: Schema = json.loads(client.get_schema(schema_id).schema_str or "null")
    return schema


def _why_away(error: Exception) -> str | None:
    """Why the registry does not answer now; None: it did answer."""
    from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

    # By name, as the client speaks through httpx or httpx2, whichever is there.
    if any(base.__name__ == "TransportError" for base in type(error).__mro__):
        return str(error) or type(error).__name__
    if isinstance(error, SchemaRegistryError) and (
        error.http_status_code >= 500 or error.http_status_code == 429
    ):
        return str(error)
    return None


def _translated(error: Exception, about: str) -> Exception:
    from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

    if not isinstance(error, SchemaRegistryError):
        return error
    if about.startswith("schema id") and error.http_status_code == 404:
        return SchemaError(f"The schema registry knows no {about}, nor does the checked-in table.")
    if error.http_status_code in (401, 403):
        return RegistryError(
            f"The schema registry refuses us {about} ({error.error_message}): check "
            "STEPSTREAM_SCHEMA_REGISTRY_USER, _PASSWORD and the rights of that user."
        )
    if error.error_code in (UNKNOWN_SUBJECT, UNKNOWN_SCHEMA):
        return RegistryError(
            f"{about} is not registered, and STEPSTREAM_SCHEMA_REGISTRY_AUTO_REGISTER is off: register "
            "the schema, or turn it on once."
        )
    if error.http_status_code == 409:
        return RegistryError(
            f"The registry's versions of {about} do not fit this stepstream's schema "
            f"({error.error_message}): is another program writing under this topic prefix?"
        )
    return RegistryError(f"The schema registry refuses {about}: {error}")
