"""An evaluation's tables as heads and rows, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.report.tables import NOTHING, Rows, number, with_interval

SHOWN_STEPS = (1, 5, 10, 30)
BASELINES = {
    "last frame copied": "copy_last_psnr",
    "last motion goes on": "constant_flow_psnr",
    "mean image": "mean_image_psnr",
    "another clip's actions": "shuffled_actions_psnr",
    "no actions": "zero_actions_psnr",
}
"""By their labels, the entries of `horizons`."""
DISTANCES = {
    "dream": "dream",
    "last frame copied": "copy_last",
    "real frames of other drives": "other_drives",
    "dream to these": "dream_to_other_drives",
}
FEATURES = {"filters": "filters, frames", "change_filters": "filters, changes", "fid": "FID", "fvd": "FVD"}

_SIGNS = {True: "yes", False: "no", None: "not judged"}
_FRAMES = {"real": "real frames", "true": "dream", "wrong": "dream, another clip's actions"}


def shown_steps(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a few steps, and of the last."""
    horizons = evaluation["horizons"]
    wanted = sorted({step for step in SHOWN_STEPS if step <= len(horizons)} | {len(horizons)})
    return [horizons[step - 1] for step in wanted]


def horizons(evaluation: Mapping[str, Any]) -> Rows:
    """Metrics beside their baselines at a few steps, with intervals."""
    columns = {"PSNR": "psnr", **BASELINES, "SSIM": "ssim", "sharpness": "sharpness", "flicker": "flicker"}
    return Rows(
        ("steps ahead", *columns),
        [
            (f"+{entry['step']}", *(with_interval(entry[name], entry[f"{name}_interval"]) for name in columns.values()))
            for entry in shown_steps(evaluation)
        ],
    )


def slices(found: Sequence[Mapping[str, Any]]) -> Rows:
    """The metrics of each kind of clips."""
    rows = [
        (
            f"{s['by']}: {s['value']}", str(s["clips"]), f"{s['psnr']:.2f}", f"{s['margin']:+.2f}",
            f"{s['usable_seconds']:.2f}",
        )
        for s in found
    ]  # fmt: skip
    return Rows(("clips by", "number", "PSNR, all steps", "over copying", "usable seconds"), rows)


def differences(evaluation: Mapping[str, Any], difference: Mapping[str, Any]) -> Rows:
    """Usable seconds, and PSNR and SSIM at a few steps: this one minus that one, with the interval."""
    bounds = difference["usable_seconds_interval"]
    rows = [["usable seconds", with_interval(difference["usable_seconds"], bounds, "+.2f")]]
    for metrics in shown_steps(evaluation):
        step = metrics["step"]
        for name, label in (("psnr", "PSNR, dB,"), ("ssim", "SSIM")):
            bounds = difference[f"{name}_interval"]
            value = with_interval(difference[name][step - 1], bounds and bounds[step - 1], "+.3f")
            rows.append([f"{label} at {step}", value])
    return Rows(("this minus that", "difference [95 %]"), rows)


def checks(scores: Mapping[str, Any]) -> Rows:
    rows = [(check["name"], _SIGNS[check["passed"]], check["evidence"]) for check in scores["checks"]]
    return Rows(("check", "passed", "evidence"), rows)


def costs(scores: Mapping[str, Any]) -> Rows:
    """What other actions cost."""
    rows = [(entry["what"], f"{entry['cost']:.2f}", _bounds(entry["interval"])) for entry in scores["costs"].values()]
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
    """PSNR against the world's own futures, and which of these each prediction is nearest to."""
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


def nearest_clips(clips: Sequence[Mapping[str, Any]]) -> Rows:
    """The training clips nearest to some predictions."""
    rows = [
        (clip["drive"], clip["nearest_drive"], f"{clip['dream_psnr']:.1f}", f"{clip['real_psnr']:.1f}")
        for clip in clips
    ]
    heads = ("dream of", "nearest training clip from", "PSNR, dB", "what really came to its own nearest, dB")
    return Rows(heads, rows)


def long_rollouts(long: Mapping[str, Any], hz: float) -> Rows:
    """How very long rollouts end."""
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


def frechet_sizes(distribution: Mapping[str, Any]) -> Rows:
    """Of each distance at a quarter, a half and all of the samples, and extrapolated."""
    rows = []
    for key, entry in measured_distances(distribution).items():
        for size in entry["sizes"]:
            rows.append([FEATURES[key], f"{size['samples']:.0f}", *_distances(size)])
        rows.append([FEATURES[key], "∞", *_distances(entry["extrapolated"])])
    return Rows(("features", "samples", *DISTANCES), rows)


def frechet_bands(distribution: Mapping[str, Any]) -> Rows:
    """Of each distance that is of frames, near and far steps."""
    rows = [
        [FEATURES[key], f"{band['first']} to {band['last']}", *_distances(band)]
        for key, entry in measured_distances(distribution).items()
        for band in entry.get("bands", ())
    ]
    return Rows(("features", "steps", *DISTANCES), rows)


def measured_distances(distribution: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Without those of which there is only the reason why they are not measured."""
    return {key: distribution[key] for key in FEATURES if isinstance(distribution.get(key), Mapping)}


def _distances(entry: Mapping[str, float | None]) -> list[str]:
    return [number(entry[name]) for name in DISTANCES.values()]


def _repetition(entry: Mapping[str, Any]) -> str:
    if entry["repetition"] is None:
        return NOTHING
    every = f", every {entry['period']:.0f} steps" if entry["period"] else ""
    return f"{entry['repetition']:.2f}{every}"


def _bounds(bounds: Sequence[float] | None) -> str:
    return "one drive only" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
