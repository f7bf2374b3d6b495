"""`daydrive configs …`: the settings that come with daydrive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import app

configs = typer.Typer(invoke_without_command=True)
app.add_typer(configs, name="configs")


@configs.callback()
def list_configs(context: typer.Context) -> None:
    """The configs that come with daydrive, by the names that --config takes; `configs copy` makes one your own."""
    from daydrive.config.files import config_names, describe

    if context.invoked_subcommand is None:
        names = config_names()
        width = max(len(name) for name in names)
        for name in names:
            print(f"{name:<{width}}  {describe(name)}")


@configs.command()
def copy(
    name: Annotated[str, typer.Argument(help="of `daydrive configs`")],
    destination: Annotated[Path | None, typer.Argument(help="file or folder; default: this folder")] = None,
) -> None:
    """A config of daydrive's as a file to change. What it extends stays daydrive's."""
    from daydrive.config.files import copy_config

    print(copy_config(name, destination))
