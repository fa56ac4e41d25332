"""A run's history over HTTP, under `/api/v1`: what the pages themselves read.

    GET /api/v1/minmax?run=R&name=loss&from=0&to=1e6&pixels=800
    GET /api/v1/state?run=R&at=best-20&agent=A

Each class below is one address: its fields are the parameters, `answer` gives what is sent as JSON. An error
is `{"error": sentence}`: 400 for a wrong parameter, 404 for what is not there, 503 where SQL does not answer.
docs/api.md is the contract.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dashboard.sql.page import PageRequest
from dashboard.sql.queries import Queries
from dashboard.time.past import Pasts
from infra.history.curves import Axis, Curve, Smoothing
from infra.history.finder import OutsideError
from infra.history.moment import NEWEST_STEPS, State
from infra.history.series import PIXELS, Series
from infra.settings import Settings
from infra.sql.columns import Source
from schemas.errors import StepstreamError, UsageError
from schemas.fold import columns
from schemas.positions import EPOCH, parse_position
from schemas.topics import Kind

PATH = "/api/v1"

Count = Annotated[int, Meta(ge=1, le=10_000)]

_JSON = frozenset({"observation", "action", "info", "metrics", "extras", "config"})
_UNKNOWN_THEN = frozenset({"status_at", "first_seen_at", "last_seen_at"})
"""Kafka's own times, which SQL does not keep of each record."""


class UnknownRunError(StepstreamError):
    """SQL does not know the run."""


@dataclass(frozen=True)
class Reads:
    """What the addresses read with."""

    settings: Settings
    queries: Queries
    pasts: Pasts

    async def run(self, run_id: str) -> dict[str, Any]:
        """A run's row.

        Raises:
            UnknownRunError: SQL does not know it.
        """
        header = await self.queries.run(run_id)
        if header is None:
            raise UnknownRunError(f"SQL does not know a run {run_id!r}: {PATH}/runs lists those it has.")
        return header.run | {"agents": header.agents}

    async def agent(self, run_id: str, agent_id: str | None) -> str:
        """The agent that is asked for; without one the run's only one.

        Raises:
            UsageError: the run has several.
        """
        if agent_id is not None:
            return agent_id
        known = [agent["agent_id"] for agent in await self.queries.agents(run_id)]
        if len(known) > 1:
            raise UsageError(f"Run {run_id!r} has {len(known)} agents: name one with agent={known[0]}.")
        return known[0] if known else ""


class Runs(Struct, forbid_unknown_fields=True):
    """Runs, the newest first, without their configurations."""

    status: str | None = None
    start: Annotated[int, Meta(ge=0)] = 0
    count: Annotated[int, Meta(ge=1, le=500)] = 100

    async def answer(self, reads: Reads) -> Any:
        """The rows, and how many there are."""
        filters = {"status": {"filterType": "text", "type": "equals", "filter": self.status}}
        asked = PageRequest(self.start, self.start + self.count, [], filters if self.status else {})
        page = await reads.queries.runs(asked)
        return {"runs": [_run(row, without="config") for row in page.rows], "total": page.total}


class Run(Struct, forbid_unknown_fields=True):
    """One run."""

    run: str

    async def answer(self, reads: Reads) -> Any:
        """Its row, and its agents."""
        row = await reads.run(self.run)
        return _run(row) | {"agents": [_run(agent) for agent in await reads.queries.agents(self.run)]}


class Names(Struct, forbid_unknown_fields=True):
    """Names of a run's series."""

    run: str
    source: Source = "metrics"
    agent: str | None = None

    async def answer(self, reads: Reads) -> Any:
        """Of one source."""
        await reads.run(self.run)
        return {"names": await reads.queries.names(self.run, self.source, self.agent)}


class _OfSeries(Struct, forbid_unknown_fields=True, kw_only=True):
    run: str
    name: str
    source: Source = "metrics"
    agent: str | None = None
    axis: Axis = "step"

    @property
    def series(self) -> Series:
        return Series(self.run, self.source, self.name, self.agent, self.axis)


class Latest(_OfSeries, kw_only=True):
    """The newest points of a series."""

    count: Count = 100

    async def answer(self, reads: Reads) -> Any:
        """Oldest first."""
        await reads.run(self.run)
        return _curve(await reads.queries.latest(self.series, self.count))


class Minmax(_OfSeries, kw_only=True, rename={"begin": "from", "end": "to"}):
    """A series, or a part of it, for a chart: of each pixel the least and the most."""

    begin: float | None = None
    end: float | None = None
    pixels: Count = PIXELS
    smooth: str = ""

    async def answer(self, reads: Reads) -> Any:
        """At most two points a pixel.

        Raises:
            UsageError: the smoothing is none.
        """
        smoothing = Smoothing.read(self.smooth)
        if self.smooth not in ("", "none") and not smoothing.text:
            raise UsageError(f"smooth={self.smooth!r} is neither ema:0.9 nor mean:100, with other numbers.")
        await reads.run(self.run)
        return _curve(await reads.queries.minmax(self.series, self.begin, self.end, self.pixels, smoothing))


class Moment(Struct, forbid_unknown_fields=True):
    """Everything of a run and an agent at a position."""

    run: str
    at: str = "end"
    agent: str | None = None
    count: Count = NEWEST_STEPS

    async def answer(self, reads: Reads) -> Any:
        """Counters, returns, the newest steps."""
        position = parse_position(self.at, reads.settings.topic_prefix)
        await reads.run(self.run)
        agent = await reads.agent(self.run, self.agent)
        past = await reads.pasts.fresh(self.run, 0.0)
        state = await past.read(lambda: past.history.state(position, agent, self.count))
        return _state(state, Kind.FRAMES.topic(reads.settings.topic_prefix))


ADDRESSES: Mapping[str, Any] = {
    "/runs": Runs,
    "/run": Run,
    "/names": Names,
    "/latest": Latest,
    "/minmax": Minmax,
    "/state": Moment,
}


def create(settings: Settings, queries: Queries, pasts: Pasts) -> Starlette:
    """The application that is mounted at `PATH`."""
    reads = Reads(settings, queries, pasts)

    def route(path: str, asked: Any) -> Route:
        async def handle(request: Request) -> Response:
            answer = await _asked(request, asked).answer(reads)
            return Response(msgspec.json.encode(answer), media_type="application/json")

        return Route(path, handle, methods=["GET"])

    routes = [route(path, asked) for path, asked in ADDRESSES.items()]
    return Starlette(routes=routes, exception_handlers={StepstreamError: _failed, HTTPException: _no_address})


def _asked(request: Request, asked: Any) -> Any:
    try:
        return msgspec.convert(dict(request.query_params), asked, strict=False)
    except msgspec.ValidationError as error:
        words = str(error).replace("Object", "The address").replace("field", "parameter")
        raise UsageError(f"{words.replace(' - at `$.', ', in `')}.") from None


def _failed(_: Request, error: Exception) -> Response:
    missing = isinstance(error, OutsideError | UnknownRunError)
    status = 404 if missing else 400 if isinstance(error, UsageError) else 503
    return JSONResponse({"error": str(error)}, status)


def _no_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = ", ".join(PATH + path for path in ADDRESSES)
    words = "This is only read, by GET." if error.status_code == 405 else f"There is {known}."
    return JSONResponse({"error": words}, error.status_code)


def _curve(curve: Curve) -> dict[str, Any]:
    made = {"x": curve.x, "y": curve.y, "total": curve.total, "sampled": curve.sampled}
    return made | ({"mean_x": curve.mean_x, "mean": curve.mean} if curve.mean else {})


def _state(state: State, frames: str) -> dict[str, Any]:
    time, stream_id, seq = state.moment or (None, None, None)
    return {
        "time": _time(time),
        "stream_id": stream_id,
        "seq": seq,
        "step": state.step,
        "run": _record(columns(state.run)),
        "agent": None if state.agent is None else _record(columns(state.agent)),
        "returns": state.returns,
        "steps": [_record(step) for step in state.steps],
        "frame": None if state.frame is None else {"topic": frames, **state.frame._asdict()},
    }


def _run(row: Mapping[str, Any], without: str = "") -> dict[str, Any]:
    """A row of SQL, whose moments are in ms."""
    return {
        name: _time(value * 1000) if name.endswith("_at") and value is not None else _plain(name, value)
        for name, value in row.items()
        if name not in ("status_at", without)
    }


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record or a state, whose moments are in µs."""
    return {
        name: _time(value) if name.endswith(("_at", "_time")) else _plain(name, value)
        for name, value in record.items()
        if name not in _UNKNOWN_THEN
    }


def _plain(name: str, value: Any) -> Any:
    if name in _JSON and isinstance(value, str):
        return msgspec.Raw(value.encode())
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def _time(micros: int | None) -> str | None:
    if micros is None:
        return None
    return (EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")
