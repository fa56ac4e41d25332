"""verifiers' own environment, harness and interception server play tasks against a small model server.

The model is a server of ours that speaks OpenAI's protocol; all else is verifiers'. Its NumPy is newer than
that of the other libraries, so it has an environment of its own (`make test-integrations`).
"""

import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

vf = pytest.importorskip("verifiers.v1", reason="verifiers is not installed; make test-integrations has it")

PLUGIN = '''
import asyncio, json, urllib.request
import verifiers.v1 as vf

__all__ = ["Sums", "TwoTurns"]


class SumData(vf.TaskData):
    answer: str = ""


class Sum(vf.Task):
    @vf.reward(weight=0.5)
    async def correct(self, trace) -> float:
        return float(self.data.answer in trace.last_reply)

    @vf.metric
    async def letters(self, trace) -> float:
        return float(len(trace.last_reply))


class Sums(vf.Taskset[Sum]):
    def load(self):
        for a in (2, 3, 5):
            yield Sum(SumData(prompt=f"{a}+{a}?", answer=str(2 * a)), self.config.task)


class TwoTurns(vf.Harness[vf.HarnessConfig]):
    """Asks, and asks back; one that is told to break does so after its first turn."""

    EXECUTES_CODE = NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data, tool_interception_url=None):
        said = [{"role": "user", "content": data.prompt}]
        for more in ("sure?", None):
            answer = await asyncio.to_thread(ask, endpoint, secret, ctx.model, said)
            if data.prompt.startswith("5") and more:
                return vf.ProgramResult(exit_code=3, stdout="", stderr="broken")
            said += [answer] + ([{"role": "user", "content": more}] if more else [])
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


def ask(endpoint, secret, model, messages):
    body = json.dumps({"model": model, "messages": messages}).encode()
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{endpoint}/chat/completions", body, headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]
'''


class Model(BaseHTTPRequestHandler):
    """A model server that answers a sum, and confirms its answer when it is asked again."""

    def do_POST(self):
        """Answer with one completion."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        number = int(asked[0]["content"].partition("+")[0])
        text = f"It is {2 * number}." if len(asked) == 1 else f"Yes, {2 * number}."
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps({**answer, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Write nothing to stderr."""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment of three sums, and the context in which its agent asks the model."""
    from verifiers.v1.utils.loaders import load_environment

    (tmp_path / "stepstream_sums.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MODEL_KEY", "k")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = vf.EvalClientConfig(
        base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key_var="MODEL_KEY"
    )
    agent = {"runtime": {"type": "subprocess"}}
    told = {"taskset": {"id": "stepstream_sums"}, "agent": agent}
    config = vf.SingleAgentEnvConfig.model_validate(told)
    yield load_environment(config), vf.ModelContext(model="m", client=client)
    server.shutdown()
    server.server_close()
    sys.modules.pop("stepstream_sums", None)


async def _play(env, ctx, episodes, **hooks):
    async def done(episode):
        episodes.append(episode)

    async with env.serving():
        slots = [slot for task in env.taskset for slot in env.slots(task, 2)]
        await asyncio.gather(*(env.run_slot(slot, ctx, on_complete=done, **hooks) for slot in slots))


def test_each_turn_is_logged_when_it_is_made(home, run, environment):
    """Turns of parallel rollouts are logged as they come; rewards, metrics, group and counts follow."""
    from stepstream.integrations.verifiers import stream

    env, ctx = environment
    episodes, live = [], []

    def on_trace(trace):
        """Note what is logged of a trace while it runs."""

        def changed(trace):
            run.flush()
            live.append((trace.id, trace.num_turns, len(home.lines("step")), trace.is_completed))

        trace.watch(changed)

    asyncio.run(_play(stream(env, run), ctx, episodes, on_trace=on_trace))
    run.finish()
    assert len(episodes) == 6
    assert any(turns and not done for _, turns, _, done in live)
    assert all(steps for _, turns, steps, done in live if turns > 1 and not done)
    traces = {trace.id: trace for episode in episodes for trace in episode.traces}
    found = {line["rollout"]["sample_id"]: line for line in home.lines("episode")}
    assert found.keys() == traces.keys()
    steps = home.lines("step")
    for sample, line in found.items():
        trace, rollout = traces[sample], line["rollout"]
        mine = [one for one in steps if one["episode_index"] == line["episode_index"]]
        assert [one["step_index"] for one in mine] == list(range(trace.num_turns))
        assert [one["action"] for one in mine] == [one.content for one in trace.assistant_messages]
        assert [one["content"] for one in rollout["messages"]] == [n.message.content for n in trace.nodes]
        assert line["agent_id"] == "agent"
        assert rollout["group_id"] == trace.task.hash
        if trace.ok:
            assert [one["observation"] for one in mine][1:] == ["user: sure?"]
            assert (rollout["status"], line["episode_return"]) == ("ok", 0.5)
            assert rollout["rewards"] == {"correct": {"value": 1.0, "weight": 0.5}}
            assert (rollout["input_tokens"], rollout["output_tokens"]) == (
                trace.num_input_tokens,
                trace.num_output_tokens,
            )
            assert line.get("metrics", line)["letters"] == len(trace.last_reply)
            assert rollout["final_text"] == trace.last_reply
        else:
            assert rollout["status"] == "failed"
            assert "episode_return" not in line
            assert rollout["rewards"] == {}
    assert [line["rollout"]["status"] for line in home.lines("episode")].count("failed") == 2


def test_what_the_run_stamps_is_its_place(home, run, environment):
    """A rollout has the step, policy versions, group and advantage that are set when its episode ends."""
    from stepstream.integrations.verifiers import stream

    env, ctx = environment

    async def done(episode):
        work = vf.TrainWorkInfo(step=7, policy=vf.PolicySpan(start=5, end=6))
        episode.record_run(vf.TrainRunInfo(id="r", work=work))
        episode.group = vf.GroupInfo(id="g1")
        for trace in episode.traces:
            trace.info["advantage"] = 0.25

    async def play():
        async with stream(env, run).serving():
            (slot,) = env.slots(next(iter(env.taskset)))
            await env.run_slot(slot, ctx, on_complete=done)

    asyncio.run(play())
    run.finish()
    (line,) = home.lines("episode")
    told = line["rollout"]
    assert (told["training_step"], told["split"], told["group_id"]) == (7, "train", "g1")
    assert (told["policy_start"], told["policy_end"], told["advantage"]) == ("5", "6", 0.25)


def test_an_attempt_that_is_given_up_is_failed(home, run, environment):
    """A retried agent has one rollout for each attempt, and only the last one counts as the episode's."""
    from stepstream.integrations.verifiers import stream

    env, ctx = environment
    env._agent_specs["agent"].retries.max_retries = 1
    episodes = []

    async def play():
        async def done(episode):
            episodes.append(episode)

        async with stream(env, run).serving():
            (slot,) = env.slots(list(env.taskset)[2])
            await env.run_slot(slot, ctx, on_complete=done)

    asyncio.run(play())
    run.finish()
    (trace,) = episodes[0].traces
    found = {line["rollout"]["sample_id"]: line["rollout"]["status"] for line in home.lines("episode")}
    assert len(found) == 2
    assert found[trace.id] == "failed"
    assert set(found.values()) == {"failed"}
