"""Pictures are found in every form that workers print, decoded without loss, and thinned and counted."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.settings import load
from producers.forward.frame_sampler import FrameSampler
from producers.forward.stream import Stream
from producers.lines.context import Identity
from producers.lines.frames import NotAPictureError, Picture, encode, take
from producers.lines.normalise import IDENTITY, Event, Normaliser
from producers.spool.format import Checkpoint, about_new
from producers.spool.writer import SpoolWriter
from schemas.topics import Kind
from tests.support.windows import record_encoder, windows

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def fields(**values: Any) -> dict[str, str]:
    """Return the fields of a line, each as JSON text."""
    return {name: json.dumps(value) for name, value in values.items()}


def file_of(kind: str) -> bytes:
    """Return the pixels as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


def b64(data: bytes) -> str:
    """Return data in base64, as a JSON line holds it."""
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
    """A picture is taken out of the line, and the encoded picture has every pixel."""
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
    """A line without a picture stays as it is."""
    before = dict(line)
    assert take(line) is None
    assert line == before


@pytest.mark.parametrize("text", ["[[[1,2]]]", "[[[1,2,300]]]", "[[[1,2,3]],[[1,2,3],[1,2,3]]]", '[[["a"]]]'])
def test_pixels_that_make_no_picture_are_said(text: str) -> None:
    """Pixels that make no picture raise NotAPictureError, whatever is wrong."""
    with pytest.raises(NotAPictureError):
        encode(Picture("image/rgb", text), "webp")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "JPEG"])
def test_a_file_stays_as_it_is(kind: str) -> None:
    """An image file keeps its bytes, and its size is read from its header."""
    line = fields(frame_b64=b64(file_of(kind)))
    picture = take(line)
    assert picture is not None
    assert encode(picture, "webp") == (f"image/{kind.lower()}", file_of(kind), 6, 4)


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG file of any size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def gif_header(width: int, height: int) -> bytes:
    """Return the beginning of a GIF file of any size."""
    return b"GIF89a" + struct.pack("<HHBBB", width % 65_536, height % 65_536, 0, 0, 0) + b";"


def webp_header(width: int, height: int) -> bytes:
    """Return the beginning of a WebP file of any size; VP8X has 24 bits for each side."""
    sides = (width % 2**24).to_bytes(3, "little") + (height % 2**24).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_header(width: int, height: int) -> bytes:
    """Return the beginning of a JPEG file of any size; a frame has 16 bits for each side."""
    frame = struct.pack(">HBHHB", 11, 8, height % 65_536, width % 65_536, 1) + b"\1\x11\0"
    return b"\xff\xd8\xff\xc0" + frame + b"\xff\xd9"


sides = st.one_of(st.integers(0, 8), st.sampled_from([16_384, 16_385, 20_000, 65_535, 2**24 - 1, 2**31 - 1]))
headers = st.builds(
    lambda make, width, height: make(width, height),
    st.sampled_from([png_header, gif_header, webp_header, jpeg_header]),
    sides,
    sides,
)
files = st.builds(
    lambda data, at, byte, end: (data[:at] + bytes([byte]) + data[at + 1 :])[:end],
    st.sampled_from([file_of(kind) for kind in ("PNG", "GIF", "WEBP", "JPEG", "BMP", "TIFF")]),
    st.integers(0, 120),
    st.integers(0, 255),
    st.integers(4, 400),
)
data = st.one_of(headers, files, st.binary(max_size=72))
encoded = st.one_of(data.map(b64), data.map(lambda data: b64(data)[:-1]), st.text(max_size=8))
numbers = st.one_of(st.integers(-1, 300), st.floats(), st.none(), st.text(max_size=2))
arrays = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3), max_leaves=12)
pixels = st.one_of(
    arrays,
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)).map(
        lambda shape: np.zeros(shape, int).tolist()
    ),
)
sizes = st.one_of(sides, numbers)
drawn = st.fixed_dictionaries(
    {"type": st.just("step"), "reward": st.just(1)},
    optional={
        "render_payload": st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(["rgb", "rgb_array", "ansi", "grid", "", 7, None]),
                "rgb": st.one_of(pixels, encoded),
                "text": st.one_of(st.text(max_size=5), st.just("\ud800"), numbers),
                "frame_b64": encoded,
                "width": sizes,
                "height": sizes,
            },
        ),
        "rgb_b64": encoded,
        "frame_b64": encoded,
        "render_b64": encoded.map(lambda text: "data:image/png;base64," + text),
        "width": sizes,
        "height": sizes,
        "frame_thinned": sizes,
    },
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(drawn, max_size=4))
def test_whatever_a_picture_holds_it_costs_that_picture(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]]
) -> None:
    """Every line gives its step; its picture fits the schema or is refused with one kind of error."""
    options = load({"STEPSTREAM_HOME": str(tmp_path_factory.mktemp("home"))})
    spool = SpoolWriter(options, about_new("run", "r", None))
    for line in lines:
        spool.append(json.dumps(line).encode() + b"\n", 1)
    spool.finish()
    source = Stream.claim(options, spool.folder)
    assert source is not None
    kinds = [item[0] for window in windows(source, 10) for item in window.items]
    source.release()
    assert [kind for kind in kinds if kind is not Kind.FRAMES] == [Kind.STEPS] * len(lines)
    normalise = Normaliser(Identity("S", "r"))
    for seq, line in enumerate(lines, 1):
        frame_of(normalise(json.dumps(line).encode(), seq, 1))


def frame_of(event: Event) -> None:
    """Make the frame of an event's picture, or accept that it is refused."""
    if event.picture is None:
        return
    with suppress(NotAPictureError):
        names = ("media_type", "data", "width", "height")
        frame = dict(zip(names, encode(event.picture, "png"), strict=True))
        about = {name: event.record[name] for name in (*IDENTITY, "episode_index", "step_index")}
        record_encoder()(Kind.FRAMES, about | frame | {"thinned": event.picture.thinned})
        assert max(frame["width"] or 0, frame["height"] or 0) <= 16_384


@pytest.mark.parametrize("make", [png_header, gif_header, webp_header, jpeg_header])
def test_a_header_of_a_huge_picture_is_refused(make: Callable[[int, int], bytes]) -> None:
    """A picture whose header claims a huge size is refused, because showing it would take gigabytes."""
    picture = take(fields(frame_b64=b64(make(20_000, 20_000))))
    assert picture is not None
    with pytest.raises(NotAPictureError):
        encode(picture, "webp")


def offer(thinner: FrameSampler, time_us: int, agent_id: str = "a") -> int | None:
    """Offer a picture; return the number of thinned ones if one is sent, else None."""
    identity = {"run_id": "r", "stream_id": "s", "seq": time_us, "agent_id": agent_id, "worker_id": None}
    sent = thinner.offer(
        identity | {"event_time": time_us}, Picture("text/x-ansi", str(time_us)), Checkpoint()
    )
    return None if sent is None else sent[0]["thinned"]


def test_the_newest_wins_and_the_others_are_counted() -> None:
    """Each agent sends about ten pictures a second, and the newest of its pictures is sent at the end."""
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
    """A picture that no other follows is sent when due, so a paused environment shows its last state."""
    thinner = FrameSampler(10)
    assert offer(thinner, 1000) == 0
    assert offer(thinner, 2000) is None
    assert thinner.late(50_000) == []
    ((record, _),) = thinner.late(200_000)
    assert record["seq"] == 2000


def test_the_place_before_every_picture_that_waits() -> None:
    """The checkpoint stays before the first waiting picture of all agents; it is None once all are sent."""
    thinner = FrameSampler(10)
    picture = Picture("text/x-ansi", "x")
    blank = {"run_id": "r", "stream_id": "s", "worker_id": None, "seq": 1}
    for line, agent_id, now in ((1, "a", 0), (2, "b", 0), (3, "b", 10), (4, "a", 20), (5, "b", 30)):
        thinner.offer(blank | {"agent_id": agent_id, "event_time": now}, picture, Checkpoint(line=line))
    assert thinner.before() == Checkpoint(line=4)
    thinner.rest()
    assert thinner.before() is None


def test_no_pictures_at_all() -> None:
    """With `frames_per_second=0` no picture is sent."""
    thinner = FrameSampler(0)
    assert offer(thinner, 1000) is None
    assert thinner.late(10**9) == thinner.rest() == []
