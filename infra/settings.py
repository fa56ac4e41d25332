"""Settings: one typed table, read from the environment, a file, a running `up`, else the default.

The first of these that names a setting wins:

1. the environment: `STEPSTREAM_<NAME>`;
2. a TOML file: `STEPSTREAM_CONFIG`, else `stepstream.toml` in the working folder, else in the home folder;
3. `stack.json` in the home folder: the addresses of the embedded servers of a running `up`;
4. the default.

Any librdkafka property passes through: `STEPSTREAM_KAFKA_SASL_USERNAME` is `sasl.username` (a table
`[kafka]` in the file, keys as librdkafka writes them). `STEPSTREAM_TOPICS_STEPS_RETENTION_MS` is
`retention.ms` of the steps topic, `STEPSTREAM_TOPICS_ALL_…` of all (`[topics.steps]`, `[topics.all]`).

A setting's type gives its allowed values: a choice (`Literal`), or a range or pattern (`msgspec.Meta`), which
msgspec checks. pydantic-settings does not say where a value came from, and takes half a second to import.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import quote

import msgspec
import platformdirs
from msgspec import Meta
from stepstream._masking import MASK

from infra.lock import is_held
from schemas.errors import UsageError

PREFIX = "STEPSTREAM_"
STACK_FILE = "stack.json"
TABLES = ("kafka", "topics")
"""Tables of settings with Kafka's own names, which are passed through."""
STACK_LOCK = "stack.lock"
"""A running `up` holds an flock on this file; otherwise `stack.json` is ignored."""


OF_WORKERS = {
    *("CONFIG", "RUN_ID", "AGENT_ID", "PARENT_STREAM", "WORKER_OF", "FLUSH_INTERVAL", "MODE"),
    *("TEST_NO_SKIP", "BENCH_HOURS"),
}
"""Variables (without the prefix) that are no settings: the SDK and the tests read them."""

_UNSET = Path()

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Bytes = Annotated[int, Meta(ge=1, le=2**50)]
Amount = Annotated[float, Meta(ge=0, le=1e9)]
Seconds = Annotated[float, Meta(ge=0.05, le=1e9)]
Prefix = Annotated[
    str, Meta(pattern=r"^[a-zA-Z0-9._-]{0,150}$", description="at most 150 letters, digits, '.', '_' and '-'")
]
Registry = Annotated[str, Meta(pattern="^(https?://.+)?$", description="an http:// or https:// URL")]
Redis = Annotated[
    str, Meta(pattern="^((rediss?|unix)://.+)?$", description="a redis://, rediss:// or unix:// URL")
]


def _setting(default: Any, help: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """Every setting. `stepstream config` prints each with its source."""

    home: Path = _setting(_UNSET, "Folder for data: spools, the embedded servers, SQLite.")
    # Addresses
    bootstrap_servers: str = _setting(
        "", "Kafka's address, host:port,… Empty: the embedded one that `up` starts."
    )
    topic_prefix: Prefix = _setting("telemetry.", "Begins every topic's name.")
    partitions: Annotated[int, Meta(ge=1, le=100_000)] = _setting(
        4, "Partitions of a topic made by `topics create`."
    )
    replication_factor: Annotated[int, Meta(ge=-1, le=1000)] = _setting(
        -1, "Replicas of a topic made by `topics create`; -1 or 0: the broker's default."
    )
    schema_registry_url: Registry = _setting(
        "", "A Confluent-compatible registry. Empty: checked-in schema ids."
    )
    schema_registry_user: str = _setting("", "User for the registry's basic auth.")
    schema_registry_password: str = _setting("", "Password for the registry's basic auth.", secret=True)
    schema_registry_ca: str = _setting("", "File of certificate authorities for the registry's TLS.")
    schema_registry_certificate: str = _setting(
        "", "File of our certificate, where the registry asks for one."
    )
    schema_registry_key: str = _setting("", "File of that certificate's private key.")
    schema_registry_auto_register: bool = _setting(True, "Register schemas; off: only look them up.")
    database_url: str = _setting(
        "", "SQLAlchemy URL, such as postgresql://user@host/db. Empty: SQLite in home.", secret=True
    )
    redis_url: Redis = _setting("", "redis:// or rediss:// URL. Empty: the embedded Valkey.", secret=True)
    redis_prefix: str = _setting("stepstream:", "Begins every Redis key.")
    redis_cluster: bool = _setting(
        False, "The URL is that of a Redis Cluster's node; the prefix then has a hash tag, as {stepstream}:."
    )
    # Producing
    spool_dir: Path = _setting(_UNSET, "Folder of spools. Default: `spool` in home.")
    spool_segment_bytes: Bytes = _setting(64 * 1024 * 1024, "A spool's segment is closed at this size.")
    spool_max_bytes: Annotated[int, Meta(ge=0, le=2**50)] = _setting(
        0, "A spool may hold this much that Kafka has not acknowledged; 0: the disk's limit."
    )
    spool_retention_hours: Amount = _setting(
        24.0, "Acknowledged segments are kept this long, while the disk has room for one more."
    )
    spool_fsync: Literal["always", "interval", "never"] = _setting(
        "interval", "always, interval (once a second) or never: when spools go to the disk's platter."
    )
    spool_full: Literal["pause", "drop"] = _setting(
        "pause", "pause: a full disk makes the worker wait; drop: lines are dropped and counted."
    )
    max_line_bytes: Bytes = _setting(64 * 1024 * 1024, "A longer line is a dead letter.")
    window_lines: Annotated[int, Meta(ge=1, le=1_000_000)] = _setting(
        5000, "Lines that are sent before the next acknowledgement is awaited."
    )
    frames_per_second: Annotated[float, Meta(ge=0, le=1000)] = _setting(
        10.0, "Pictures sent at most, per agent and second; the rest is counted."
    )
    frame_format: Literal["webp", "png"] = _setting("webp", "webp or png.")
    heartbeat_seconds: Seconds = _setting(2.0, "A running stream says so this often.")
    # Consuming
    group_prefix: str = _setting("stepstream.", "Begins every consumer group's name.")
    group_protocol: Literal["consumer", "classic"] = _setting(
        "classic",
        "classic (cooperative; a persist that is killed goes on at once) or consumer (KIP-848; after 45 s).",
    )
    batch_records: Annotated[int, Meta(ge=1, le=1_000_000)] = _setting(
        5000, "Records that persist writes in one transaction, at most."
    )
    lost_seconds: Seconds = _setting(30.0, "A run silent for longer is lost, until it is heard again.")
    retention_days: Amount = _setting(0.0, "Ended runs older than this are deleted from SQL; 0: never.")
    on_gap: Literal["stop", "continue"] = _setting(
        "stop", "stop or continue: when Kafka no longer holds what the database lacks."
    )
    live_buffer_steps: Count = _setting(5000, "Newest steps that Redis keeps per agent.")
    live_buffer_mb: Annotated[int, Meta(ge=1, le=2**30)] = _setting(
        128, "Memory in Redis that the steps of all agents share, in MiB."
    )
    live_max_lag_seconds: Seconds = _setting(
        10.0, "The live path further behind than this jumps to the newest."
    )
    # Dashboard
    dashboard_host: str = _setting("127.0.0.1", "Address the dashboard binds to.")
    dashboard_port: Annotated[int, Meta(ge=0, le=65535)] = _setting(
        8050, "Port of the dashboard; 0: a free one."
    )
    dashboard_token: str = _setting(
        "", "Login token; needed where the dashboard leaves loopback.", secret=True
    )
    dashboard_user_header: str = _setting(
        "", "Header in which a reverse proxy names the user; instead of a token."
    )
    dashboard_origins: str = _setting("", "Further origins that may open the dashboard, comma-separated.")
    dashboard_panels: str = _setting(
        "", "Panels of your own on the dashboard's pages: module:Class, comma-separated."
    )
    # Embedded servers
    jars_dir: Path = _setting(
        _UNSET, "Folder with Kafka's jars; default: fetched once into the user's cache folder."
    )
    maven_url: str = _setting("", "A mirror of Maven Central, from which Kafka's jars are fetched instead.")
    embedded_kafka_heap: str = _setting("512m", "Java heap of the embedded Kafka.")
    # Metrics
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = _setting(
        0, "Port of a service's /metrics, /livez and /readyz; 0: none."
    )
    metrics_host: str = _setting("127.0.0.1", "Address that they bind to.")
    # Secrets
    secret_words: str = _setting(
        "", "Further words, comma-separated, of options whose values are masked where a command is kept."
    )
    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "debug, info, warning or error."
    )
    log_format: Literal["auto", "console", "logfmt", "json"] = _setting(
        "auto", "console, logfmt, json or auto: console on a terminal, logfmt elsewhere."
    )

    topics: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "Kafka's settings of topics, such as steps.retention.ms or all.compression.type.",
            "secret": False,
        },
    )
    kafka: Mapping[str, str] = field(
        default_factory=dict, metadata={"help": "librdkafka properties.", "secret": False}
    )

    @property
    def sql_url(self) -> str:
        """The database's URL, with the default filled in."""
        if self.database_url:
            return self.database_url
        return f"sqlite:///{quote(str(self.home / 'stepstream.db'), safe=' +/')}"

    def group(self, service: str) -> str:
        """Name of a service's consumer group."""
        return f"{self.group_prefix}{service}"


@dataclass(frozen=True)
class Sourced:
    """A setting's value and where it came from: environment, file, stack, default."""

    value: Any
    source: str
    help: str
    secret: bool


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read every setting.

    Raises:
        UsageError: a value that is not of its setting's type or outside its range, an unknown name in the
            file, or a file that cannot be read.
    """
    return Settings(**{name: item.value for name, item in explain(environ).items()})


def explain(environ: Mapping[str, str] = os.environ) -> dict[str, Sourced]:
    """Every setting by name, with its source.

    Raises:
        UsageError: as `load`.
    """
    environ = _without_service_links(environ)
    home = (
        Path(environ.get(f"{PREFIX}HOME") or platformdirs.user_data_dir("stepstream")).expanduser().absolute()
    )
    if home.exists() and not home.is_dir():
        raise UsageError(f"STEPSTREAM_HOME is {home}, which is no folder: set it to one that you can write.")
    path, from_file = _read_file(environ, home)
    from_stack = running_stack(home)
    types = get_type_hints(Settings, include_extras=True)
    if unknown := [_with_nearest(name, types) for name in sorted(set(from_file) - set(types))]:
        raise UsageError(f"{path}: no setting is named {', '.join(unknown)}; `stepstream config` lists them.")
    out: dict[str, Sourced] = {}
    for item in fields(Settings):
        name, variable = item.name, PREFIX + item.name.upper()
        if name in TABLES:
            value, source = _properties(name, environ, from_file.get(name, {}))
        elif environ.get(variable):
            value, source = _typed(item, environ[variable], types[name], variable), "environment"
        elif name in from_file:
            value, source = _typed(item, from_file[name], types[name], f"{path}: {name}"), "file"
        elif name in from_stack:
            value, source = _typed(item, from_stack[name], types[name], STACK_FILE), "stack"
        else:
            value, source = _default(item), "default"
        out[name] = Sourced(value, source, item.metadata["help"], item.metadata["secret"])
    out["home"] = replace(out["home"], value=home)
    if out["spool_dir"].value == _UNSET:
        out["spool_dir"] = replace(out["spool_dir"], value=home / "spool")
    return out


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables with our prefix that are no setting: name → the name and the most similar setting.

    They are no error: other programs, such as Kubernetes, may set such variables, too.
    """
    known = {PREFIX + name.upper() for name in (*get_type_hints(Settings), *OF_WORKERS)}
    of_tables = tuple(f"{PREFIX}{table.upper()}_" for table in TABLES)
    environ = _without_service_links(environ)
    own = (name for name in environ if name.startswith(PREFIX) and environ[name])
    strange = sorted(name for name in own if name not in known and not name.startswith(of_tables))
    return {name: _with_nearest(name, known) for name in strange}


def _with_nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name} (did you mean {near[0]}?)" if near else name


def running_stack(home: Path) -> dict[str, Any]:
    """The addresses of the `up` that runs on this home; empty if none does."""
    try:
        if not is_held(home / STACK_LOCK):
            return {}
        stack: dict[str, Any] = json.loads((home / STACK_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return stack


def _default(item: Any) -> Any:
    return item.default if item.default is not MISSING else item.default_factory()


def _read_file(environ: Mapping[str, str], home: Path) -> tuple[Path, dict[str, Any]]:
    named = environ.get(f"{PREFIX}CONFIG")
    for path in [Path(named)] if named else [Path("stepstream.toml"), home / "stepstream.toml"]:
        try:
            return path, tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            if named:
                raise UsageError(f"{PREFIX}CONFIG names {named}, and there is no such file.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path} cannot be read as TOML: {error}") from None
    return Path(), {}


def _properties(
    table: str, environ: Mapping[str, str], from_file: Mapping[str, Any]
) -> tuple[dict[str, str], str]:
    """Settings with Kafka's own names: a table of the file (keys nested or dotted), then the environment."""
    properties = dict(_flat(from_file))
    marker = f"{PREFIX}{table.upper()}_"
    named = {
        name.removeprefix(marker).lower().replace("_", "."): v
        for name, v in environ.items()
        if name.startswith(marker)
    }
    source = "environment" if named else "file" if properties else "default"
    return properties | named, source


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, str(value)


def _without_service_links(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that Kubernetes adds for a Service named stepstream-NAME."""
    services = {name.removesuffix("_SERVICE_HOST") for name in environ if name.endswith("_SERVICE_HOST")}
    added = [
        re.compile(rf"{re.escape(name)}_(SERVICE_|PORT(_\d+_|$))")
        for name in services
        if name.startswith(PREFIX)
    ]
    return {name: value for name, value in environ.items() if not any(link.match(name) for link in added)}


def _typed(item: Any, value: Any, kind: Any, where: str) -> Any:
    """A value converted to its setting's type.

    Raises:
        UsageError: it is not of that type, or outside its range.
    """
    text = str(value).strip()
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    shown = MASK if item.metadata["secret"] else repr(text)
    if base is Path:
        return Path(text).expanduser()
    if get_origin(kind) is Literal:
        where, base = f"{where}: {item.name}" if where.startswith(PREFIX) else where, str
    try:
        plain = _BOOLEANS[text.lower()] if base is bool else base(text)
    except (KeyError, ValueError):
        raise UsageError(f"{where} must be {_WORDS[base]}, not {shown}.") from None
    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, OverflowError):
        raise UsageError(f"{where} must be {allowed(kind)}, not {shown}.") from None


_BOOLEANS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off"), False
)
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def allowed(kind: Any) -> str:
    """The allowed values of a type, as text for users."""
    if get_origin(kind) is Literal:
        return " or ".join(sorted(get_args(kind)))
    if get_origin(kind) is not Annotated:
        return _WORDS.get(kind, "a path")
    base, meta = get_args(kind)
    return meta.description or f"{_WORDS[base]} from {meta.ge:,} to {meta.le:,}"
