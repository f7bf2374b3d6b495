"""The tables of an evaluation as headers and rows, for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.report.tables import MISSING, Rows, format_number, format_with_interval

SHOWN_STEPS = (1, 5, 10, 30)
BASELINES = {
    "last frame copied": "copy_last_psnr",
    "constant optical flow": "constant_flow_psnr",
    "mean image": "mean_image_psnr",
    "another clip's actions": "shuffled_actions_psnr",
    "no actions": "zero_actions_psnr",
}
"""The entries of `horizons` by label."""
DISTANCES = {
    "model": "dream",
    "last frame copied": "copy_last",
    "real frames of other drives": "other_drives",
    "model to other drives": "dream_to_other_drives",
}
FEATURES = {"filters": "filters, frames", "change_filters": "filters, changes", "fid": "FID", "fvd": "FVD"}
KERNEL_FEATURES = {**FEATURES, "fid": "KID", "fvd": "KVD"}

_SIGNS = {True: "yes", False: "no", None: "not judged"}
_FRAMES = {"real": "real frames", "true": "rollout", "wrong": "rollout, another clip's actions"}


def shown_steps(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of `horizons` at `SHOWN_STEPS` and at the last step."""
    horizons = evaluation["horizons"]
    wanted = sorted({step for step in SHOWN_STEPS if step <= len(horizons)} | {len(horizons)})
    return [horizons[step - 1] for step in wanted]


def horizons(evaluation: Mapping[str, Any]) -> Rows:
    """Metrics and baselines at a few steps, with confidence intervals."""
    columns = {"PSNR": "psnr", **BASELINES, "SSIM": "ssim", "sharpness": "sharpness", "flicker": "flicker"}
    return Rows(
        ("steps ahead", *columns),
        [
            (
                f"+{entry['step']}",
                *(format_with_interval(entry[name], entry[f"{name}_interval"]) for name in columns.values()),
            )
            for entry in shown_steps(evaluation)
        ],
    )


def slices(found: Sequence[Mapping[str, Any]]) -> Rows:
    """Metrics by kind of clip."""
    rows = [
        (
            f"{s['by']}: {s['value']}", str(s["clips"]), f"{s['psnr']:.2f}", f"{s['margin']:+.2f}",
            f"{s['usable_seconds']:.2f}",
        )
        for s in found
    ]  # fmt: skip
    return Rows(("kind of clip", "clips", "PSNR, all steps", "gain over copying", "usable seconds"), rows)


def differences(evaluation: Mapping[str, Any], difference: Mapping[str, Any]) -> Rows:
    """Differences between two evaluations with intervals: usable and realistic seconds, PSNR, SSIM at a few steps."""
    bounds = difference["usable_seconds_interval"]
    rows = [["usable seconds", format_with_interval(difference["usable_seconds"], bounds, "+.2f")]]
    if "realistic_seconds" in difference:
        bounds = difference["realistic_seconds_interval"]
        rows.append(["realistic seconds", format_with_interval(difference["realistic_seconds"], bounds, "+.2f")])
    for metrics in shown_steps(evaluation):
        step = metrics["step"]
        for name, label in (("psnr", "PSNR (dB)"), ("ssim", "SSIM")):
            bounds = difference[f"{name}_interval"]
            value = format_with_interval(difference[name][step - 1], bounds and bounds[step - 1], "+.3f")
            rows.append([f"{label} at step {step}", value])
    return Rows(("metric", "difference [95 % CI]"), rows)


def human(choices: Mapping[str, Any]) -> Rows:
    """How often a person preferred each of two models without knowing which was which."""
    low, high = choices["share_interval"]
    intervals = ((low, high), (1 - high, 1 - low))
    decided = sum(choices["preferred"])
    rows = [
        (model["name"], str(wins), format_with_interval(wins / decided if decided else None, bounds, ".2f"))
        for model, wins, bounds in zip(choices["models"], choices["preferred"], intervals, strict=True)
    ]
    rows.append(("undecided", str(choices["equal"]), MISSING))
    return Rows(("model", "preferred", "share of decided choices [95 % CI]"), rows)


def checks(scores: Mapping[str, Any]) -> Rows:
    """The checks of the controllability scorecard."""
    rows = [(check["name"], _SIGNS[check["passed"]], check["evidence"]) for check in scores["checks"]]
    return Rows(("check", "passed", "evidence"), rows)


def costs(scores: Mapping[str, Any]) -> Rows:
    """PSNR loss with other actions."""
    rows = [(entry["what"], f"{entry['cost']:.2f}", _bounds(entry["interval"])) for entry in scores["costs"].values()]
    return Rows(("actions", "PSNR loss (dB)", "95 % CI"), rows)


def egomotion(ego: Mapping[str, Any]) -> Rows:
    """Estimated motion compared with the commands."""
    errors = ego["errors_on_real_frames"]
    rows = []
    for quantity, frames in (("turn", ("real", "true", "wrong")), ("speed", ("real", "true"))):
        for kind, entry in (ego[quantity] or {}).items():
            own = errors[kind][quantity]
            for name in frames:
                response = entry[name]
                rows.append(
                    (
                        ego["turn_is"] if quantity == "turn" else "speed",
                        kind,
                        _FRAMES[name],
                        format_number(response["correlation"]),
                        format_number(response["gain"]),
                        format_number(response["bias"]),
                        format_number(response["delay"], ".1f"),
                        f"{own['rmse']:.2f} of {own['spread']:.2f}" if name == "real" and own else "",
                    )
                )
    heads = ("quantity", "estimator", "frames", "correlation", "gain", "bias", "delay (steps)", "held-out RMSE")
    return Rows(heads, rows)


def branches(found: Mapping[str, Any]) -> Rows:
    """PSNR against the true branches, and the true branch that each prediction is nearest to."""
    names = list(found["branches"])
    heads = ("branch", *(f"PSNR at step {step} (copied)" for step in found["steps"]), *(f"→ {name}" for name in names))
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
    """The training clips nearest to a few rollouts."""
    rows = [
        (clip["drive"], clip["nearest_drive"], f"{clip['dream_psnr']:.1f}", f"{clip['real_psnr']:.1f}")
        for clip in clips
    ]
    heads = ("rollout of", "nearest training clip", "PSNR (dB)", "PSNR of the real frames (dB)")
    return Rows(heads, rows)


def long_rollouts(long: Mapping[str, Any], hz: float) -> Rows:
    """The stability of long rollouts."""
    rows = [
        (
            str(entry["steps"]),
            f"{entry['steps'] / hz:.0f}",
            entry["verdict"],
            f"{entry['brightness']:.0f} of {entry['real_brightness']:.0f}",
            f"{entry['drift']:+.1f}",
            *(format_number(entry[name]) for name in ("contrast", "sharpness", "change")),
            _repetition(entry),
            f"{entry['ms_per_frame']:.1f}",
        )
        for entry in long["lengths"]
    ]
    heads = ("steps", "seconds", "verdict", "brightness", "drift (std)", "contrast", "sharpness", "change",
             "repetition", "ms per frame")  # fmt: skip
    return Rows(heads, rows)


def horizon_quality(quality: Mapping[str, Any]) -> Rows:
    """Quality of long rollouts by horizon."""
    rows = []
    for entry in quality["horizons"]:
        nearest, distances = entry["nearest"], entry["distances"]
        rows.append(
            [
                f"{entry['seconds']} s",
                *(format_number(entry[name]) for name in ("brightness", "contrast", "sharpness", "change")),
                " / ".join(format_number(value, "+.0f") for value in entry["octaves"]),
                peaks_text(entry["peaks"]),
                *(f"{distances[key]['frechet']:.0f}" for key in distances),
                *(_kernel_text(distances[key]) for key in distances),
                f"{format_number(nearest['dream_training'], '.1f')} ({format_number(nearest['real_training'], '.1f')})",
                f"{format_number(nearest['dream_context'], '.1f')} ({format_number(nearest['real_context'], '.1f')})",
                f"{entry['replayed']:.0%}",
            ]
        )
    if quality["real"]:
        distances = quality["real"]["distances"]
        given = [f"{distances[key]['frechet']:.0f}" for key in distances]
        kernel = [_kernel_text(distances[key]) for key in distances]
        rows.append(["real, other drives", *[MISSING] * 6, *given, *kernel, *[MISSING] * 3])
    heads = (
        "horizon", "brightness", "contrast", "sharpness", "change", "power by octave (dB), finest first", "peaks",
        "Fréchet, frames", "Fréchet, changes", "kernel, frames", "kernel, changes", "nearest training frame (dB; real)",
        "nearest context frame (dB; real)", "replayed",
    )  # fmt: skip
    return Rows(heads, rows)


def _kernel_text(distance: Mapping[str, float | None]) -> str:
    error = distance["kid_error"]
    return format_number(distance["kid"], ".1f") + ("" if error is None else f" ± {error:.1f}")


def trajectories(found: Mapping[str, Any]) -> Rows:
    """Displacements of trajectories by horizon."""
    kinds = {"dream": "rollout", "other_actions": "rollout, another clip's actions", "estimator": "estimator's error"}
    rows = [
        [
            f"{entry['seconds']} s",
            label,
            *(format_number(entry[kind][name]) for name in ("ade", "fde", "dtw", "frechet")),
        ]
        for entry in found["horizons"]
        for kind, label in kinds.items()
        if entry[kind] is not None
    ]
    return Rows(("horizon", "trajectory", "ADE (m)", "FDE (m)", "DTW (m)", "Fréchet, positions (m²)"), rows)


def samples(found: Mapping[str, Any]) -> Rows:
    """Sampled futures at a few steps, with confidence intervals."""
    count = found["count"]
    columns = {
        "PSNR, deterministic": ("deterministic_psnr", ".2f"),
        f"mean image of {count}": ("mean_image_psnr", ".2f"),
        "one sample": ("single_psnr", ".2f"),
        f"best of {count}": ("best_psnr", ".2f"),
        "spread": ("spread", ".1f"),
        "error of the mean image": ("error", ".1f"),
        "ratio": ("spread_error_ratio", ".2f"),
        "CRPS": ("crps", ".2f"),
        "absolute error, deterministic": ("deterministic_error", ".2f"),
        "correlation of spread and error": ("correlation", ".2f"),
    }
    rows = [
        (
            f"+{entry['step']}",
            *(format_with_interval(entry[name], entry[f"{name}_interval"], form) for name, form in columns.values()),
        )
        for entry in shown_steps(found)
    ]
    return Rows(("steps ahead", *columns), rows)


def frechet_sizes(distribution: Mapping[str, Any]) -> Rows:
    """Fréchet distances with a quarter, half and all of the samples, and extrapolated."""
    rows = []
    for key, entry in measured_distances(distribution).items():
        for size in entry["sizes"]:
            rows.append([FEATURES[key], f"{size['samples']:.0f}", *_distances(size)])
        rows.append([FEATURES[key], "∞", *_distances(entry["extrapolated"])])
    return Rows(("features", "samples", *DISTANCES), rows)


def frechet_bands(distribution: Mapping[str, Any]) -> Rows:
    """Fréchet distances by band of steps, for features of single frames."""
    rows = [
        [FEATURES[key], f"{band['first']} to {band['last']}", *_distances(band)]
        for key, entry in measured_distances(distribution).items()
        for band in entry.get("bands", ())
    ]
    return Rows(("features", "steps", *DISTANCES), rows)


def kernel_distances(distribution: Mapping[str, Any]) -> Rows:
    """Kernel distances with their standard errors, for all steps and by band of steps."""
    rows = []
    for key, entry in measured_distances(distribution).items():
        if "kid" in entry:
            kid = entry["kid"]
            rows.append([KERNEL_FEATURES[key], "all", f"{kid['samples']}", *_with_errors(kid)])
            for band in kid.get("bands", ()):
                steps = f"{band['first']} to {band['last']}"
                rows.append([KERNEL_FEATURES[key], steps, f"{band['samples']}", *_with_errors(band)])
    return Rows(("features", "steps", "samples", *DISTANCES), rows)


def octaves(spectrum: Mapping[str, Any]) -> Rows:
    """Power of the predicted frames relative to the real ones by octave and direction, and peaks, by band of steps."""
    heads = [f"{low} to {high} px" for low, high in spectrum["periods"]]
    rows = []
    for band in spectrum["bands"]:
        bounds = band["octaves_interval"] or [None] * len(heads)
        values = map(format_with_interval, band["octaves"], bounds, ["+.1f"] * len(heads))
        finest = " / ".join(format_number(value, "+.1f") for value in (band["directions"] or [[]])[0])
        rows.append([f"{band['first']} to {band['last']}", *values, finest, peaks_text(band["peaks"])])
    return Rows(("steps", *heads, "finest, horizontal / vertical / diagonal", "peaks"), rows)


def peaks_text(peaks: Sequence[Mapping[str, Any]]) -> str:
    """The strongest of the peaks of a spectrum in words."""
    if not peaks:
        return "none"
    return f"period {peaks[0]['period']:.1f} px, +{peaks[0]['excess']:.0f} dB"


def measured_distances(distribution: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The Fréchet distances that were measured, without those with only a reason why they were not."""
    return {key: distribution[key] for key in FEATURES if isinstance(distribution.get(key), Mapping)}


def _distances(entry: Mapping[str, float | None]) -> list[str]:
    return [format_number(entry[name]) for name in DISTANCES.values()]


def _with_errors(entry: Mapping[str, Any]) -> list[str]:
    errors = entry["errors"]
    return [
        format_number(entry[name]) + ("" if errors[name] is None else f" ± {format_number(errors[name])}")
        for name in DISTANCES.values()
    ]


def _repetition(entry: Mapping[str, Any]) -> str:
    if entry["repetition"] is None:
        return MISSING
    every = f", every {entry['period']:.0f} steps" if entry["period"] else ""
    return f"{entry['repetition']:.2f}{every}"


def _bounds(bounds: Sequence[float] | None) -> str:
    return "single drive" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
