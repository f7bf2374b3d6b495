"""The typer app, and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from daydrive.errors import UserError

ORDER = (
    "drive",
    "demo",
    "configs",
    "prepare-dataset",
    "record",
    "data",
    "show-batch",
    "find-nan",
    "score",
    "train",
    "find-lr",
    "replay",
    "train-readout",
    "plan",
    "learn-policy",
    "rank",
    "evaluate",
    "fetch-weights",
    "visualize",
    "export",
    "benchmark",
    "dream-speed",
)
"""Order of the commands in `daydrive --help`: that of a typical workflow."""


class WorkflowGroup(TyperGroup):
    """Lists commands in the order of `ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    cls=WorkflowGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train and evaluate world models of driving.\n\n--debug shows the traceback of an error.",
)

NUMBER = re.compile(r"-?\d+(\.\d*)?([eE]-?\d+)?|-?\.\d+")

ConfigFile = Annotated[Path, typer.Option("--config", help="YAML file, or a name listed by `daydrive configs`")]
StoreFolder = Annotated[Path, typer.Option("--data-root", help="store")]
ConfiguredStore = Annotated[Path | None, typer.Option("--data-root", help="store; default: data.root, or the newest")]
Split = Annotated[str, typer.Option(help="val, test or train")]
Checkpoint = Annotated[Path, typer.Option(help="run or checkpoint folder, model.safetensors, or road: in the package")]
Processes = Annotated[str, typer.Option(help="number of local processes, or auto: one per core on a CPU")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …, or auto: a GPU if there is one")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…", help="settings to override")]


class ManyNumbers(TyperCommand):
    """A command that accepts `--weights 2 1` for `--weights "2 1"`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        open_ended = False
        for word in args:
            if open_ended and NUMBER.fullmatch(word) and joined[-1] != "--weights":
                joined[-1] += f" {word}"
                continue
            open_ended = word == "--weights" or (open_ended and joined[-1] == "--weights")
            joined.append(word)
        return super().parse_args(ctx, joined)


def numbers(text: str, option: str) -> list[float]:
    """Numbers separated by spaces or commas; raises UserError for anything else."""
    words = text.replace(",", " ").split()
    for word in words:
        if not NUMBER.fullmatch(word):
            raise UserError(f"{option} {text}: '{word}' is not a number")
    return [float(word) for word in words]
