"""Workers that are forked or spawned log to streams of their own, of the same run."""

import multiprocessing
import os

import pytest
import stepstream


def _log(run, agent, steps):
    for _ in range(steps):
        run.step(reward=1.0, agent_id=agent)


def _log_by_module(agent):
    stepstream.step(reward=1.0, agent_id=agent)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_has_a_stream_of_its_own(home, run, method):
    """Each worker process writes its own stream without loss; only the process that began the run ends it."""
    context = multiprocessing.get_context(method)
    run.step(reward=1.0, agent_id="parent")
    workers = [context.Process(target=_log, args=(run, f"w{number}", 50)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    run.step(reward=1.0, agent_id="parent")
    run.finish()
    by_agent = {}
    for stream, lines in home.streams().items():
        for line in lines:
            assert line["run_id"] == "r"
            if line["type"] == "step":
                by_agent.setdefault(line["agent_id"], []).append((stream, line["step_index"]))
    assert {agent: len(steps) for agent, steps in by_agent.items()} == {"parent": 2, "w0": 50, "w1": 50}
    assert len({steps[0][0] for steps in by_agent.values()}) == 3
    assert [step for _, step in by_agent["w0"]] == list(range(50))
    assert [line["type"] for line in home.lines("run_started", "run_completed")] == [
        "run_started",
        "run_completed",
    ]


def test_a_worker_is_named_in_its_lines(home, run):
    """Each line names its worker process, so that the dashboard tells a run's workers apart."""
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=_log, args=(run, "a", 1), name="sampler")
    worker.start()
    worker.join()
    run.finish()
    (step,) = home.lines("step")
    assert step["worker_id"] == f"sampler-{worker.pid}"


def test_a_fork_that_leaves_at_once_takes_nothing_along(home, run):
    """A child that calls os._exit writes nothing: the parent writes its waiting lines once."""
    for _ in range(100):
        run.step(reward=1.0)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    run.finish()
    assert len(home.lines("step")) == 100


def test_a_fork_lets_go_of_the_parents_lock(home, run):
    """A child does not hold the parent's lock, so that an ended parent is seen as ended."""
    import fcntl

    run.step(reward=1.0)
    run.flush()
    (lock,) = home.path.glob("spool/*/writer.lock")
    ready, leave = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(leave[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    with lock.open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        run.finish()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(leave[1], b"x")
    os.waitpid(child, 0)


def test_the_module_functions_work_in_a_spawned_worker(home, run):
    """stepstream.step in a worker that knows no run object belongs to the run of its parent."""
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_log_by_module, args=("w",))
    worker.start()
    worker.join()
    run.finish()
    assert {line["run_id"] for line in home.lines()} == {"r"}
    assert len(home.lines("run_started")) == 1
