"""The card's tables as heads and rows, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.report.tables import NOTHING, Rows, number

_SIGNS = {True: "yes", False: "no", None: "not judged"}
_FRAMES = {"real": "real frames", "true": "dream", "wrong": "dream, another clip's actions"}


def checks(card: Mapping[str, Any]) -> Rows:
    rows = [(check["name"], _SIGNS[check["passed"]], check["said"]) for check in card["checks"]]
    return Rows(("check", "passed", "evidence"), rows)


def costs(card: Mapping[str, Any]) -> Rows:
    """What other actions cost."""
    rows = [(entry["what"], f"{entry['cost']:.2f}", _bounds(entry["interval"])) for entry in card["costs"].values()]
    return Rows(("actions", "cost, dB", "95 %"), rows)


def egomotion(ego: Mapping[str, Any]) -> Rows:
    """Motion that is read back, against what was commanded."""
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
    return Rows(("read", "by", "in", "correlation", "gain", "bias", "delay, steps", "error, held out"), rows)


def branches(found: Mapping[str, Any]) -> Rows:
    """PSNR against the world's own futures, and which of these each dream is nearest to."""
    names = list(found["branches"])
    heads = ("branch", *(f"PSNR at {step} (copied)" for step in found["steps"]), *(f"→ {name}" for name in names))
    rows = [
        (
            name,
            *(f"{a:.1f} ({b:.1f})" for a, b in zip(entry["psnr"], entry["copy_last_psnr"], strict=True)),
            *(f"{share:.0%}" for share in entry["nearest"]),
        )
        for name, entry in found["branches"].items()
    ]
    return Rows(heads, rows)


def memories(clips: Sequence[Mapping[str, Any]]) -> Rows:
    """The training clips nearest to some dreams."""
    rows = [
        (clip["drive"], clip["nearest_drive"], f"{clip['dream_psnr']:.1f}", f"{clip['real_psnr']:.1f}")
        for clip in clips
    ]
    heads = ("dream of", "nearest training clip from", "PSNR, dB", "what really came to its own nearest, dB")
    return Rows(heads, rows)


def long_dreams(long: Mapping[str, Any], hz: float) -> Rows:
    """How very long dreams end."""
    rows = [
        (
            str(entry["steps"]),
            f"{entry['steps'] / hz:.0f}",
            entry["verdict"],
            f"{entry['brightness']:.0f} of {entry['real_brightness']:.0f}",
            f"{entry['drift']:+.1f}",
            *(number(entry[name]) for name in ("contrast", "sharpness", "change")),
            _repetition(entry),
            f"{entry['ms_per_frame']:.1f}",
        )
        for entry in long["lengths"]
    ]
    heads = ("steps", "seconds", "it", "brightness", "drift, spreads", "contrast", "sharpness", "change", "repetition",
             "ms a frame")  # fmt: skip
    return Rows(heads, rows)


def _repetition(entry: Mapping[str, Any]) -> str:
    if entry["repetition"] is None:
        return NOTHING
    every = f", every {entry['period']:.0f} steps" if entry["period"] else ""
    return f"{entry['repetition']:.2f}{every}"


def _bounds(bounds: Sequence[float] | None) -> str:
    return "one drive only" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
