"""log_rollout: from several threads, with everything it takes, and with what it cannot take."""

import threading

import pytest
import stepstream
from stepstream.rollouts import log_rollout


def test_it_is_of_the_package_too(home, run):
    """`stepstream.log_rollout`, as messages of `watch` name it, is the same function."""
    assert stepstream.log_rollout is log_rollout


def test_a_rollout_of_megabytes_is_whole(home, run):
    """A transcript of 2 MB with 100,000 tokens is neither cut nor summarised."""
    numpy = pytest.importorskip("numpy")
    text = "\u2028<b>&\x1b[31m" * 200_000
    tokens = {"token_ids": numpy.arange(100_000), "logprobs": [-0.5] * 100_000}
    log_rollout("?", text, rewards=1.0, tokens=tokens, run=run)
    run.finish()
    (line,) = home.lines("episode")
    assert line["rollout"]["messages"][1]["content"] == line["rollout"]["final_text"] == text
    assert line["rollout"]["tokens"]["token_ids"] == list(range(100_000))
    assert len(line["rollout"]["tokens"]["logprobs"]) == 100_000
    assert [one["action"] for one in home.lines("step")] == [text]


def test_a_function_that_did_not_score_is_absent(home, run):
    """None and NaN are no reward; where nothing scored, there is no total."""
    rewards = {"right": None, "form": float("nan"), "short": 0.5}
    log_rollout("?", "!", rewards=rewards, weights={"short": 0.5}, run=run)
    log_rollout("?", "!", rewards={"right": None}, run=run)
    run.finish()
    first, second = home.lines("episode")
    assert first["rollout"]["rewards"] == {"short": {"value": 0.5, "weight": 0.5}}
    assert first["episode_return"] == 0.25
    assert second["rollout"]["rewards"] == {}


def test_tools_and_parts_are_text(home, run):
    """A step's text holds tool calls and the texts of a message's parts; the messages are kept whole."""
    calls = [{"id": "1", "function": {"name": "add", "arguments": '{"a": 2}'}}]
    asked = [{"role": "user", "content": [{"type": "text", "text": "2+2?"}, {"type": "image_url"}]}]
    answer = [
        {"content": None, "tool_calls": calls},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "4."},
    ]
    log_rollout(asked, answer, run=run)
    run.finish()
    first, second = home.lines("step")
    assert first["observation"] == "user: 2+2?[image_url]"
    assert '"name": "add"' in first["action"]
    assert (second["observation"], second["action"]) == ("tool: 4", "4.")
    (line,) = home.lines("episode")
    told = line["rollout"]
    assert told["messages"] == [*asked, {"role": "assistant", **answer[0]}, *answer[1:]]
    assert told["final_text"] == "4."


def test_how_it_ended(home, run):
    """Status ok terminates, truncated truncates; failed and aborted do neither, on step and episode."""
    for status in ("ok", "truncated", "failed", "aborted"):
        log_rollout("?", "!", rewards=1.0, status=status, run=run)
    run.finish()
    ends = [(True, False), (False, True), (False, False), (False, False)]
    for lines in (home.lines("step"), home.lines("episode")):
        assert [(one["terminated"], one["truncated"]) for one in lines] == ends


def test_threads_side_by_side(home, run):
    """Rollouts logged by several threads keep their steps and episode together."""

    def work(number):
        for _ in range(100):
            log_rollout(
                f"{number}", [{"content": f"{number}"}, {"content": f"{number}"}], sample=number, run=run
            )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    lines = home.lines("step", "episode")
    assert len(lines) == 1200
    for first, second, episode in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert [first["type"], second["type"], episode["type"]] == ["step", "step", "episode"]
        assert first["action"] == second["action"] == episode["rollout"]["sample_id"]
        assert first["episode_index"] == second["episode_index"] == episode["episode_index"]


@pytest.mark.parametrize(
    "wrong", [{"prompt": None}, {"completion": 3}, {"rewards": {"a": "x"}, "weights": {"a": []}}]
)
def test_what_it_cannot_take_is_counted(home, run, wrong):
    """A rollout that cannot be logged raises nothing: it gives one warning and is counted."""
    with pytest.warns(UserWarning, match="a rollout could not be logged and was left out"):
        log_rollout(**{"prompt": "?", "completion": "!", "run": run, **wrong})
    log_rollout("?", "fine", run=run)
    run.finish()
    assert home.lines("step")[-1]["action"] == "fine"
    assert home.lines("metrics")[-1]["stepstream/dropped"] == 1
