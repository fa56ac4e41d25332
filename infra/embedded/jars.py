"""Apache Kafka's jars: a pinned list, fetched once, checked every time.

`jars.json` names each by Maven coordinates, SHA-256 and size. jgo only downloads: it checks nothing
and would return a truncated file for ever. So each jar is downloaded to a temporary folder, checked, and
moved into the cache in one step.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from infra.embedded.room import sweep
from schemas.errors import StepstreamError, UsageError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

THREADS = 8
TEMPORARY = ".fetch-"
Progress = Callable[[int, int], None]
"""Called with the bytes that arrived and the bytes of the whole download, from several threads."""


@dataclass(frozen=True)
class Jar:
    """One file of the pinned list."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """Its name in the cache, as in an Apache Kafka distribution."""
        return f"{self.artifact}-{self.version}.jar"

    def is_whole(self, path: Path) -> bool:
        """Whether the file exists and has the pinned content."""
        try:
            if path.stat().st_size != self.size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def pinned() -> list[Jar]:
    """The list that this version of stepstream was tested with."""
    text = files("infra.embedded").joinpath("jars.json").read_text(encoding="utf-8")
    return [Jar(**row) for row in json.loads(text)]


def default_folder() -> Path:
    """The user's cache folder: shared by all homes, and safe to delete."""
    return platformdirs.user_cache_path("stepstream") / "jars"


def given(folder: Path) -> list[Path]:
    """The jars of a folder that the user named: a distribution's `libs/`, or a copied cache.

    Raises:
        UsageError: it holds no Kafka.
    """
    jars = sorted(folder.absolute().glob("*.jar"))
    if not any(jar.name.startswith("kafka_2.13-") for jar in jars):
        raise UsageError(
            f"STEPSTREAM_JARS_DIR is {folder}, and there is no kafka_2.13-*.jar in it: "
            "name the libs folder of an unpacked Apache Kafka, or unset it to fetch the jars."
        )
    return jars


def missing(folder: Path) -> list[Jar]:
    """The pinned jars that the folder lacks, or holds damaged."""
    with ThreadPoolExecutor(THREADS) as pool:
        jars = pinned()
        whole = pool.map(lambda jar: jar.is_whole(folder / jar.filename), jars)
        return [jar for jar, good in zip(jars, whole, strict=True) if not good]


def fetch(
    folder: Path, jars: list[Jar], progress: Progress = lambda _new, _total: None, mirror: str = ""
) -> None:
    """Download jars into the folder. A failure leaves the other jars, and no incomplete file.

    Args:
        mirror: URL of a Maven repository; empty: Maven Central.

    Raises:
        StepstreamError: no network, no room, or a file that is not the pinned one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, TEMPORARY, older_than=3600)  # a running download is younger
        total = sum(jar.size for jar in jars)
        # On the same file system as the cache, so that the last step is one rename.
        made = tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY)
        with made as name, ThreadPoolExecutor(THREADS) as pool:
            context = _context(Path(name), mirror, lambda new: progress(new, total))
            list(pool.map(lambda jar: _fetch_one(jar, context, folder), jars))
    except (OSError, RuntimeError) as error:
        raise _explained(error, folder, mirror or "Maven Central") from error


def class_path(named: Path, progress: Progress = lambda _new, _total: None, mirror: str = "") -> list[Path]:
    """All of Kafka's jars: from the folder that the user named, else from the cache; downloads missing ones.

    Raises:
        StepstreamError: they are not available; the sentence says what else works.
    """
    if named != Path():
        return given(named)
    folder = default_folder()
    if lacking := missing(folder):
        fetch(folder, lacking, progress, mirror)
    return [folder / jar.filename for jar in pinned()]


def _context(temporary: Path, mirror: str, progress: Callable[[int], None]) -> MavenContext:
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - 0.4 s, needed once

    @contextmanager
    def follow(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield progress

    resolver = PythonResolver(progress_callback=follow)
    repositories = {"mirror": mirror.rstrip("/")} if mirror else None
    return MavenContext(repo_cache=temporary, resolver=resolver, remote_repos=repositories)


def _fetch_one(jar: Jar, context: MavenContext, folder: Path) -> None:
    path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    if not jar.is_whole(path):
        raise StepstreamError(
            f"{jar.filename} arrived damaged (size or SHA-256 differ): try again; where it stays so, a proxy "
            "alters downloads: set STEPSTREAM_JARS_DIR to a folder of jars."
        )
    os.replace(path, folder / jar.filename)


def _explained(error: Exception, folder: Path, source: str) -> StepstreamError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StepstreamError(
            f"The disk is full: {folder} needs 45 MB for Kafka's jars. Free some, then try again."
        )
    if isinstance(error, PermissionError):
        return StepstreamError(f"{folder} cannot be written ({error.strerror}): Kafka's jars go there.")
    return StepstreamError(
        f"Kafka's jars (45 MB, once) could not be fetched from {source} ({_reason(error)}). Connect and try "
        "again, or set STEPSTREAM_BOOTSTRAP_SERVERS to a Kafka that runs, or STEPSTREAM_JARS_DIR to a "
        f"folder of jars (an unpacked Apache Kafka's libs, or another machine's {folder})."
    )


def _reason(error: BaseException) -> str:
    """The innermost cause: requests wraps it in a message of five lines."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
