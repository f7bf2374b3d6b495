"""Tables printed by the `daydrive data` commands; they wrap in narrow terminals."""

from __future__ import annotations

import re
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daydrive.data import sources
from daydrive.data.sources.base import Source
from daydrive.data.sources.plugins import Plugin
from daydrive.errors import UserError


def print_sources(console: Console) -> None:
    """All datasets with their formats and options; one that cannot be loaded is listed with its error."""
    table = plain_table("dataset", "format", "options")
    for name in sources.names():
        try:
            source = sources.get(name)
        except UserError as error:
            table.add_row(escape(name), escape(str(error)), "")
            continue
        root = "--data-root" if source.needs_root else ""
        options = [f"{option.flag}{_default(option.default)}: {option.help}" for option in source.options]
        table.add_row(escape(name), escape(_sentence(source)), escape("\n".join([root, *options]).strip()))
    console.print(table)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """Print the result of `daydrive.data.quality.summary.summarize`."""
    height, width = summary["image_size"]
    facts = {
        "source": _with_options(summary["source"], summary["options"]),
        "recordings": summary["data_root"],
        "mix of": _members(summary["members"]),
        "frames": f"{summary['frames']} of {height}x{width}, {summary['hours']:.2f} h at {summary['hz']:g} Hz",
        "images": _geometry(summary),
        "size": summary["bytes"] and f"{summary['bytes'] / 1e6:.1f} MB, {summary['bytes_per_frame']:.0f} bytes a frame",
        "repeated": _repeated(summary["repeated_frames"], summary["frames"]),
        "driving": _driving(summary["driving"]),
        "split": None if not summary["split"] else ", ".join(f"{k} {v}" for k, v in summary["split"].items()),
        "fingerprint": summary["fingerprint"],
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, fact in facts.items():
        if fact:
            table.add_row(name, escape(str(fact)))
    console.print(table)
    console.print(_splits(summary["splits"]))
    console.print(_actions(summary["actions"], summary["made_from"]))
    console.print(_columns(summary["columns"]))


def plain_table(*heads: str, numbers: int = 0) -> Table:
    """The last `numbers` columns are right-aligned."""
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", header_style="bold")
    for k, head in enumerate(heads):
        right = k >= len(heads) - numbers
        table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _sentence(source: Source) -> str:
    """The first sentence of the docstring of the source's module, or of its package."""
    kind = type(source.source if isinstance(source, Plugin) else source)
    package, _, last = kind.__module__.rpartition(".")
    text = sys.modules[package if last == "source" else kind.__module__].__doc__ or kind.__doc__ or ""
    first = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<!et al)\. ", first)[0].rstrip(".:")


def _default(value: object) -> str:
    return "" if value is None else f"={value}"


def _with_options(name: str, options: dict[str, Any]) -> str:
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return f"{name} ({', '.join(given)})" if given else name


def _geometry(summary: dict[str, Any]) -> str:
    recorded = summary["recorded_image_size"]
    if not recorded:
        return ""
    text = f"recorded at {recorded[0]}x{recorded[1]}, {summary['fit']}"
    return text + (
        f", pixels {summary['pixel_aspect']:.3g} times as wide as high" if summary["pixel_aspect"] != 1 else ""
    )


def _members(members: list[dict[str, Any]]) -> str:
    return ", ".join(f"{m['store']} (weight {m['weight']:g})" for m in members) if len(members) > 1 else ""


def _repeated(images: int | None, frames: int) -> str:
    return "" if images is None else f"{100.0 * images / max(frames, 1):.1f} % of the images repeat the previous one"


def _driving(shares: dict[str, float | None]) -> str:
    known = [f"{name} {100 * share:.0f} %" for name in ("standing", "straight", "left", "right")
             if (share := shares[name]) is not None]  # fmt: skip
    return f"{', '.join(known)} (a turn: steering beyond {shares['turns_from']:.3f})"


def _splits(splits: dict[str, dict[str, Any]]) -> Table:
    table = plain_table("split", "drives", "frames", "hours", "shortest s", "median s", "longest s", numbers=6)
    for name, found in splits.items():
        lengths = ["" if seconds is None else f"{seconds:.1f}" for seconds in found["seconds"].values()]
        table.add_row(name, str(found["drives"]), str(found["frames"]), f"{found['hours']:.2f}", *lengths)
    return table


def _actions(actions: dict[str, dict[str, str]], origins: dict[str, dict[str, int]]) -> Table:
    table = plain_table("action", "recorded as", "sign", "scale", "converted")
    for name, how in actions.items():
        made = [f"{count} drives from {origin}" for origin, count in origins.get(name, {}).items()]
        converted = "; ".join([how.get("converted", ""), *made])
        table.add_row(name, *(escape(how.get(key, "")) for key in ("unit", "sign", "scale")), escape(converted))
    return table


def _columns(columns: dict[str, dict[str, Any]]) -> Table:
    percentiles = ("5", "50", "95")
    table = plain_table("column", "min", *(f"{name} %" for name in percentiles), "max", "mean", "missing %", numbers=7)
    for name, found in columns.items():
        missing = f"{100 * found['missing']:.1f}" if found["missing"] else ""
        if "min" not in found:
            table.add_row(name, *[""] * 6, missing)
            continue
        numbers = [found["min"], *(found["percentiles"][key] for key in percentiles), found["max"], found["mean"]]
        table.add_row(name, *(f"{number:.4g}" for number in numbers), missing)
    return table
