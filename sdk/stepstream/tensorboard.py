"""A stand-in for TensorBoard's SummaryWriter: CleanRL's scripts run with one changed import.

from stepstream.tensorboard import SummaryWriter      # was: from torch.utils.tensorboard import …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from stepstream import _warn
from stepstream._newest import newest_or_new
from stepstream._wandb import Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stepstream._run import Run

RETURN, LENGTH = "charts/episodic_return", "charts/episodic_length"
"""CleanRL's two scalars of an episode, written one after the other: together they are one episode."""


class SummaryWriter:
    """Scalars become metrics at their global step, images frames, hyperparameters the run's config.

    Args:
        log_dir: its last part names the run, where a new one is begun.
        run: None: the newest run, or a new one.
    """

    def __init__(
        self, log_dir: object = None, comment: str = "", *_: object, run: Run | None = None, **__: object
    ) -> None:
        self.log_dir = os.fspath(log_dir) if log_dir else "runs"  # type: ignore[call-overload]
        named = os.path.basename(os.path.normpath(self.log_dir)) + comment if log_dir or comment else None
        self.run = run or newest_or_new(name=named)
        self._return: tuple[object, int | None] | None = None

    def add_scalar(
        self, tag: str, scalar_value: object, global_step: int | None = None, *_: object, **__: object
    ) -> None:
        """One number at a global step."""
        if tag == RETURN:
            self.flush()
            self._return = scalar_value, global_step
        elif tag == LENGTH and self._return is not None and self._return[1] == global_step:
            self._episode(scalar_value)
        else:
            self.run.log({tag: scalar_value}, step=global_step)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, object],
        global_step: int | None = None,
        *_: object,
        **__: object,
    ) -> None:
        """Several numbers below one tag."""
        numbers = {f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}
        self.run.log(numbers, step=global_step)

    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, *_: object, **__: object
    ) -> None:
        """A text; CleanRL's table of hyperparameters becomes the config."""
        table = _table(text_string) if tag == "hyperparameters" else {}
        if table:
            self.run.config.update(table)
        else:
            self.run.log({tag: text_string}, step=global_step)

    def add_hparams(
        self, hparam_dict: Mapping[str, object], metric_dict: Mapping[str, object], *_: object, **__: object
    ) -> None:
        """Hyperparameters and what they led to."""
        self.run.config.update(hparam_dict)
        self.run.log(dict(metric_dict))

    def add_image(
        self, tag: str, img_tensor: object, global_step: int | None = None, *_: object, **__: object
    ) -> None:
        """A picture, (3, H, W) or (H, W, 3)."""
        self.run.frame(img_tensor)

    def add_histogram(
        self, tag: str, values: object, global_step: int | None = None, *_: object, **__: object
    ) -> None:
        """A distribution, as its least, greatest and mean value, their spread and number."""
        self.run.log({tag: Histogram(values)}, step=global_step)

    def flush(self) -> None:
        """An episode whose length did not come is written without."""
        if self._return is not None:
            self._episode(None)

    def close(self) -> None:
        """The run goes on; it ends with `finish` or the program."""
        self.flush()
        self.run.flush()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        _warn.once(f"tensorboard:{name}", f"SummaryWriter.{name} does nothing here.")
        return lambda *_, **__: None

    def _episode(self, length: object) -> None:
        assert self._return is not None
        episode_return, global_step = self._return
        self._return = None
        self.run.episode(episode_return=episode_return, episode_length=length, global_step=global_step)


WRITERS = ("torch.utils.tensorboard", "tensorboardX")
SYNCED = ("add_scalar", "add_scalars", "add_text", "add_image", "add_histogram", "flush", "close")


def sync() -> None:
    """`init(sync_tensorboard=True)`: what a script hands to TensorBoard's own writers comes here as well."""
    writers = [getattr(sys.modules.get(name), "SummaryWriter", None) for name in WRITERS]
    if not any(writers):
        _warn.once("sync", "sync_tensorboard does nothing where SummaryWriter is imported after init.")
    for writer in filter(None, writers):
        for name in SYNCED:
            if not hasattr(getattr(writer, name), "stepstream"):
                setattr(writer, name, _both(getattr(writer, name), name))


def _both(original: Callable[..., object], name: str) -> Callable[..., object]:
    """A method that does what it did, and the same here."""

    def method(writer: object, *args: object, **named: object) -> object:
        result = original(writer, *args, **named)
        try:
            ours = vars(writer).get("_stepstream")
            if ours is None or ours.run.finished:
                ours = vars(writer)["_stepstream"] = SummaryWriter(getattr(writer, "logdir", None))
            getattr(ours, name)(*args, **named)
        except Exception as error:
            _warn.once(f"sync:{name}", f"SummaryWriter.{name} could not be followed ({error!r}).")
        return result

    method.stepstream = True  # type: ignore[attr-defined]
    return method


def _table(markdown: str) -> dict[str, object]:
    """The rows of `|param|value|` as a dictionary; numbers and booleans as such."""
    rows = [line.strip().strip("|").split("|", 1) for line in markdown.splitlines() if line.startswith("|")]
    return {row[0].strip(): _value(row[1].strip()) for row in rows[2:] if len(row) == 2}


def _value(text: str) -> object:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
