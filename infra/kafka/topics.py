"""Topics: their wanted and actual settings, and the changes that lead from one to the other.

A user may lack the right to see a topic or its settings: what cannot be compared is reported, not raised.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from infra.kafka.client import Question, answer, asking
from infra.kafka.errors import kafka_error, who
from infra.settings import Settings
from schemas.errors import UsageError
from schemas.topics import LARGE, SPECS, Kind, TopicSpec

EVERY = "all"
MIN_INSYNC = "min.insync.replicas"
KNOWN_WITHIN_S, AGAIN_S = 5.0, 0.1
UNSEEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)


@dataclass(frozen=True)
class TopicPlan:
    """The wanted and the actual state of one topic.

    Args:
        name: full name.
        wanted: Kafka's settings.
        partitions: how many it has; 0: the topic is missing or may not be seen.
        more: how many it should have, if that is more.
        differs: setting → actual value, wanted value.
        note: what could not be compared, or cannot be changed.
        created: this call created it.
    """

    name: str
    wanted: Mapping[str, str]
    partitions: int = 0
    more: int = 0
    differs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    note: str = ""
    created: bool = False

    @property
    def missing(self) -> bool:
        """Whether the topic is missing, as far as the user may see."""
        return self.partitions == 0

    @property
    def open(self) -> bool:
        """Whether something differs."""
        return self.missing or bool(self.more or self.differs)


def wanted(settings: Settings, spec: TopicSpec) -> dict[str, str]:
    """Kafka's settings of a topic: ours, then the user's for all topics, then the user's for this one.

    Raises:
        UsageError: a setting names an unknown topic.
    """
    known = {EVERY, *Kind}
    for key in settings.topics:
        if key.partition(".")[0] not in known:
            raise UsageError(f"topics: {key} names no topic: it begins with {', '.join(sorted(known))}.")
    safe = {MIN_INSYNC: "2"} if settings.replication_factor >= 3 else {}
    return spec.config | safe | _of(settings, EVERY) | _of(settings, spec.kind.value)


def _of(settings: Settings, topic: str) -> dict[str, str]:
    begin = f"{topic}."
    return {key.removeprefix(begin): v for key, v in settings.topics.items() if key.startswith(begin)}


def plan(settings: Settings, specs: Iterable[TopicSpec] = SPECS) -> list[TopicPlan]:
    """The actual and wanted state of each topic; changes nothing.

    Raises:
        BrokerError: no broker answers, or it refuses.
    """
    with asking(settings, "DESCRIBE topics") as question:
        return _plan(question, settings, specs)


def _plan(question: Question, settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicPlan]:
    present = question.metadata().topics
    topics = {spec.name(settings.topic_prefix): wanted(settings, spec) for spec in specs}
    configs = _configs(question, [name for name in topics if name in present])
    return [
        _compared(settings, name, config, present[name].partitions, configs[name])
        if name in present
        else TopicPlan(name, config)
        for name, config in topics.items()
    ]


def _compared(
    settings: Settings,
    name: str,
    config: Mapping[str, str],
    partitions: Mapping[int, Any],
    found: Mapping[str, str] | None,
) -> TopicPlan:
    count, factor = len(partitions), settings.replication_factor
    replicas = len(partitions[0].replicas)
    notes = [] if found is not None else ["its settings may not be read: DESCRIBE_CONFIGS is not granted"]
    if factor > 0 and replicas != factor:
        notes.append(
            f"it has {replicas} replicas, {factor} are set, and only Kafka's own tools move replicas"
        )
    if count > settings.partitions:
        notes.append(f"it has {count} partitions, {settings.partitions} are set, and none can be taken away")
    differs = (
        {key: (found[key], value) for key, value in config.items() if key in found and found[key] != value}
        if found
        else {}
    )
    return TopicPlan(
        name,
        config,
        count,
        settings.partitions if settings.partitions > count else 0,
        differs,
        "; ".join(notes),
    )


def _configs(question: Question, names: list[str]) -> dict[str, dict[str, str] | None]:
    """Actual settings of topics; None where they may not be read."""
    found: dict[str, dict[str, str] | None] = {}
    for name, answered in described(question.client, names).items():
        if not isinstance(answered, KafkaException):
            found[name] = answered
        elif kafka_error(answered).code() in UNSEEN:
            found[name] = None
        else:
            raise answered
    return found


def described(client: AdminClient, names: list[str]) -> dict[str, dict[str, str] | KafkaException]:
    """Actual settings of topics, or why there is no answer.

    A broker may not know a topic that was created a moment ago: it is asked again for some seconds.
    """
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    until = time.monotonic() + KNOWN_WITHIN_S
    while resources:
        asked = client.describe_configs(resources)
        found = {resource.name: _answered(future) for resource, future in asked.items()}
        if time.monotonic() > until or not any(map(_is_unknown, found.values())):
            return found
        time.sleep(AGAIN_S)
    return {}


def _answered(future: Future[Any]) -> dict[str, str] | KafkaException:
    try:
        return {key: entry.value for key, entry in answer(future).items()}
    except KafkaException as error:
        return error


def _is_unknown(answered: object) -> bool:
    unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
    return isinstance(answered, KafkaException) and kafka_error(answered).code() == unknown


def ensure_topics(settings: Settings, specs: Iterable[TopicSpec] = SPECS) -> list[TopicPlan]:
    """Create missing topics; leave the others as they are, and report where they differ.

    Raises:
        BrokerError: no broker answers, or it refuses.
    """
    with asking(settings, "DESCRIBE topics") as question:
        return [
            _created(question, settings, topic) if topic.missing else topic
            for topic in _plan(question, settings, specs)
        ]


def _created(question: Question, settings: Settings, topic: TopicPlan) -> TopicPlan:
    if create(question, settings, topic.name, topic.wanted):
        return TopicPlan(topic.name, topic.wanted, settings.partitions, created=True)
    return TopicPlan(
        topic.name, topic.wanted, note=f"it may not be seen: DESCRIBE is not granted to {who(settings)}"
    )


def create(question: Question, settings: Settings, name: str, config: Mapping[str, str]) -> bool:
    """Create a topic; False: it exists already.

    Raises:
        BrokerError: Kafka refuses.
    """
    new = NewTopic(name, settings.partitions, settings.replication_factor or -1, config=dict(config))
    with question.about(f"CREATE topic {name} (or to DESCRIBE it, where it is there already)"):
        try:
            answer(question.client.create_topics([new])[name])
        except KafkaException as error:
            if kafka_error(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            return False
    return True


def ensure_topic(settings: Settings, name: str) -> bool:
    """Create one topic of another name with the settings of ours; False: it exists already.

    Raises:
        BrokerError: no broker answers, or it refuses.
    """
    with asking(settings) as question:
        return create(question, settings, name, LARGE)


def alter(settings: Settings, topics: Iterable[TopicPlan]) -> None:
    """Carry out a plan: create topics, change settings, add partitions.

    Raises:
        BrokerError: no broker answers, or it refuses; the changes before that are made.
    """
    with asking(settings) as question:
        for topic in topics:
            if topic.missing:
                create(question, settings, topic.name, topic.wanted)
            if topic.differs:
                with question.about(f"ALTER_CONFIGS topic {topic.name}"):
                    answer(_altered(question, topic))
            if topic.more:
                with question.about(f"ALTER topic {topic.name}"):
                    more = NewPartitions(topic.name, topic.more)
                    answer(question.client.create_partitions([more])[topic.name])


def _altered(question: Question, topic: TopicPlan) -> Any:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, (_, value) in topic.differs.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
    return question.client.incremental_alter_configs([resource])[resource]
