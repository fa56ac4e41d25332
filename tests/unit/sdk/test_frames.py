"""Pictures: which values are taken, how often, and that a PNG reader reads them."""

import base64
import io

import numpy as np
import pytest
import stepstream
from PIL import Image


def _pixels(line):
    return np.array(Image.open(io.BytesIO(base64.b64decode(line["frame_b64"]))))


RGB = np.random.default_rng(1).integers(0, 255, (7, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("frame", "pixels"),
    [
        (RGB, RGB),
        (RGB[::-1, :, :], RGB[::-1]),
        (RGB.tolist(), RGB),
        (RGB[:, :, 0], RGB[:, :, 0]),
        (RGB[:, :, 0].tolist(), RGB[:, :, 0]),
        (RGB[:, :, :1], RGB[:, :, 0]),
        (RGB.transpose(2, 0, 1), RGB),
        ((RGB / 255).astype(np.float32), RGB),
        (RGB.astype(np.int64), RGB),
        (np.dstack([RGB, RGB[:, :, 0]]), np.dstack([RGB, RGB[:, :, 0]])),
        (lambda: RGB, RGB),
        (Image.fromarray(RGB), RGB),
    ],
)
def test_a_picture_arrives_pixel_by_pixel(home, run, frame, pixels):
    """A picture arrives in the line of its step, pixel by pixel."""
    run.step(reward=1.0, frame=frame)
    run.finish()
    (step,) = home.lines("step")
    assert np.abs(_pixels(step).astype(int) - pixels).max() <= 1  # floats are cut, not rounded


def test_an_encoded_picture_passes_as_it_is(home, run):
    """A picture that is already encoded is sent unchanged."""
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG")
    run.step(frame=buffer.getvalue())
    run.finish()
    assert base64.b64decode(home.lines("step")[0]["frame_b64"]) == buffer.getvalue()


def test_text_is_an_ansi_picture(home, run):
    """A text, as render_mode="ansi" gives it, is sent as a picture of kind ansi."""
    run.step(frame="\x1b[31mS\x1b[0mFFF")
    run.finish()
    assert home.lines("step")[0]["render_payload"] == {"mode": "ansi", "text": "\x1b[31mS\x1b[0mFFF"}


def test_pictures_are_thinned_and_counted(home, run):
    """Pictures are thinned to a number a second; the others are not drawn, and no step is lost."""
    drawn = []
    for _ in range(1000):
        run.step(reward=1.0, frame=lambda: drawn.append(1) or RGB)
    run.finish()
    with_picture = [line for line in home.lines("step") if "frame_b64" in line]
    assert len(home.lines("step")) == 1000
    assert 1 <= len(with_picture) == len(drawn) < 100


def test_each_agent_has_its_own_rate(home, run):
    """Two agents that act at once each send a picture."""
    for agent in ("a", "b"):
        run.step(agent_id=agent, frame=RGB)
    run.finish()
    assert all("frame_b64" in line for line in home.lines("step"))


@pytest.mark.parametrize("frame", [np.zeros((2, 2, 7)), np.zeros(3), b"nothing", [], object(), lambda: 1 / 0])
def test_what_is_no_picture_costs_one_warning(home, run, frame):
    """A value that is no picture gives one warning, and its step arrives."""
    with pytest.warns(stepstream.StepstreamWarning, match="picture"):
        run.step(reward=1.0, frame=frame)
    run.finish()
    assert len(home.lines("step")) == 1


def test_a_picture_alone_is_a_line_of_its_own(home, run):
    """run.frame writes a line of its own that names its step."""
    run.step(reward=1.0)
    run.step(reward=1.0)
    run.frame(RGB)
    run.finish()
    (line,) = home.lines("frame")
    assert (line["episode_index"], line["step_index"]) == (0, 1)
    assert (_pixels(line) == RGB).all()
