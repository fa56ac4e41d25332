"""Pictures are found in every form that workers print, decoded without loss, and thinned with a count."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from producers.forward.frame_sampler import FrameSampler
from producers.lines.frames import NotAPictureError, Picture, encode, take
from producers.spool.format import Checkpoint

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def fields(**values: Any) -> dict[str, str]:
    """Fields of a line."""
    return {name: json.dumps(value) for name, value in values.items()}


def file_of(kind: str) -> bytes:
    """The pixels as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


def b64(data: bytes) -> str:
    """As JSON has it."""
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("image_format", ["webp", "png"])
@pytest.mark.parametrize(
    "line",
    [
        fields(render_payload={"mode": "rgb", "rgb": PIXELS.tolist(), "width": 6, "height": 4}),
        fields(render_payload={"mode": "rgb_array", "rgb": PIXELS.tolist()}),
        fields(rgb_b64=b64(PIXELS.tobytes()), width=6, height=4),
        fields(frame_b64=b64(file_of("PNG"))),
        fields(render_b64="data:image/png;base64," + b64(file_of("PNG"))),
        fields(render_payload={"mode": "rgb", "rgb_b64": b64(PIXELS.tobytes()), "width": 6, "height": 4}),
    ],
)
def test_every_pixel_is_kept(line: dict[str, str], image_format: str) -> None:
    """And none of them stays in the line."""
    line = dict(line)
    picture = take(line)
    assert picture is not None
    assert sum(map(len, line.values())) < 60
    _, data, width, height = encode(picture, image_format)
    assert (width, height) == (6, 4)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), PIXELS)


@pytest.mark.parametrize(
    "line",
    [
        fields(frame_ref="frames/1.png"),
        fields(frame_b64="no base64!"),
        fields(frame_b64=b64(b"neither a file nor pixels")),
        fields(rgb_b64=b64(b"x" * 71), width=6, height=4),
        fields(render_payload={"mode": "grid", "grid": [[1]]}),
        fields(render_payload={"mode": "rgb", "rgb": "a string"}),
        fields(render_payload="text"),
        fields(render_payload=None),
    ],
)
def test_what_is_no_picture_stays(line: dict[str, str]) -> None:
    """Nothing is taken."""
    before = dict(line)
    assert take(line) is None
    assert line == before


@pytest.mark.parametrize("text", ["[[[1,2]]]", "[[[1,2,300]]]", "[[[1,2,3]],[[1,2,3],[1,2,3]]]", '[[["a"]]]'])
def test_pixels_that_make_no_picture_are_said(text: str) -> None:
    """One error for all of them."""
    with pytest.raises(NotAPictureError):
        encode(Picture("image/rgb", text), "webp")


def offer(thinner: FrameSampler, time_us: int, agent_id: str = "a") -> int | None:
    """Offer a picture; the number of thinned ones where one is sent."""
    identity = {"run_id": "r", "stream_id": "s", "seq": time_us, "agent_id": agent_id, "worker_id": None}
    sent = thinner.offer(
        identity | {"event_time": time_us}, Picture("text/x-ansi", str(time_us)), Checkpoint()
    )
    return None if sent is None else sent[0]["thinned"]


def test_the_newest_wins_and_the_others_are_counted() -> None:
    """Of 100 pictures in a second at most ten, and their sum is a hundred; each agent for itself."""
    thinner = FrameSampler(10)
    start = 1_795_000_000_000_000
    for agent_id in ("a", "b"):
        times = range(start, start + 1_000_000, 10_000)
        sent = [thinned for now in times if (thinned := offer(thinner, now, agent_id)) is not None]
        assert 9 <= len(sent) <= 11
    last = thinner.rest()
    assert sorted(record["seq"] for record, _ in last) == [start + 990_000] * 2
    assert thinner.rest() == []


def test_a_picture_that_nothing_follows_is_sent_when_it_is_due() -> None:
    """A paused environment shows its last state."""
    thinner = FrameSampler(10)
    assert offer(thinner, 1000) == 0
    assert offer(thinner, 2000) is None
    assert thinner.late(50_000) == []
    ((record, _),) = thinner.late(200_000)
    assert record["seq"] == 2000


def test_the_place_before_every_picture_that_waits() -> None:
    """Of the agents' the first; none once all are sent."""
    thinner = FrameSampler(10)
    picture = Picture("text/x-ansi", "x")
    blank = {"run_id": "r", "stream_id": "s", "worker_id": None, "seq": 1}
    for line, agent_id, now in ((1, "a", 0), (2, "b", 0), (3, "b", 10), (4, "a", 20), (5, "b", 30)):
        thinner.offer(blank | {"agent_id": agent_id, "event_time": now}, picture, Checkpoint(line=line))
    assert thinner.before() == Checkpoint(line=4)
    thinner.rest()
    assert thinner.before() is None


def test_no_pictures_at_all() -> None:
    """`frames_per_second=0`."""
    thinner = FrameSampler(0)
    assert offer(thinner, 1000) is None
    assert thinner.late(10**9) == thinner.rest() == []
