"""A step of the past, where the newest one stands: the address names it, or its episode.

    at=<stream>/<line>    that step          episode=<n>            the first step of that episode
                                             episode=<n>&step=<m>   its step m

Everything of it is in SQL, its picture on Kafka: that is read beside it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dash import Dash, Input, Output, html, no_update
from dash.development.base_component import Component

from dashboard import form
from dashboard.address import Address
from dashboard.controls import patch
from dashboard.page import Services
from dashboard.panel import attrs
from dashboard.panels.frame import grid_of, picture
from dashboard.panels.now import FACTS, Now
from schemas.errors import StepstreamError

LOOKING = "Looking for the picture of this step"
NOT_NOW = "No picture of this step can be read now."


def register(app: Dash, services: Services) -> None:
    """One callback reads the step, the other its picture."""

    @app.callback(
        Output("now-title", "children"),
        Output("past-keys", "children"),
        Output("past", "children"),
        Input("url", "search"),
        Input("url", "pathname"),
        Input("agent", "id"),
    )
    async def show(search: str, path: str, _: str) -> Any:
        address = Address.of((path or "/") + (search or ""))
        try:
            step = await _step(services, address)
        except StepstreamError:
            step = None
        if step is None:
            return Now.title, [], []
        return _title(step), await _keys(services, address, step), _body(address, step)

    @app.callback(Output("past-frame", "children"), Input("past-place", "data-place"))
    async def frame(place: dict[str, Any] | None) -> Any:
        return no_update if not place else await _frame(services, place)


async def _step(services: Services, address: Address) -> dict[str, Any] | None:
    run_id, queries = address.run or "", services.queries
    stream, slash, seq = address.get("at").rpartition("/")
    if slash and seq.isdecimal() and len(seq) < 19:
        return await queries.step(run_id, stream, int(seq))
    episode, agent_id = address.number("episode"), address.get("agent")
    if episode is None:
        return None
    if not agent_id:
        agents = await services.feeds.agents(run_id)
        agent_id = agents[0]["agent_id"] if len(agents) == 1 else ""
    return await queries.step_of_episode(run_id, agent_id, episode, address.number("step"))


def _title(step: dict[str, Any]) -> str:
    known = [form.NONE if step[name] is None else step[name] for name in ("step_index", "episode_index")]
    return f"Step {known[0]} of episode {known[1]}"


async def _keys(services: Services, address: Address, step: dict[str, Any]) -> list[Component]:
    """Links to the step before and after, and back to the newest."""
    place = address.run or "", step["stream_id"], step["seq"]
    beside = [services.queries.step_beside(*place, after=after) for after in (False, True)]
    before, after = await asyncio.gather(*beside)
    return [
        _beside("Step before", "\u2039", "ArrowLeft", before),
        _beside("Step after", "\u203a", "ArrowRight", after),
        _link("Back to newest", "Newest", "Escape", patch({"at": None, "episode": None, "step": None})),
    ]


def _beside(label: str, sign: str, key: str, step: dict[str, Any] | None) -> Component:
    if step is None:
        return html.Button(sign, className="chip", disabled=True, type="button", **attrs(aria_label=label))
    at = f"{step['stream_id']}/{step['seq']}"
    return _link(label, sign, key, patch({"at": at, "step": None}, replace=True))


def _link(label: str, text: str, key: str, marks: dict[str, Any]) -> Component:
    named = attrs(aria_label=label, data_key=key) | marks
    return html.Button(text, key=label, type="button", className="chip", title=label, **named)


def _body(address: Address, step: dict[str, Any]) -> list[Component]:
    values = {
        "episode": form.NONE if step["episode_index"] is None else str(step["episode_index"]),
        "step": form.NONE if step["step_index"] is None else str(step["step_index"]),
        "action": form.line(step["action"], 80),
        "reward": form.number(step["reward"]),
    }
    facts = [
        html.Div([html.Dt(text), html.Dd(values[key], id=f"past-{key}")], className=key)
        for key, text in FACTS.items()
    ]
    place = {"run": address.run, "stream": step["stream_id"], "seq": step["seq"], "step": step["step_index"]}
    drawn = grid_of(step["extras"])
    inner = picture(drawn) if drawn is not None else html.P(LOOKING, className="looking")
    frame = html.Div(inner, id="past-frame", className="frame")
    asked = html.Span(id="past-place", hidden=True, **attrs(data_place=None if drawn else place))
    return [asked, frame, html.Dl(facts, className="now")]


async def _frame(services: Services, place: dict[str, Any]) -> Any:
    """The picture; one sentence says why there is none."""
    try:
        found = await services.frames.of(str(place["run"]), str(place["stream"]), int(place["seq"]))
    except StepstreamError:
        found = None
    frame = found.frame if found is not None else None
    if frame is None:
        return html.P(found.said if found is not None else NOT_NOW)
    if frame.step_index == place["step"]:
        return picture(frame)
    other = form.NONE if frame.step_index is None else frame.step_index
    return [picture(frame), html.P(f"picture of step {other}", className="of")]
