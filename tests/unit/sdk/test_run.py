"""How a run begins and ends, and where its lines go."""

import json
import subprocess
import sys

import pytest
import stepstream


def _run_script(home, script, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "STEPSTREAM_HOME": str(home.path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_line_says_when_and_which_run(home, run):
    """A line can be read alone: it carries its time and its run."""
    run.step(reward=1.0)
    run.log({"loss": 1.0})
    run.episode(episode_return=1.0)
    run.finish()
    assert len(home.lines()) == 5
    assert all(line["run_id"] == "r" and line["ts"].endswith("+00:00") for line in home.lines())


def test_a_run_says_what_is_known_of_it(home):
    """run_started carries project, name and config; run_completed the status."""
    with stepstream.init(project="p", name="n", config={"lr": 0.1}, env_id="CartPole-v1"):
        pass
    started, ended = home.lines()
    assert (started["project"], started["name"], started["env_id"]) == ("p", "n", "CartPole-v1")
    assert started["config"] == {"lr": 0.1}
    assert (ended["type"], ended["status"]) == ("run_completed", "completed")


def test_a_finished_stream_is_marked_done(home, run):
    """An ended stream is marked, so that its forwarder expects no more lines."""
    run.finish()
    (folder,) = home.path.glob("spool/*")
    assert (folder / "done").exists()
    facts = json.loads((folder / "stream.json").read_text())
    assert (facts["version"], facts["kind"], facts["writer"], facts["run_id"]) == (1, "worker", "sdk", "r")
    assert facts["stream_id"] == folder.name


def test_under_run_the_stream_is_named_after_its_parent(home, monkeypatch):
    """`stepstream run` finds the streams of its worker by their name."""
    monkeypatch.setenv("STEPSTREAM_PARENT_STREAM", "01PARENT")
    monkeypatch.setenv("STEPSTREAM_RUN_ID", "given")
    monkeypatch.setenv("STEPSTREAM_AGENT_ID", "hero")
    stepstream.init().finish()
    ((stream_id, lines),) = home.streams().items()
    assert stream_id.startswith("01PARENT.")
    assert {line["run_id"] for line in lines} == {"given"}
    assert {line["agent_id"] for line in lines} == {"hero"}


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("", "completed"),
        ("raise ValueError('boom')", "failed"),
        ("raise KeyboardInterrupt", "cancelled"),
        ("import sys; sys.exit(3)", "failed"),
        ("import sys; sys.exit(0)", "completed"),
    ],
)
def test_a_program_that_ends_ends_its_run(home, ending, status):
    """A run without `finish` ends with its program, and its status says how the program ended."""
    _run_script(home, f"import stepstream\nstepstream.init().step(reward=1)\n{ending}")
    assert [line["type"] for line in home.lines()] == ["run_started", "step", "run_completed"]
    assert home.lines()[-1]["status"] == status


class _UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize("kind", ["with block", "uncaught", "in a with block, uncaught"])
@pytest.mark.parametrize(
    ("raises", "status", "error"),
    [
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("raise ValueError", "failed", "ValueError"),
        ("raise KeyError('π')", "failed", "KeyError: 'π'"),
        ("raise KeyboardInterrupt", "cancelled", "KeyboardInterrupt"),
        ("sys.exit(3)", "failed", "SystemExit: 3"),
        ("sys.exit(0)", "completed", None),
        ("pass", "completed", None),
    ],
)
def test_a_runs_end_says_what_ended_it(home, kind, raises, status, error):
    """A failed run has the exception's class and message, wherever it was caught; a good one has none."""
    begin = "run = stepstream.init()" if kind == "uncaught" else "with stepstream.init() as run:"
    body = raises if kind == "uncaught" else f"  {raises}"
    script = f"import stepstream, sys\n{begin}\n{body}"
    if kind == "with block":
        script = "\n".join(
            ["import stepstream, sys", "try:", f" {begin}", f" {body}", "except BaseException: pass"]
        )
    done = _run_script(home, script, PYTHONIOENCODING="utf-8")
    ended = home.lines()[-1]
    assert (ended["type"], ended["status"], ended.get("error")) == ("run_completed", status, error), (
        done.stderr
    )


def test_an_exception_that_cannot_be_said_is_named(home):
    """An exception whose `__str__` raises is named by its class, and its run ends."""
    with pytest.raises(_UnspeakableError), stepstream.init():
        raise _UnspeakableError
    assert home.lines()[-1]["error"] == "_UnspeakableError"


def test_init_says_where_the_page_is(home, capsys):
    """init prints the page's address while `up` holds the home, but not below `run` or when disabled."""
    import fcntl

    (home.path / "stack.json").write_text(json.dumps({"dashboard_url": "http://127.0.0.1:8050"}))
    (home.path / "stack.lock").touch()
    stepstream.init(run_id="a b/1").finish()
    assert capsys.readouterr().err == ""
    with (home.path / "stack.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stepstream.init(run_id="a b/1", name="n").finish()
        assert capsys.readouterr().err == "stepstream: run n: http://127.0.0.1:8050/runs/a%20b%2F1\n"
        stepstream.init(mode="disabled").finish()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STEPSTREAM_PARENT_STREAM", "s")
            stepstream.init().finish()
        (home.path / "stack.json").write_text("no json")
        stepstream.init().finish()
        assert capsys.readouterr().err == ""


def test_what_is_older_than_the_interval_survives_a_kill(home):
    """After SIGKILL, earlier steps are on disk, and no end of the run was written."""
    script = (
        "import os, signal, time, stepstream\nrun = stepstream.init()\n"
        "for _ in range(100): run.step(reward=1)\n"
        "time.sleep(0.5)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert _run_script(home, script).returncode == -9
    assert len(home.lines("step")) == 100
    assert not home.lines("run_completed")


def test_the_module_speaks_of_the_newest_run(home):
    """stepstream.log, step, episode and finish need no run object."""
    stepstream.init(run_id="a")
    stepstream.step(reward=1.0)
    stepstream.log({"loss": 1.0})
    stepstream.episode(episode_return=1.0)
    stepstream.finish()
    assert [line["type"] for line in home.lines()] == [
        "run_started",
        "step",
        "metrics",
        "episode",
        "run_completed",
    ]


def test_a_signals_handler_may_log(home):
    """A signal handler may log and finish the run, also in the middle of a call or a flush."""
    script = (
        "import os, signal, stepstream\n"
        "run = stepstream.init(run_id='r')\n"
        "counted = [0]\n"
        "def handler(*_):\n"
        "    run.step(reward=1, agent_id='handler'); run.flush(); counted[0] += 1\n"
        "signal.signal(signal.SIGALRM, handler)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "for number in range(30_000): run.step(reward=1)\n"
        "signal.signal(signal.SIGALRM, lambda *_: run.finish())\n"
        "for number in range(100_000): run.finished or number\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "run.finish(); print(counted[0])"
    )
    done = _run_script(home, script)
    assert done.returncode == 0, done.stderr
    steps = home.lines("step")
    assert len([line for line in steps if line.get("agent_id") == "handler"]) == int(done.stdout) > 0
    assert [line["step_index"] for line in steps if "agent_id" not in line] == list(range(30_000))
    assert len(home.lines("run_completed")) == 1


def test_a_run_names_the_commit_of_its_code(home, tmp_path, monkeypatch):
    """A run names git's commit, also from a subfolder, from a second work tree and with packed branches."""
    from stepstream._facts import git_commit

    def git(*arguments, folder=tmp_path / "code"):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    below = tmp_path / "code" / "below"
    below.mkdir(parents=True)
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    commit = git("rev-parse", "HEAD")
    monkeypatch.chdir(below)
    assert git_commit() == commit
    git("pack-refs", "--all")
    assert git_commit() == commit
    git("worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    monkeypatch.chdir(tmp_path / "tree")
    assert git_commit() == commit
    stepstream.init().finish()
    assert home.lines("run_started")[0]["git_commit"] == commit
    monkeypatch.chdir("/")
    assert git_commit() is None
