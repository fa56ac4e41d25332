"""prime-rl's token exports: `token_exports/step_<N>/rank_<r>.jsonl`, a line is one sequence of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.model import TRAIN, Item, Note, Place, Row, Whole, need, whole


class PrimeTokens:
    """The format."""

    name = "prime-rl-tokens"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Tokens and their mask."""
        return (
            isinstance(row.get("token_ids"), list)
            and isinstance(row.get("loss_mask"), list)
            and "rank" in row
        )

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The run's folder."""
        folder = path.parent.parent
        return folder.parent if folder.name == "token_exports" else folder

    def reader(self, place: Place) -> PrimeTokensReader:
        """For one rank in one step."""
        return PrimeTokensReader(place)


class PrimeTokensReader(Whole):
    """Reads one rank of one step."""

    def __init__(self, place: Place) -> None:
        self._step = place.number(r"step_(\d+)")

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A sequence."""
        length = len(need(row, "token_ids", list))
        arrays: dict[str, Any] = {
            "mask" if name == "loss_mask" else name: values
            for name, values in row.items()
            if isinstance(values, list) and len(values) == length
        }
        arrays = {
            name: values for name, values in arrays.items() if any(value is not None for value in values)
        }
        masked = sum(map(bool, row["is_masked"])) if isinstance(row.get("is_masked"), list) else None
        others = {k: v for k, v in row.items() if not isinstance(v, list) and k != "step"}
        step = whole(row.get("step"))
        yield Note(
            "tokens",
            {**others, **({} if masked is None else {"masked": masked})},
            split=TRAIN,
            step=step if step is not None else self._step,
            tokens=arrays,
        )
