"""What each service must be allowed to do, and no more: Kafka's ACLs, PostgreSQL's GRANTs, Redis' commands.

`doctor` asks for these, the docs and the Helm chart print them, and a test runs each service with them alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.topics import LINES, Kind

READ, WRITE = frozenset({"READ"}), frozenset({"WRITE"})


@dataclass(frozen=True)
class Rights:
    """The rights of one service.

    Args:
        parts: what of the system it uses, by the names that `doctor` has for them.
        topics: Kafka's operations on topics; each implies DESCRIBE.
        group: the consumer group that it READs, without the prefix. Replay and dashboard join none, but Kafka
            requires the right.
        tables: PostgreSQL's privileges on every table.
        temporary: it makes temporary tables.
        redis: Redis' commands on its keys.
    """

    parts: tuple[str, ...]
    topics: Mapping[Kind, frozenset[str]] = field(default_factory=dict)
    group: str = ""
    tables: tuple[str, ...] = ()
    temporary: bool = False
    redis: tuple[str, ...] = ()


RIGHTS: Mapping[str, Rights] = {
    "worker": Rights(
        ("home", "kafka", "registry"),
        {kind: WRITE | {"DESCRIBE_CONFIGS"} for kind in Kind},
    ),
    "persist": Rights(
        ("kafka", "registry", "sql"),
        dict.fromkeys(Kind, READ) | {Kind.DLQ: READ | WRITE},
        group="persist",
        tables=("SELECT", "INSERT", "UPDATE", "DELETE"),
        temporary=True,
    ),
    "live": Rights(
        ("kafka", "registry", "redis"),
        dict.fromkeys([*LINES, Kind.FRAMES], READ),
        group="live",
        redis=(
            *(
                "info",
                "get",
                "set",
                "hget",
                "hset",
                "hgetall",
                "hsetnx",
                "hincrby",
                "hlen",
                "xadd",
                "xrevrange",
            ),
            *("zadd", "zremrangebyrank", "expire", "evalsha", "script"),
            *("xrange", "hkeys", "zrem", "del", "multi", "exec"),  # of runs that were deleted
        ),
    ),
    "dashboard": Rights(
        ("kafka", "sql", "redis", "dashboard"),
        {Kind.FRAMES: READ},
        group="replay",
        tables=("SELECT",),
        redis=("info", "get", "hget", "hgetall", "hlen", "xread", "xrevrange", "zrevrange"),
    ),
    "replay": Rights(
        ("kafka", "registry", "sql"), dict.fromkeys(Kind, READ), group="replay", tables=("SELECT",)
    ),
    "admin": Rights(
        ("kafka", "registry", "sql"),
        dict.fromkeys(Kind, frozenset({"CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER", "ALTER_CONFIGS"})),
        tables=("SELECT", "INSERT", "UPDATE", "DELETE"),
        redis=("hkeys", "zrem", "del", "multi", "exec", "xadd", "expire"),
    ),
}
"""Service → its rights. `worker`: `run`, `ingest`, `forward`; `admin`: `topics`, `db`, `runs delete`."""
