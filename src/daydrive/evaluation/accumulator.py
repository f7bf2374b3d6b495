"""What is measured, in memory and on disk: a few numbers a frame of each clip, and sums over all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from daydrive.evaluation.frechet import Spread
from daydrive.evaluation.metrics.intervals import Array
from daydrive.evaluation.metrics.slices import Kind
from daydrive.files import replacing

FIGURE, SPREAD = "figure ", "spread "


class _Part(NamedTuple):
    """numbers: (clips,), which. figures: float32 (clips, steps), by name."""

    numbers: npt.NDArray[np.int64]
    figures: dict[str, npt.NDArray[np.float32]]
    kinds: list[Kind]


class Measured:
    """Figures and kinds of clips, each known by its number among all; in any order, each once. spread: of all."""

    def __init__(self, spread: Spread) -> None:
        self.spread = spread
        self._parts: list[_Part] = []

    def read(self, files: Iterable[Path]) -> Measured:
        """With all that `save` wrote into some files."""
        for file in files:
            with np.load(file, allow_pickle=False) as data:
                figures = {name.removeprefix(FIGURE): data[name] for name in data.files if name.startswith(FIGURE)}
                kinds = [Kind(*json.loads(text)) for text in data["kinds"]]
                self._parts.append(_Part(data["numbers"], figures, kinds))
                self.spread.restore(
                    {name.removeprefix(SPREAD): data[name] for name in data.files if name.startswith(SPREAD)}
                )
        return self

    def add(self, numbers: Sequence[int], figures: Sequence[Mapping[str, Tensor]], kinds: Sequence[Kind]) -> None:
        """figures: of each clip, (steps,) by name."""
        stacked = {name: np.stack([of_clip[name].numpy() for of_clip in figures]) for name in figures[0]}
        self._parts.append(_Part(np.array(numbers, dtype=np.int64), stacked, list(kinds)))

    def save(self, file: Path) -> None:
        """All of it, in one move."""
        arrays: dict[str, Any] = {FIGURE + name: values for name, values in self._figures().items()}
        arrays |= {SPREAD + name: values for name, values in self.spread.arrays().items()}
        arrays["numbers"] = self.numbers
        arrays["kinds"] = np.array([json.dumps(kind) for part in self._parts for kind in part.kinds])
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())

    def __len__(self) -> int:
        return sum(len(part.numbers) for part in self._parts)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        return np.concatenate([part.numbers for part in self._parts]) if self._parts else np.empty(0, np.int64)

    @property
    def figures(self) -> dict[str, Array]:
        """float64 (clips, steps) by name, in the clips' order; all clips have to be there."""
        order = self._order()
        return {name: values[order].astype(np.float64) for name, values in self._figures().items()}

    @property
    def kinds(self) -> list[Kind]:
        """In the clips' order."""
        kinds = [kind for part in self._parts for kind in part.kinds]
        return [kinds[i] for i in self._order()]

    @property
    def margins(self) -> dict[int, float]:
        """Of each clip, see `margin`."""
        return {
            int(number): margin({name: values[i] for name, values in part.figures.items()})
            for part in self._parts
            for i, number in enumerate(part.numbers)
        }

    def _figures(self) -> dict[str, npt.NDArray[np.float32]]:
        names = self._parts[0].figures if self._parts else ()
        return {name: np.concatenate([part.figures[name] for part in self._parts]) for name in names}

    def _order(self) -> npt.NDArray[np.int64]:
        order = np.argsort(self.numbers)
        assert np.array_equal(self.numbers[order], np.arange(len(order))), "each clip once"
        return order


def margin(figures: Mapping[str, npt.ArrayLike]) -> float:
    """dB by which a dream is above the copied last frame, mean over the steps of one clip."""
    return float(np.mean(np.asarray(figures["psnr"]) - np.asarray(figures["copy_last_psnr"]), dtype=np.float64))
