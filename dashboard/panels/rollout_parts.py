"""What one rollout's page is made of: the transcript, what is known of it, its tokens. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from dash import html
from dash.development.base_component import Component

from dashboard import chat, form, grids
from dashboard.address import Address
from dashboard.controls import patch
from dashboard.formulas import Formulas
from dashboard.panel import attrs
from dashboard.visible import escaped, pieces, plain
from schemas.training_steps import staleness

LONG = 20_000
"""Characters of one text that are shown at first."""
FOLDED = 1_500
"""A longer prompt of the system is folded."""
WIDE = 200
"""A longer value beside the transcript is folded."""
TOKENS_GRID = "tokens-grid"
FACTS = {
    "training_step": "Training step",
    "split": "Split",
    "group_id": "Group",
    "sample_id": "Sample",
    "attempt": "Attempt",
    "status": "Status",
    "stop_reason": "Stop reason",
    "turns": "Turns",
    "input_tokens": "Input tokens",
    "output_tokens": "Output tokens",
    "policy_start": "Policy at its start",
    "policy_end": "Policy at its end",
    "agent_id": "Agent",
    "format": "Format",
    "source": "File",
}


def transcript(address: Address, row: Mapping[str, Any]) -> Component:
    """Its messages, as the address wants them."""
    whole = address.flag("full")
    if address.get("view") == "raw":
        shown: list[Component] = [
            html.Pre(_cut(escaped(raw(row)), whole=whole, most=20 * LONG), className="raw")
        ]
    else:
        formulas = Formulas()
        said = chat.messages(row["messages"], row["final_text"])
        shown = [_message(one, formulas, whole=whole) for one in said]
    if not shown:
        shown = [
            html.P(
                "This format keeps no text of a rollout: only numbers and token ids.", className="none muted"
            )
        ]
    return html.Section(
        shown, id="rollout-text", className="card transcript", **attrs(aria_label="Transcript")
    )


def raw(row: Mapping[str, Any]) -> str:
    """The messages as JSON; without any, the last answer."""
    try:
        value = msgspec.json.decode(row["messages"]) if row["messages"] else row["final_text"]
    except (msgspec.DecodeError, RecursionError):
        value = row["messages"]
    return json.dumps(value, indent=2, ensure_ascii=False)


def _message(one: chat.Message, formulas: Formulas, *, whole: bool) -> Component:
    name = [html.Span(list(pieces(one.name)), className="muted mono")] if one.name else []
    head = html.Header([html.B(list(pieces(one.role))), *name])
    parts: list[Component] = []
    for is_prose, some in groupby(one.parts, lambda part: _is_prose(part, one)):
        if is_prose:
            parts.append(html.Div(_prose(list(some), formulas, whole=whole), className="text"))
        else:
            parts += [_part(part, one, whole=whole) for part in some]
    if not parts:
        parts = [html.P("Empty.", className="muted")]
    return html.Article([head, *parts], className="message", **attrs(data_tone=one.tone))


def _prose(parts: Sequence[chat.Part], formulas: Formulas, *, whole: bool) -> list[Any]:
    """Text and formulas in one line; of long ones the head."""
    size = left = sum(len(part.text) for part in parts)
    if not whole and size > LONG:
        left = LONG
    within = left
    shown: list[Any] = []
    text = ""
    for part in parts:
        fits = part.kind == "math" and len(part.text) <= left
        drawn = formulas.draw(part.text, within) if fits else None
        if drawn is None:
            text += part.text[:left]
        else:
            shown += [*pieces(text), drawn]
            text = ""
        left -= len(part.text)
        if left < 0:
            break
    return [*shown, *pieces(text), *([" … ", _all_of(size)] if left < 0 else [])]


def _part(part: chat.Part, of: chat.Message, *, whole: bool) -> Component:
    text = _cut(part.text, whole=whole, most=LONG)
    if (label := _folded(part, of)) is not None:
        return html.Details([html.Summary(label), html.Div(text, className="text")], className=part.kind)
    if part.kind == "call":
        name = html.B(list(pieces(part.name or "tool")))
        return html.Details([html.Summary(["Calls ", name]), html.Pre(text)], open=True, className="call")
    if part.kind == "code":
        return html.Pre(text, title=part.name or None, className="code")
    return html.Div(text, className="code")


def _is_prose(part: chat.Part, of: chat.Message) -> bool:
    """Text and formulas stand in one line."""
    return part.kind in ("text", "math") and of.tone != "tool" and _folded(part, of) is None


def _folded(part: chat.Part, of: chat.Message) -> str | None:
    """What stands for a part until it is opened."""
    size = f"{len(part.text):,} characters"
    if part.kind in ("reasoning", "more"):
        return f"Reasoning, {size}" if part.kind == "reasoning" else "More fields"
    return f"Prompt, {size}" if of.tone == "system" and len(part.text) > FOLDED else None


def _cut(text: str, *, whole: bool, most: int) -> list[Any]:
    """A text with hidden signs visible; of a long one its head, and a button for all."""
    if whole or len(text) <= most:
        return list(pieces(text))
    return [*pieces(text[:most]), " … ", _all_of(len(text))]


def _all_of(size: int) -> Component:
    return html.Button(
        f"Show all {size:,} characters",
        type="button",
        className="btn btn-sm",
        **patch({"full": 1}, replace=True),
    )


# What is known of it


def aside(row: Mapping[str, Any]) -> Component:
    """Its rewards, its place in the training, and what no column takes."""
    parts = [_score(row), _rewards(row), _facts(row)]
    for name, title in (("metrics", "Metrics"), ("extras", "More fields")):
        if told := _object(row[name]):
            parts.append(_table(title, [(key, _value(value)) for key, value in told.items()]))
    return html.Aside(parts, className="rollout-facts")


def _score(row: Mapping[str, Any]) -> Component:
    derived = row["advantage"] is None
    advantage = row["derived_advantage"] if derived else row["advantage"]
    cells = [
        ("Reward", form.number(row["reward"]), ""),
        (
            "Advantage",
            form.number(advantage),
            "derived from the group" if derived and advantage is not None else "",
        ),
    ]
    made = [
        html.Div([html.Dt(name), html.Dd(text), html.Small(note)], className="number")
        for name, text, note in cells
    ]
    return html.Section(html.Dl(made, className="numbers"), className="card numbers-card")


def _rewards(row: Mapping[str, Any]) -> Component:
    scores = _object(row["rewards"])
    if not scores:
        return html.Div(hidden=True)
    lines = [
        (name, form.number(score.get("value")), form.number(score.get("weight")))
        for name, score in scores.items()
    ]
    return _table("Reward functions", lines, ("", "Value", "Weight"))


def _facts(row: Mapping[str, Any]) -> Component:
    lines = [(text, str(row[name])) for name, text in FACTS.items() if row[name] not in (None, "")]
    if row["superseded"]:
        lines.insert(0, ("Superseded", "a later attempt, or another copy, counts in its place"))
    stale = staleness(row["training_step"], row["policy_start"])
    lines += [("Staleness", f"{stale} step{'s' * (stale != 1)}")] if stale is not None else []
    lines += [("Duration", form.short(1000 * row["duration"]))] if row["duration"] else []
    return _table("Rollout", lines)


def _table(title: str, lines: Sequence[tuple[str, ...]], head: Sequence[str] = ()) -> Component:
    titles = [html.Thead(html.Tr([html.Th(text) for text in head]))] if head else []
    body = [
        html.Tr([html.Th(list(pieces(str(name)))), *(html.Td(_cell(cell)) for cell in cells)])
        for name, *cells in lines
    ]
    return html.Section(
        [html.H3(title), html.Table([*titles, html.Tbody(body)], className="config")], className="card"
    )


def _cell(text: str) -> list[Any]:
    """A value; a long one is folded."""
    if len(text) <= WIDE:
        return list(pieces(text))
    summary = html.Summary(f"{len(text):,} characters")
    return [html.Details([summary, html.Div(list(pieces(text[:LONG])))])]


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text) if text else {}
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return form.number(value) if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)


# Tokens


def tokens(arrays: Mapping[str, Sequence[Any]], *, asked: bool) -> Component:
    """Its token arrays; before they are asked for, a button."""
    if not asked:
        button = html.Button(
            "Show token arrays", type="button", className="btn btn-sm", **patch({"tokens": 1}, replace=True)
        )
        return html.P(button)
    columns = [grids.column("position", "Token", 80, type="rightAligned")]
    format_ = {"valueFormatter": {"function": "stepstreamNumber(params.value)"}}
    columns += [
        grids.column(f"a{i}", plain(name), 130, type="rightAligned", **format_)
        for i, name in enumerate(arrays)
    ]
    grid = grids.list_grid(TOKENS_GRID, columns)
    lengths = ", ".join(f"{plain(name)} {len(values):,}" for name, values in arrays.items())
    return html.Section(
        [html.H3("Tokens"), html.P(lengths, className="muted"), html.Div(grid, className="tokens")],
        className="card tokens-card",
    )


def token_rows(arrays: Mapping[str, Sequence[Any]], start: int, end: int) -> dict[str, Any]:
    """Rows of the table of tokens, as AG Grid takes them."""
    total = max(map(len, arrays.values()), default=0)
    rows = [
        {"stream_id": "", "seq": n, "position": n}
        | {f"a{i}": values[n] if n < len(values) else None for i, values in enumerate(arrays.values())}
        for n in range(start, min(end, total))
    ]
    return {"rowData": rows, "rowCount": total}
