"""What every raw format has to offer so that preparation can read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive

OptionValue = int | float | str | None
Options = Mapping[str, Any]
"""The options of a source by name, checked, defaults filled in."""

NAMED = ("drives", "frames", "seed", "env", "hz", "camera", "version", "split")
"""Options that the command line has by name; the others of a source are given as --set NAME=VALUE."""


@dataclass(frozen=True)
class Option:
    """A setting that a source takes. A default of None means: decided from the data."""

    name: str
    type: type[int] | type[float] | type[str]
    default: OptionValue
    help: str
    minimum: float | None = None

    @property
    def flag(self) -> str:
        """How it is given on the command line."""
        return flag(self.name)


class Source(Protocol):
    """A raw format.

    needs_root: whether anything is read from `--data-root`.
    split: by whole drives, or by contiguous parts of drives that were recorded one after the other.
    """

    name: str
    needs_root: bool
    split: Literal["drive", "time"]
    options: tuple[Option, ...]

    def describe(self, options: Options) -> dict[str, Any]:
        """Metadata kept in the store.

        `actions`: for each of steering, throttle, brake, gear how it was recorded (`unit`, `sign`, `scale`) and
        `converted`, the arithmetic that was done, so that it can be undone. `values`: name → unit of the source's own
        readings; these become columns of the table.
        """
        ...

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        """The drives under `root`, in a fixed order, all of one rate. Frames may have any size; a source that can draw
        at any size draws at `image_size` (H, W). UserError for what is not of this format."""
        ...


def flag(name: str) -> str:
    """How the option of this name is given on the command line."""
    return f"--{name}" if name in NAMED else f"--set {name}"


def action(unit: str, sign: str, scale: str, converted: str) -> dict[str, str]:
    """One entry of `describe()['actions']`."""
    return {"unit": unit, "sign": sign, "scale": scale, "converted": converted}


def read_options(source: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """Checks options against the source's declaration; None counts as not given."""
    known = {option.name: option for option in source.options}
    values: dict[str, Any] = {name: option.default for name, option in known.items()}
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            near = "" if name in NAMED else did_you_mean(name, known)
            takes = ", ".join(flag(option) for option in known) or "none of its own"
            hint = near if near.startswith("; did you mean") else f"; it takes {takes}"
            raise UserError(f"the dataset '{source.name}' does not take {flag(name)}{hint}")
        values[name] = _checked(known[name], value)
    return values


def _checked(option: Option, value: Any) -> int | float | str:
    try:
        result = option.type(value)
        if isinstance(value, bool) or (option.type is int and result != float(value)):
            raise ValueError
    except (TypeError, ValueError) as error:
        kind = {int: "a whole number", float: "a number", str: "a text"}[option.type]
        raise UserError(f"{option.flag} has to be {kind}, not {value!r}") from error
    if option.minimum is not None and not (isinstance(result, str) or option.minimum <= result < float("inf")):
        raise UserError(f"{option.flag} has to be at least {option.minimum:g}, not {value!r}")
    return result
