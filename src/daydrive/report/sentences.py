"""Sentences that describe the results of an evaluation, beside its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.report.rows import FEATURES, measured_distances

ABOUT_FRECHET = (
    "Fréchet distance to the real frames of the same clips; lower is better. It is biased upwards for few samples: "
    "compare it with real frames of other drives with as many samples, and with the extrapolation to infinity (∞)."
)

ABOUT_KERNEL = (
    "Kernel distance of the same features (the estimate of KID, whose published values are of Inception's features "
    "only); it is not biased by the number of samples, 0 means equal. ±: standard error over groups of clips."
)
ABOUT_SPECTRUM = (
    "Power of the predicted frames relative to the real ones in dB, by period in pixels and by direction; 0 is right, "
    "-6 is half the contrast. Unlike the sharpness it is not fooled by a grid or by streaks: a grid is a "
    "peak, a single frequency far above its surroundings."
)
RATIO_TOLERANCE = 0.15
"""Deviation of the ratio of spread and error from 1 up to which samples count as calibrated."""


def headline(evaluation: Mapping[str, Any]) -> str:
    """The evaluated clips."""
    return (
        f"{evaluation['clips']} clips of split '{evaluation['split']}', "
        f"{evaluation['context']} frames of context, {evaluation['hz']:g} Hz"
    )


def usable_sentence(evaluation: Mapping[str, Any]) -> str:
    """Usable seconds and their interval."""
    bounds = evaluation["usable_seconds_interval"]
    interval = f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else " (no interval for a single drive)"
    seconds = len(evaluation["horizons"]) / evaluation["hz"]
    return (
        f"Usable seconds: {evaluation['usable_seconds']:.2f}{interval}. For this time a rollout is better than every "
        f"baseline on average; {evaluation['usable_to_the_end']:.0%} of the rollouts are for the whole {seconds:.1f} s."
    )


def realistic_sentence(evaluation: Mapping[str, Any]) -> str:
    """Realistic seconds and their interval; empty for evaluations of earlier versions."""
    if "realistic_seconds" not in evaluation:
        return ""
    bounds = evaluation["realistic_seconds_interval"]
    interval = f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else ""
    return (
        f"Realistic seconds: {evaluation['realistic_seconds']:.2f}{interval}. For this time a rollout has the detail "
        "and the motion of real frames and is nearer to the right place than a copy of the last frame; a blurred mean "
        "of all futures is not realistic."
    )


def verdict_sentence(evaluation: Mapping[str, Any]) -> str:
    """The verdict of the controllability scorecard; empty without one."""
    if "controllability" not in evaluation:
        return ""
    scores = evaluation["controllability"]
    mark = scores["mark"]
    return f"Controllability: the model {scores['verdict']}; {mark['passed']} of {mark['of']} checks passed."


def long_sentence(evaluation: Mapping[str, Any]) -> str:
    """The verdicts on long rollouts; empty without any."""
    if "long_dreams" not in evaluation:
        return ""
    hz = evaluation["hz"]
    ends = [
        f"after {entry['steps'] / hz:.0f} s it {entry['verdict']}" for entry in evaluation["long_dreams"]["lengths"]
    ]
    return f"Long rollouts: {', '.join(ends)}."


ABOUT_SAMPLES = (
    "PSNR in dB, errors in grey levels of 255. The ratio of spread and error is 1 for samples that differ as much as "
    "they are wrong. The CRPS of samples compares with the absolute error of a single prediction; lower is better. The "
    "correlation is that of the spread with the error of the deterministic rollout over the blocks of an image: "
    "whether samples differ where the future is open. The best of several is better than one by selection alone, and "
    "noise of the right size is calibrated, too: look at the samples."
)


def samples_sentence(evaluation: Mapping[str, Any]) -> str:
    """Whether sampled futures differ as much as they are wrong, or why none are measured; empty without any."""
    found = evaluation.get("samples")
    if not isinstance(found, Mapping):
        return f"Sampled futures: {found}." if found else ""
    first, last, hz = found["horizons"][0], found["horizons"][-1], evaluation["hz"]
    return (
        f"Sampled futures: {found['count']} samples of {found['clips']} clips differ by {first['spread']:.1f} levels "
        f"after {first['step'] / hz:.1f} s and by {last['spread']:.1f} after {last['step'] / hz:.1f} s, where their "
        f"mean is wrong by {last['error']:.1f}{_calibration(last['spread_error_ratio'])}."
    )


def _calibration(ratio: float | None) -> str:
    if ratio is None:
        return ""
    if abs(ratio - 1) <= RATIO_TOLERANCE:
        return f" (ratio {ratio:.2f}: calibrated)"
    return f" (ratio {ratio:.2f}: too {'sure' if ratio < 1 else 'unsure'})"


def about_branches(branches: Mapping[str, Any]) -> str:
    """Explains the table of branches."""
    return (
        f"From {branches['moments']} moments, the simulator and the model continue with five different actions. The "
        "columns on the right: the true branch that the prediction of each branch is nearest to."
    )


def about_nearest(clips: Sequence[Mapping[str, Any]]) -> str:
    """Whether any of a few rollouts replays a training clip."""
    replays = [clip for clip in clips if clip["replayed"]]
    count = f"{len(replays)} of these {len(clips)}" if replays else f"None of these {len(clips)}"
    return (
        f"{count} rollouts replay a clip of the training drives. PSNR to the nearest clip of another training drive, "
        f"mean over the first {clips[0]['steps']} frames, for the rollout and for the real frames; a replay "
        "is much nearer than the real frames."
    )


def about_long_rollouts(long: Mapping[str, Any]) -> str:
    """Explains the table of long rollouts, and whether the cost per frame grows."""
    clips = long["lengths"][0]["clips"]
    message = (
        f"The last tenth of rollouts from the start of {clips} drives, with their actions repeated, compared with the "
        "real frames: brightness in levels (0 to 255), its drift in standard deviations of the real drive, the "
        "others relative to the real drive."
    )
    if long["later_cost"] is None:
        return message
    growth = "constant" if long["cost_is_flat"] else "not constant"
    return f"{message} A late frame takes {long['later_cost']:.2f} times as long as an early one: {growth} cost."


def about_horizons(quality: Mapping[str, Any]) -> str:
    """Explains the table of quality by horizon."""
    return (
        f"{quality['clips']} drives continued to a minute: the frames of the second before each horizon, relative to "
        "all real frames of these drives; distances to these frames, whose scale is that of real frames of as many "
        "other drives; and the nearest training and context frames. Frames much nearer to one than real frames are "
        "count as replayed."
    )


def about_trajectories(found: Mapping[str, Any] | str) -> str:
    """Explains the trajectories and states the error of their estimator, or why there are none."""
    if isinstance(found, str):
        return f"Trajectories: {found}."
    speed, yaw = found["estimator"]["speed"], found["estimator"]["yaw_rate"]
    turn = f", of the yaw rate {yaw['correlation']:.2f} ({yaw['rmse']:.3f} of {yaw['spread']:.3f} rad/s)" if yaw else ""
    return (
        f"Positions read from the frames of {found['clips']} clips by an estimator that is not the model's, compared "
        "with its reading of the real frames: average and final displacement, mean distance after dynamic time "
        "warping, and a Fréchet distance between the sets of trajectories. On real frames the correlation of its speed "
        f"is {speed['correlation']:.2f} (root mean square error {speed['rmse']:.1f} of {speed['spread']:.1f} m/s)"
        f"{turn}."
    )


def about_features(distribution: Mapping[str, Any]) -> list[str]:
    """The Fréchet distances that are not measured, and the features and reference clips of the others."""
    absent = [f"{FEATURES[key]}: {distribution[key]}." for key in FEATURES if isinstance(distribution.get(key), str)]
    distances = measured_distances(distribution)
    features = "; ".join(f"{FEATURES[key]}: {entry['features']}" for key, entry in distances.items())
    split = distribution["other_split"]
    clips = f"{distribution['other_clips']} clips of '{split}'" if split else "no other split has clips this long"
    return [*absent, f"Features: {features}. Other drives: {clips}."]


def human(choices: Mapping[str, Any]) -> str:
    """What a person was asked, and how likely such an uneven result is by chance."""
    return (
        f"In {len(choices['rounds'])} drives a person drove both models side by side with the same commands and chose "
        f"the better one, without knowing which was which; p = {choices['p_value']:.3f} if both are equally good."
    )


DECISIONS = {"plan": "Planning in the model", "learn-policy": "Learned policies", "rank": "Ranking of drivers"}
"""Headings by command."""


def about_decisions(entry: Mapping[str, Any]) -> str:
    """What the results of `daydrive plan`, `learn-policy` or `rank` mean."""
    sentence = {"plan": _planning, "learn-policy": _policies, "rank": _ranking}[entry["command"]]
    results = entry["results"]
    step = "" if results["training_step"] is None else f", {results['training_step']} steps of training"
    return f"{sentence(results)} (model: {results['checkpoint']}{step}; results: {entry['folder']})."


def _planning(results: Mapping[str, Any]) -> str:
    own, ceiling = (results["drivers"][name] for name in ("world_model", "simulator"))
    return (
        f"On {results['roads']} unseen roads of the true simulator, planning in the model keeps the car in its lane "
        f"for {own['lane_share']:.0%} of the time, where the same planner in the simulator itself keeps it there for "
        f"{ceiling['lane_share']:.0%}, and takes {own['ms_per_decision']:.0f} ms per decision"
    )


def _policies(results: Mapping[str, Any]) -> str:
    found = results["policies"]
    own, cloning = found["world_model"]["recovered_share"], found["cloning"]["recovered_share"]
    times = f"{own / cloning:.1f} times as many as cloning alone" if cloning else "cloning alone from none"
    return (
        f"On {len(results['roads'])} unseen roads of the true simulator, in which it was not learned, the policy from "
        f"the model returns to its lane from {own:.0%} of the displaced starts, {times}"
    )


def _ranking(results: Mapping[str, Any]) -> str:
    found = results["horizons"][results["main_horizon"]]
    by_seed = [f"{each['spearman']:.2f}" for each in found["by_seed"]]
    seeds = f" (by seed {', '.join(by_seed)})" if len(by_seed) > 1 else ""
    return (
        f"Over {results['main_horizon']} s on {results['roads']} roads the model orders {len(found['lane_error'])} "
        f"drivers as the true simulator does with a rank correlation (Spearman) of {found['spearman']:.2f}{seeds}: 1 "
        f"is the same order, 0 is unrelated; it is {found['cheat_spearman']:.2f} if the drivers' actions are ignored, "
        "which has to be near 0"
    )


def provenance(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of the manifest and the names of the held-out drives."""
    return {**evaluation["manifest"], "held-out drives": evaluation["held"]}
