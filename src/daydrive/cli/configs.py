"""`daydrive configs …`: the configs that come with daydrive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import app

configs = typer.Typer(invoke_without_command=True)
app.add_typer(configs, name="configs")


@configs.callback()
def list_configs(context: typer.Context) -> None:
    """List the configs that come with daydrive.

    --config accepts their names; `configs copy` copies one.
    """
    from daydrive.config.files import config_names, describe

    if context.invoked_subcommand is None:
        names = config_names()
        width = max(len(name) for name in names)
        for name in names:
            print(f"{name:<{width}}  {describe(name)}")


@configs.command()
def copy(
    name: Annotated[str, typer.Argument(help="a name listed by `daydrive configs`")],
    destination: Annotated[Path | None, typer.Argument(help="file or folder; default: the current folder")] = None,
) -> None:
    """Copy a config to a file to edit. Configs that it extends are not copied."""
    from daydrive.config.files import copy_config

    print(copy_config(name, destination))
