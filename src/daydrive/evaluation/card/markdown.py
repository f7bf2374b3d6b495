"""The card as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.evaluation.tables import markdown_table, number


def card_markdown(card: Mapping[str, Any]) -> str:
    """Verdict and mark, the checks with their evidence, and the tables behind them."""
    mark = card["mark"]
    parts = [
        f"**{card['verdict'].capitalize()}.** Mark: {mark['passed']} of {mark['of']} checks passed.",
        markdown_table(
            ("check", "", "evidence"),
            [(check["name"], _sign(check["passed"]), check["said"]) for check in card["checks"]],
        ),
        f"PSNR in dB against the true actions, mean over {card['clips']} clips of {card['drives']} drives and "
        f"{card['steps']} steps:",
        markdown_table(
            ("actions", "cost", "95 %"),
            [(entry["what"], f"{entry['cost']:.2f}", _bounds(entry["interval"])) for entry in card["costs"].values()],
        ),
        _egomotion(card["egomotion"]),
    ]
    if card["branches"] is not None:
        parts.append(_branches(card["branches"]))
    return "\n\n".join(parts) + "\n"


def _egomotion(ego: Mapping[str, Any]) -> str:
    errors = ego["errors_on_real_frames"]
    rows = []
    for quantity, frames in (("turn", ("real", "true", "wrong")), ("speed", ("real", "true"))):
        for kind, entry in (ego[quantity] or {}).items():
            own = errors[kind][quantity]
            for name in frames:
                found = entry[name]
                rows.append(
                    (
                        ego["turn_is"] if quantity == "turn" else "speed",
                        kind,
                        _FRAMES[name],
                        number(found["correlation"]),
                        number(found["gain"]),
                        number(found["bias"]),
                        number(found["delay"], ".1f"),
                        f"{own['rmse']:.2f} of {own['spread']:.2f}" if name == "real" and own else "",
                    )
                )
    heads = ("read", "by", "in", "correlation", "gain", "bias", "delay, steps", "error, held out")
    return "Motion read back from the pictures, against what was commanded:\n\n" + markdown_table(heads, rows)


_FRAMES = {"real": "real frames", "true": "dream", "wrong": "dream, another clip's actions"}


def _branches(branches: Mapping[str, Any]) -> str:
    names = list(branches["branches"])
    heads = ("branch", *(f"PSNR at {step} (copied)" for step in branches["steps"]), *(f"→ {name}" for name in names))
    rows = [
        (
            name,
            *(f"{a:.1f} ({b:.1f})" for a, b in zip(entry["psnr"], entry["copy_last_psnr"], strict=True)),
            *(f"{share:.0%}" for share in entry["nearest"]),
        )
        for name, entry in branches["branches"].items()
    ]
    said = (
        f"One moment driven on in five ways, by the world and by the dream ({branches['moments']} moments). To the "
        "right: the world's branch that the dream of each was nearest to."
    )
    return f"{said}\n\n{markdown_table(heads, rows)}"


def _sign(passed: bool | None) -> str:
    return "not judged" if passed is None else "yes" if passed else "no"


def _bounds(bounds: Sequence[float] | None) -> str:
    return "one drive only" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
