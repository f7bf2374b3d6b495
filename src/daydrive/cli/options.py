"""The command line's app, and what its commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="World models of driving: prepare drives, train, measure, dream. --debug shows tracebacks.",
)

ConfigFile = Annotated[Path, typer.Option("--config", help="YAML file of settings")]
Checkpoint = Annotated[Path, typer.Option(help="run folder, checkpoint folder or model.safetensors")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …, or auto: a GPU where there is one")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…", help="settings to change")]


@contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[int, int], None] | None]:
    """What to tell how many of how many are done: drawn on a terminal, nothing elsewhere."""
    from rich.progress import Progress

    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
