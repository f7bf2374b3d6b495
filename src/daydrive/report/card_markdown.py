"""The card as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daydrive.report import rows
from daydrive.report.sentences import about_branches, about_memory, about_the_end
from daydrive.report.tables import markdown_table


def card_markdown(card: Mapping[str, Any]) -> str:
    """Verdict and mark, the checks with their evidence, and the tables behind them."""
    mark = card["mark"]
    parts = [
        f"**{card['verdict'].capitalize()}.** Mark: {mark['passed']} of {mark['of']} checks passed.",
        markdown_table(*rows.checks(card)),
        f"PSNR in dB against the true actions, mean over {card['clips']} clips of {card['drives']} drives and "
        f"{card['steps']} steps:",
        markdown_table(*rows.costs(card)),
        "Motion read back from the pictures, against what was commanded:",
        markdown_table(*rows.egomotion(card["egomotion"])),
    ]
    if card["branches"] is not None:
        parts += [about_branches(card["branches"]), markdown_table(*rows.branches(card["branches"]))]
    if card.get("nearest_training_clips"):
        clips = card["nearest_training_clips"]
        parts += [about_memory(clips), markdown_table(*rows.memories(clips))]
    return "\n\n".join(parts) + "\n"


def long_markdown(long: Mapping[str, Any], hz: float) -> str:
    """How very long dreams end."""
    return f"{markdown_table(*rows.long_dreams(long, hz))}\n\n{about_the_end(long)}\n"
