"""The command line: `daydrive COMMAND`, also available as `python scripts/COMMAND.py`.

Invalid input prints a one-sentence error and exits with code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import os
import sys

import typer

from daydrive.cli import (
    benchmarks,
    configs,
    data,
    decisions,
    driving,
    evaluation,
    exporting,
    policy,
    readout,
    recording,
    stores,
    training,
    visualizing,
)
from daydrive.cli.options import app
from daydrive.errors import UserError
from daydrive.renamed import current_names

__all__ = [
    "app",
    "benchmarks",
    "configs",
    "data",
    "decisions",
    "driving",
    "evaluation",
    "exporting",
    "main",
    "policy",
    "readout",
    "recording",
    "stores",
    "training",
    "visualizing",
]

BAD_INPUT, INTERRUPTED = 2, 130

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Click's usage error as typer raises it; some versions of typer bundle click without a public name for it."""


def main(command: str | None = None) -> None:
    """Run the command line, or a single command, and exit with its exit code."""
    arguments = ([command] if command else []) + sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    arguments, warnings = current_names(arguments)
    for warning in warnings:
        print(f"warning: {warning}; the old name will be removed in the next version", file=sys.stderr)
    try:
        code = app(arguments, standalone_mode=False, prog_name="daydrive")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UsageError, UserError, OSError) as error:
        if debug:
            raise
        print(f"error: {_sentence(error)}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    sys.exit(code or 0)


def _sentence(error: Exception) -> str:
    """The error message on one line."""
    if isinstance(error, UserError):
        text = str(error)
    elif isinstance(error, OSError):
        text = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    else:
        text = error.format_message()  # type: ignore[attr-defined]
        text = text[:1].lower() + text[1:].removesuffix(".")
    return " ".join(text.split("\n"))
