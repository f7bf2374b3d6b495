"""The interface of a data source, and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive

OptionValue = int | float | str | None
Options = Mapping[str, Any]
"""A source's options by name, validated, with defaults filled in."""

NAMED_OPTIONS = ("drives", "frames", "seed", "env", "hz", "camera", "version", "split")
"""Options with a separate command-line flag; all others are passed as --set NAME=VALUE."""


@dataclass(frozen=True)
class Option:
    """An option of a source. A default of None means that the value is determined from the data."""

    name: str
    type: type[int] | type[float] | type[str]
    default: OptionValue
    help: str
    minimum: float | None = None

    @property
    def flag(self) -> str:
        """The command-line flag that sets it."""
        return flag(self.name)


GAP = Option("gap", float, None, "s; a longer interval between frames ends a drive; default: two periods", 0.01)
"""The option of sources whose frames have uneven times."""


class Source(Protocol):
    """A raw data format.

    needs_root: whether it reads from `--data-root`.
    split: 'drive' to split by whole drives, 'time' to cut consecutive drives into contiguous parts.
    """

    name: str
    needs_root: bool
    split: Literal["drive", "time"]
    options: tuple[Option, ...]

    def describe(self, options: Options) -> dict[str, Any]:
        """Metadata for the store.

        `actions`: for each of steering, throttle, brake and gear, the `unit`, `sign` and `scale` of the recording and
        `converted`, the conversion that was applied, so that it can be inverted. `values`: unit of each additional
        value by name; these values become columns of the store.
        """
        ...

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        """The drives below `root`, in a fixed order.

        Frames may have any size; a source that renders its images renders them at `image_size` (H, W). Raises
        UserError if the data is not in this format.
        """
        ...


def flag(name: str) -> str:
    """The command-line flag of the option of this name."""
    return f"--{name}" if name in NAMED_OPTIONS else f"--set {name}"


def action(unit: str, sign: str, scale: str, converted: str) -> dict[str, str]:
    """An entry of `describe()['actions']`."""
    return {"unit": unit, "sign": sign, "scale": scale, "converted": converted}


def read_options(source: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a source with defaults filled in; None counts as not given.

    Raises UserError for an option that the source does not have or a value that is invalid.
    """
    known = {option.name: option for option in source.options}
    values: dict[str, Any] = {name: option.default for name, option in known.items()}
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            suggestion = "" if name in NAMED_OPTIONS else did_you_mean(name, known)
            flags = ", ".join(flag(option) for option in known) or "none"
            hint = suggestion if suggestion.startswith("; did you mean") else f"; its options: {flags}"
            raise UserError(f"the dataset '{source.name}' does not take {flag(name)}{hint}")
        values[name] = _convert(known[name], value)
    return values


def _convert(option: Option, value: Any) -> int | float | str:
    try:
        result = option.type(value)
        if isinstance(value, bool) or (option.type is int and result != float(value)):
            raise ValueError
    except (TypeError, ValueError) as error:
        kind = {int: "an integer", float: "a number", str: "a string"}[option.type]
        raise UserError(f"{option.flag} must be {kind}, not {value!r}") from error
    if option.minimum is not None and not (isinstance(result, str) or option.minimum <= result < float("inf")):
        raise UserError(f"{option.flag} must be at least {option.minimum:g}, not {value!r}")
    return result
