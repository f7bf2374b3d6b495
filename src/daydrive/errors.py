"""Errors caused by users, reported in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Invalid input: what is wrong, where, and what would be right. The command line prints the message alone and exits
    with 2."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, else `; known: a, b, c`.

    >>> did_you_mean("trian", ["train", "val", "test"])
    "; did you mean 'train'?"
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(options)}" if options else ""


@contextmanager
def errors_attributed_to(label: str) -> Iterator[None]:
    """Turn errors of third-party code into a UserError that starts with `label`; UserErrors are passed on."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200].rstrip(".!")
        raise UserError(f"{label} failed ({type(error).__name__}: {reason}); --debug shows the traceback") from error
