"""`daydrive data …`: what is in a store, what is wrong with it, and stores made from stores."""

from __future__ import annotations

import typer

from daydrive.cli.options import app

stores = typer.Typer(no_args_is_help=True, help="Look into stores, find what is wrong with them, divide and join them.")
app.add_typer(stores, name="data")
