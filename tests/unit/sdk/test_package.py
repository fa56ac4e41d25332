"""What the distribution promises: only the standard library, old Pythons, a quick import, one home."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
from stepstream import _plan, _settings, tensorboard

from infra import settings as server
from producers.lines import dialects

PACKAGE = Path(_settings.__file__).parent
CORE = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "integrations")
ALL = sorted(PACKAGE.rglob("*.py"))
NEWER = {"match_case", "Match", "TryStar", "TypeAlias"}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_python_3_9_reads_it(path):
    """Python 3.9 parses every file; unions of types stand only in annotations, which are not evaluated."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    assert not {type(node).__name__ for node in ast.walk(tree)} & NEWER
    assert "from __future__ import annotations" in path.read_text() or path.name == "__init__.py"
    assert not re.search(r"isinstance\([^)]*\|", path.read_text())
    assert "strict=" not in path.read_text()


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_needs_only_the_standard_library(path):
    """The core imports the standard library and itself, neither numpy nor torch."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            assert name.partition(".")[0] in {*sys.stdlib_module_names, "stepstream"}


def test_an_import_brings_little_along():
    """Importing the package loads few modules; the first init imports the rest."""
    script = "import sys; before = set(sys.modules); import stepstream; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True,
                          env={"PYTHONPATH": ""}, cwd=PACKAGE.parent)  # fmt: skip
    if done.returncode:  # -S hides an editable install: look beside us
        script = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); " + script
        done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert "stepstream._api" in done.stdout
    assert not {"json", "threading", "typing", "tempfile", "socket"} & set(done.stdout.split())


def test_both_sides_look_in_the_same_folder(monkeypatch, tmp_path):
    """The SDK's home is the server's, with and without XDG_DATA_HOME and STEPSTREAM_HOME."""
    for name in ("STEPSTREAM_HOME", "STEPSTREAM_SPOOL_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert _settings.default_home() == platformdirs.user_data_dir("stepstream")
    assert _settings.Settings().spool_dir == str(server.load().spool_dir)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert _settings.default_home() == platformdirs.user_data_dir("stepstream")
    monkeypatch.setenv("STEPSTREAM_HOME", str(tmp_path / "home"))
    assert _settings.Settings().spool_dir == str(server.load().spool_dir)


def test_settings_that_are_no_numbers_are_the_defaults(monkeypatch):
    """A setting that is no number takes its default, so that a typing error ends no training."""
    monkeypatch.setenv("STEPSTREAM_FLUSH_INTERVAL", "soon")
    monkeypatch.setenv("STEPSTREAM_FRAMES_PER_SECOND", "-1")
    settings = _settings.Settings()
    assert (settings.flush_interval, settings.frames_per_second) == (0.02, 10.0)


def test_every_name_that_the_reader_knows_is_reserved():
    """Every name that the reader takes for a field is reserved and cannot be a metric's."""
    known = {
        *dialects.EPISODE_NUMBER,
        *dialects.STEP_NUMBER,
        *dialects.RETURN,
        *dialects.LENGTH,
        *dialects.KIND_NAMES,
    }
    assert known <= _plan.RESERVED


def test_the_package_is_documented():
    """Every setting and every module of integrations has its line in docs."""
    docs = PACKAGE.parents[1] / "docs"
    page = (docs / "sdk.md").read_text()
    for name in re.findall(r'"(STEPSTREAM_\w+)"', (PACKAGE / "_settings.py").read_text()):
        assert name in page or name == "STEPSTREAM_PARENT_STREAM"
    pages = "".join(path.read_text() for path in docs.glob("integrations/*.md"))
    for module in (PACKAGE / "integrations").glob("[!_]*.py"):
        assert f"stepstream.integrations.{module.stem}" in pages
    assert tensorboard.__name__ in pages
