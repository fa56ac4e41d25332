"""The shape of a transcript, and text whose hidden signs are made visible."""

from __future__ import annotations

import json

import pytest
from dash.development.base_component import Component
from hypothesis import given
from hypothesis import strategies as st

from dashboard import chat
from dashboard.address import Address
from dashboard.panels import rollout_parts, rollouts, training
from dashboard.sql.rollouts import Key
from dashboard.visible import escaped, pieces, plain

HIDDEN = "\u202e\u2066\u200b\u200d\ufeff\x1b\x07\r\u2028\u00ad\U000e0041"


def texts(component: object) -> str:
    """All text below a component."""
    if isinstance(component, list | tuple):
        return "".join(map(texts, component))
    if isinstance(component, Component):
        return texts(getattr(component, "children", ""))
    return component if isinstance(component, str) else ""


def kinds(content: str, role: str = "assistant") -> list[tuple[str, str]]:
    """The parts of a message's content."""
    return [(part.kind, part.text) for part in chat.message({"role": role, "content": content}).parts]


def test_hidden_signs_are_shown_by_their_code() -> None:
    """Hidden signs (bidi, zero width, terminal codes, tags) are shown by their code; letters stay."""
    said = f"a{HIDDEN}b عربي 日本 naïve 🙂 é\tx\ny"
    for shown in (plain(said), texts(list(pieces(said))), escaped(said)):
        assert not set(shown) & set(HIDDEN)
        assert "عربي 日本 naïve 🙂 é\tx\ny" in shown
    assert "U+202E" in plain(said)
    assert escaped("\U000e0041\u202e") == "\\udb40\\udc41\\u202e"


@given(st.text())
def test_the_raw_view_is_the_same_value(text: str) -> None:
    """The raw view, with hidden signs escaped, is JSON of the same value."""
    row = {"messages": json.dumps([{"content": text}]), "final_text": None}
    try:
        shown = escaped(rollout_parts.raw(row))
    except UnicodeError:  # a lone surrogate: no database holds it
        return
    assert json.loads(shown) == [{"content": text}] or "\\ud" in json.dumps(text)


def test_reasoning_code_and_formulas_are_told_apart() -> None:
    """Reasoning, code and formulas are parts of their own, also where a begin or end tag is missing."""
    said = "<think>why\n</think>It is $x^2$ or \\(y\\):\n```python\nf(1)\n```\nDone for $5 or $6."
    assert kinds(said) == [
        ("reasoning", "why"), ("text", "It is "), ("math", "$x^2$"), ("text", " or "), ("math", "\\(y\\)"),
        ("text", ":\n"), ("code", "f(1)"), ("text", "Done for $5 or $6."),
    ]  # fmt: skip
    assert kinds("a<think>never ends") == [("text", "a"), ("reasoning", "never ends")]
    assert kinds("no beginning</think>answer") == [("reasoning", "no beginning"), ("text", "answer")]
    assert kinds("<think>not mine</think>", role="user") == [("text", "<think>not mine</think>")]
    assert kinds("```\nnever closed") == [("code", "never closed")]


@pytest.mark.parametrize(
    ("said", "formulas"),
    [
        ("\\boxed{\\frac{1}{2}} and \\boxed{}", ["\\boxed{\\frac{1}{2}}"]),
        ("9 $\\times$ \\$2, $x = \\$18$.", ["$\\times$", "$x = \\$18$"]),
        ("\\[\na\n\\] $$b$$ \\(c\\)", ["\\[\na\n\\]", "$$b$$", "\\(c\\)"]),
        ("\\begin{align*}a\\\\b\\end{align*}", ["\\begin{align*}a\\\\b\\end{align*}"]),
        ("$5 and $10; $5-$10; $HOME/$USER and $PATH; `echo $A$`; US$5$; $x=$1$2", []),
        ("$x and \\[ y and \\( z and \\begin{align} and \\boxed{a", []),
    ],
)
def test_formulas_are_found_and_money_is_none(said: str, formulas: list[str]) -> None:
    """Formulas have delimiters, or are boxes or environments; money, shell and what is not closed is text."""
    assert [text for kind, text in kinds(said) if kind == "math"] == formulas


def test_a_long_text_is_cut_with_its_formulas() -> None:
    """Only the head of a long text is shown, and the first of its formulas are drawn."""
    row = {
        "messages": json.dumps([{"role": "assistant", "content": "It is $x^2$ here. " * 50_000}]),
        "final_text": None,
    }
    address = Address("/runs/r")
    shown = rollout_parts.transcript(address, row).to_plotly_json()
    text = texts(shown["props"]["children"])
    assert len(text) < 1.2 * rollout_parts.LONG
    assert text.endswith("Show all 900,000 characters")
    assert 20 < str(rollout_parts.transcript(address, row)).count("mathjax=True") < 200
    whole = rollout_parts.transcript(Address("/runs/r", (("full", "1"),)), row)
    assert 0 < str(whole).count("mathjax=True") < 20


def test_empty_and_long_parts() -> None:
    """An empty answer is called so, newlines around reasoning are left out, long values are folded."""
    assert kinds("\n\n<think>\nwhy\n</think>\n\nanswer") == [("reasoning", "why"), ("text", "answer")]
    row = {"messages": '[{"role": "assistant", "content": ""}]', "final_text": None}
    assert "Empty." in texts(rollout_parts.transcript(Address("/runs/r"), row))
    assert str(rollout_parts._cell("x" * 201)).count("Details") == 1
    assert rollout_parts._cell("x" * 200) == ["x" * 200]


def test_tools_and_what_no_rollout_should_hold() -> None:
    """Tool calls show their arguments, answers the tool's name; anything unexpected is text."""
    said = [
        {"role": "assistant", "reasoning": "r", "tool_calls": [{"name": "calc", "arguments": '{"x": 1}'}]},
        {"role": "tool", "name": "calc", "content": "2", "extras": {"ms": 3}},
        "bare", None, {"tool_calls": [7]},
    ]  # fmt: skip
    first, second, *rest = chat.messages(json.dumps(said), None)
    assert [(part.kind, part.text, part.name) for part in first.parts] == [
        ("reasoning", "r", ""),
        ("call", '{\n  "x": 1\n}', "calc"),
    ]
    assert (second.tone, second.name, [part.kind for part in second.parts]) == (
        "tool",
        "calc",
        ["text", "more"],
    )
    assert len(rest) == 3
    assert chat.messages("{broken", None)[0].parts[0].text == "{broken"
    assert chat.messages(None, "last")[0].tone == "model"
    assert chat.messages(None, None) == []


@pytest.mark.parametrize("sign", ["\\[", "\\(", "$", "$$", "```\n", "<think>", "</think>", "$a", "`", "``a",
                                  "\\boxed{", "\\boxed{a", "\\begin{align}", "$a\\$"])  # fmt: skip
def test_no_text_takes_long_to_be_told_apart(sign: str) -> None:
    """A megabyte of one sign is read in one pass: a quadratic one would not end."""
    for text in (sign * (1_000_000 // len(sign)), sign + 1_000_000 * "a", "```" + 1_000_000 * "a"):
        parts = chat.message({"role": "assistant", "content": text}).parts
        assert sum(len(part.text) for part in parts) <= len(text)


def test_a_key_is_taken_from_any_address() -> None:
    """A key names a stream and a number; any other text names no rollout."""
    assert Key.of("a/b/7") == Key("a/b", 7)
    assert Key.of(Key("s", 1).name) == Key("s", 1)
    for wrong in ("", "7", "a/", "a/-1", "a/x", "a/" + "9" * 30, "a/²"):
        assert Key.of(wrong) is None


def test_any_address_is_a_list() -> None:
    """A filter that is no JSON object is ignored, and an unknown column is left out."""
    for text in ("", "{", "[]", "7", "[" * 5000, '{"reward": 7}'):
        assert rollouts.view(Address("/runs/r", (("filter", text),)))["filter"] == {}
    wanted = rollouts.wanted(Address("/runs/r", (("sort", "-rewards/a"), ("filter", '{"split":{}}'))))
    assert wanted.sort == [{"colId": "rewards/a", "sort": "desc"}]
    assert wanted.filters == {"split": {}}
    old = rollouts.wanted(Address("/runs/r", (("sort", "-step"), ("filter", '{"group":{},"reward":{}}'))))
    assert (old.sort, old.filters) == ([], {"reward": {}})


def test_the_numbers_of_a_training() -> None:
    """The numbers are those of the last training step; what the files lack is left out."""
    step = {"training_step": 1, "split": "train", "samples": 8, "superseded": 0, "groups": 2, "failed": 0,
            "zero_signal_groups": 1, "truncated": 2, "reward": 0.5, "rewards": {"a": 1.0},
            "input_tokens": None, "output_tokens": None, "turns": 1.0, "staleness": None}  # fmt: skip
    later = step | {"training_step": 2, "reward": 0.75}
    steps = [step, later, later | {"split": "eval", "training_step": 3}]
    shown = {key: text for key, text in training.numbers(steps).items() if text}
    assert shown["number.training-reward"] == "0.75"
    assert shown["note.training-reward"] == "▲ 0.25 · step 2"
    assert shown["number.training-truncated"] == "25 %"
    assert shown["number.training-signal"] == "50 %"
    assert "number.training-length" not in shown
    assert [one.name for one in training.drawings(steps)] == [
        "Reward", "Reward: a", "Truncated (share)", "Groups without a signal (share)",
    ]  # fmt: skip
    assert training.learning(steps) == {"curve": [0.5, 0.75], "mean_return": 0.75}
    assert training.learning([]) == {}
    without = [one | {"reward": None} for one in steps]
    assert training.numbers(without)["note.training-reward"].startswith("a · ")
    assert [one.name for one in training.drawings(without)][:1] == ["Reward: a"]
