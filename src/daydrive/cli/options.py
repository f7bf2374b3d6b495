"""The command line's app, and what its commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="World models of driving: prepare drives, train, measure, dream. --debug shows tracebacks.",
)

ConfigFile = Annotated[Path, typer.Option("--config", help="YAML file of settings, or a name of `daydrive configs`")]
Checkpoint = Annotated[Path, typer.Option(help="run folder, checkpoint folder or model.safetensors")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …, or auto: a GPU where there is one")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…", help="settings to change")]
