"""Options that take as many numbers as one likes: `--weights 2 1`."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

from daydrive.errors import UserError

NUMBER = re.compile(r"-?\d+(\.\d*)?([eE]-?\d+)?|-?\.\d+")


class ManyNumbers(TyperCommand):
    """`--weights 2 1` is taken as `--weights "2 1"`."""

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
    """UserError for what is no number."""
    words = text.replace(",", " ").split()
    for word in words:
        if not NUMBER.fullmatch(word):
            raise UserError(f"{option} {text}: '{word}' is no number")
    return [float(word) for word in words]
