"""Alarms: each has a planted cause, and a healthy training raises none."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from daydrive.config import Config, as_tree, load_config, parse_config
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.training import validation
from daydrive.training.context import DevicePrefetcher
from daydrive.training.distributed import DistributedContext
from daydrive.training.engine import Engine
from daydrive.training.logging.alarms import RULES, Alarm, AlarmMonitor, planned_changes, rises, swing
from daydrive.training.logging.meter import ThroughputMeter
from daydrive.training.resume import fit_to_store
from daydrive.types import Batch
from helpers.tiny_training import TINY_TRAINING

ALONE = DistributedContext.single(torch.device("cpu"))

HEALTHY_LOSSES = [
    0.1345, 0.1081, 0.0986, 0.0921, 0.0873, 0.0849, 0.0804, 0.0786, 0.0791, 0.0886, 0.0912, 0.0877, 0.0876, 0.0922,
    0.1015, 0.0982, 0.0976,
]  # fmt: skip
"""Of a road-world training of 850 steps, logged every 50; the unroll grows at 425 and at 680."""

HEALTHY_PSNR = {250: (25.29, 24.16), 500: (25.50, 24.41), 750: (26.34, 24.87), 850: (26.51, 24.95)}
"""`val/psnr`, and the PSNR with another clip's actions; copying gives 22.75."""


def settings(**sections: dict[str, object]) -> Config:
    return parse_config(sections)


def healthy_metrics() -> Iterator[tuple[int, dict[str, float]]]:
    for line, loss in enumerate(HEALTHY_LOSSES, start=1):
        metrics = {"train/loss": loss, "train/grad_norm": 0.5, "speed/device_use": 0.97 if line > 1 else 0.5}
        if 50 * line in HEALTHY_PSNR:
            psnr, shuffled = HEALTHY_PSNR[50 * line]
            metrics |= {
                "val/psnr": psnr,
                "val/shuffled_actions_psnr": shuffled,
                "val/copy_last_psnr": 22.75,
                "val/train_psnr": psnr + 1.5,
                "val/output_max": 0.99997,
                "val/actions_spread": 0.15,
            }
        yield 50 * line, metrics


HEALTHY = settings(
    training={
        "batch_size": 8,
        "max_steps": 850,
        "unroll": [{"start": 0.0, "steps": 2}, {"start": 0.5, "steps": 4}, {"start": 0.8, "steps": 6}],
    },
    scheduler={"warmup_steps": 50},
    logging={"log_interval": 50, "eval_interval": 250},
)


def validations(watch: AlarmMonitor, *psnr: float, every: int = 100, **others: float) -> list[list[str]]:
    """The names of the alarms after each validation."""
    named = {f"val/{name}": value for name, value in others.items()}
    return [
        [alarm.name for alarm in watch.observe(every * i, {"val/psnr": value, **named})]
        for i, value in enumerate(psnr, start=1)
    ]


def only(alarms: list[Alarm], name: str) -> Alarm:
    assert [alarm.name for alarm in alarms] == [name]
    return alarms[0]


@pytest.fixture(scope="module")
def tiny(road_store: Path) -> tuple[Config, Store]:
    store = Store.open(road_store)
    return fit_to_store(parse_config(TINY_TRAINING), store), store


def validated(config: Config, store: Store) -> validation.Validation:
    data = config.data
    held_out, trained = (ClipIndex(store, split, data.sequence_length, data.frame_skip) for split in ("val", "train"))
    return validation.Validation(held_out, trained, config, ALONE)


@pytest.fixture
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VALIDATION_CLIPS", "TRAINING_CLIPS"):
        monkeypatch.setattr(validation, name, 4)


@pytest.fixture
def engine(tiny: tuple[Config, Store]) -> Engine:
    return Engine(tiny[0], ALONE)


def test_healthy_training_raises_no_alarms() -> None:
    watch = AlarmMonitor(HEALTHY, 850, 1200)
    assert [watch.observe(step, metrics) for step, metrics in healthy_metrics()] == [[]] * 17


def test_resumed_training_raises_each_alarm_once() -> None:
    def metrics_of(step: int) -> dict[str, float]:
        swinging = {"train/loss": 3.0 if step % 4 else 1.0}
        return swinging | ({"val/psnr": 20.0, "val/train_psnr": 20.0 + step / 40} if step % 20 == 0 else {})

    config = settings(
        scheduler={"warmup_steps": 0}, logging={"log_interval": 1}, training={"batch_size": 64}, alarms={"patience": 2}
    )
    whole, parted = AlarmMonitor(config, 200, 10), AlarmMonitor(config, 200, 10)
    raised, resumed = [], []
    for step in range(1, 201):
        raised += [(step, alarm.name) for alarm in whole.observe(step, metrics_of(step))]
        resumed += [(step, alarm.name) for alarm in parted.observe(step, metrics_of(step))]
        if step % 7 == 0:
            parted = AlarmMonitor(config, 200, 10, json.loads(json.dumps(parted.state())))
    assert resumed == raised
    assert sorted(name for _, name in raised) == ["low_psnr", "no_improvement", "oscillation", "overfitting"]


def test_damaged_state_is_reported() -> None:
    with pytest.raises(UserError, match="'alarms' are not a training state"):
        AlarmMonitor(HEALTHY, 850, 1200, {"rised": {}})
    with pytest.raises(UserError, match="'alarms' are not a training state"):
        AlarmMonitor(HEALTHY, 850, 1200, {"losses": [1.0]})


def test_alarm_repeats_only_after_clearing_and_patience() -> None:
    config = settings(alarms={"patience": 3, "min_psnr": 0})

    def watched(*gaps: float) -> list[int]:
        watch = AlarmMonitor(config, 10_000, 100)
        metrics = [{"val/psnr": 20.0 + i, "val/train_psnr": 20.0 + i + gap} for i, gap in enumerate(gaps)]
        return [100 * i for i, one in enumerate(metrics) if watch.observe(100 * i, one)]

    assert watched(3, 3, 3, 3, 3, 3) == [0]
    assert watched(3, 1, 3, 3, 3, 3) == [0]
    assert watched(3, 1, 3, 1, 3, 3) == [0, 400]


def test_non_finite_metrics_are_named(tiny: tuple[Config, Store], engine: Engine) -> None:
    config, store = tiny
    batch = read_clips(store, [ClipIndex(store, "train", 6).clip(i) for i in (0, 30)])
    batch.actions[1, 4, 0] = math.nan
    with torch.no_grad():
        loss = float(engine.evaluate(batch).parts["loss"].mean())
    alarm = only(AlarmMonitor(config, 12, 5).observe(3, {"train/psnr": 20.0, "train/loss": loss}), "not_finite")
    assert alarm.seen == "train/loss is nan at step 3"
    assert "optimizer.lr=0.0015" in alarm.advice


def test_non_finite_metrics_raise_no_other_alarm() -> None:
    nothing = {name: math.nan for rule in RULES for name in rule.needs}
    alarm = only(AlarmMonitor(HEALTHY, 850, 1200, {"stale": 9}).observe(800, nothing), "not_finite")
    assert alarm.seen.endswith(f"at step 800 and {len(nothing) - 2} more metrics")


def test_step_skipped_in_float16_raises_no_alarm() -> None:
    overflow = {"train/loss": 1.0, "train/grad_norm": math.inf}
    assert AlarmMonitor(HEALTHY, 850, 1200).observe(50, overflow | {"train/loss_scale": 32768.0}) == []
    only(AlarmMonitor(HEALTHY, 850, 1200).observe(50, overflow), "not_finite")


@pytest.mark.usefixtures("few_clips")
def test_low_psnr_is_reported_after_half_of_the_training(tiny: tuple[Config, Store], engine: Engine) -> None:
    config, store = tiny
    with torch.no_grad():
        engine.model.decoder.motion_head.conv.bias.fill_(1.0)  # paints over everything
    metrics = validated(config, store).run(engine).metrics
    early, late = AlarmMonitor(config, 100, 50), AlarmMonitor(config, 100, 50)
    assert "low_psnr" not in [alarm.name for alarm in early.observe(49, metrics)]
    found = {alarm.name: alarm for alarm in late.observe(50, metrics)}
    psnr, copied = metrics["val/psnr"], metrics["val/copy_last_psnr"]
    assert (
        f"val/psnr is {psnr:.1f} dB (copying the last frame: {copied:.1f}) at step 50 of 100" in found["low_psnr"].seen
    )
    assert "training.max_steps=24" in found["low_psnr"].advice


def test_overfitting() -> None:
    seen = {"val/psnr": 24.0, "val/train_psnr": 28.0}
    alarm = only(AlarmMonitor(settings(alarms={"min_psnr": 0}), 1000, 10).observe(100, seen), "overfitting")
    assert "28.0 dB and validation clips with 24.0 dB: 4.0 dB apart" in alarm.seen
    assert "loss.latent_reg_weight=0.05; model.dynamics.dropout=0.2" in alarm.advice
    assert AlarmMonitor(settings(), 1000, 10).observe(100, seen | {"val/train_psnr": 26.0}) == []


def test_no_improvement_for_patience_epochs() -> None:
    config = settings(alarms={"patience": 4, "min_psnr": 0})
    rising = validations(AlarmMonitor(config, 10_000, 50), *[20 + 0.01 * i for i in range(20)])
    assert rising == [[]] * 20
    stuck = validations(AlarmMonitor(config, 10_000, 50), 20, 21, 20.9, 21, 20.8, 22, 21, 21, 21, 23)
    assert stuck == [[], [], [], ["no_improvement"], [], [], [], ["no_improvement"], [], []]
    patient = validations(AlarmMonitor(config, 10_000, 200), 20, 21, *[20.5] * 9)
    assert patient == [[]] * 9 + [["no_improvement"], []]


def test_no_improvement_needs_two_validations() -> None:
    config = settings(alarms={"patience": 10, "min_psnr": 0})
    assert validations(AlarmMonitor(config, 10_000, 1), 20, 21, 20.9, 22, 21.9, 23) == [[]] * 6


def test_oscillation_counts_rises_from_trough_to_peak() -> None:
    assert rises([], 1.5) == []
    assert rises([5, 4, 3, 2.5, 2.4, 2.5, 2.4], 1.5) == []
    assert rises([5, 2, 3, 4, 3.5, 2, 1, 3], 1.5) == [(2, 4), (1, 3)]
    assert rises([1, 2, 3], 1.5) == [(1, 3)]
    assert rises([1.0, 1.4, 1.0, 1.4], 1.5) == []


def test_too_high_learning_rate_oscillates(tiny: tuple[Config, Store]) -> None:
    """Plain SGD on real drives, at a rate that learns and at one that is far too high."""
    _, store = tiny
    index = ClipIndex(store, "train", 5)
    clips = read_clips(store, [index.clip(i * len(index) // 24) for i in range(24)]).split(4)

    def alarms(rate: float) -> list[str]:
        tree = as_tree(tiny[0])
        tree["optimizer"] = {"type": "sgd", "lr": rate}
        tree["scheduler"] = {"type": "constant", "warmup_steps": 0, "min_lr": 0}
        tree["training"] |= {"batch_size": 4, "gradient_accumulation": 1, "use_amp": False, "unroll": []}
        tree["logging"]["log_interval"] = 1
        config = parse_config(tree)
        engine, watch = Engine(config, ALONE), AlarmMonitor(config, 1000, 1000)
        named: list[str] = []
        for step in range(1, 25):
            loss = engine.evaluate(clips[step % len(clips)]).loss
            loss.backward()
            engine.clip_gradients()
            engine.update()
            named += [alarm.name for alarm in watch.observe(step, {"train/loss": float(loss.detach())})]
        return named

    assert alarms(1e-2) == []
    assert alarms(30.0) == ["oscillation"]


@pytest.mark.parametrize("spread", [0.3, 0.7])
@pytest.mark.parametrize("interval", [1, 50])
def test_random_clips_are_not_oscillation(spread: float, interval: int) -> None:
    config = settings(
        training={"batch_size": 8}, scheduler={"warmup_steps": 0}, logging={"log_interval": interval},
        alarms={"min_psnr": 0},
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    noise = spread / math.sqrt(8 * interval)
    watch = AlarmMonitor(config, 10**6, 10**6)
    for line in range(1, 400):
        loss = max(0.05, (0.1 + 1 / line) * (1 + noise * float(torch.randn((), generator=draw))))
        assert watch.observe(interval * line, {"train/loss": loss}) == []


def test_longer_unrolls_are_not_oscillation() -> None:
    tree = as_tree(settings(data={"curriculum": {"phases": 3, "epochs_per_phase": 2}}))
    tree["training"]["unroll"] = [{"start": 0.25, "steps": 2}, {"start": 0.5, "steps": 4}]
    tree["logging"]["log_interval"] = 10
    tree["scheduler"]["warmup_steps"] = 20
    config = parse_config(tree)
    assert planned_changes(config, 400, 50) == [20, 100, 200, 100, 200, 300]

    def curve(step: int, period: int) -> float:
        return 2.0 - step % period / period

    def named(period: int) -> list[str]:
        watch = AlarmMonitor(config, 400, 50)
        lines = [watch.observe(step, {"train/loss": curve(step, period)}) for step in range(10, 401, 10)]
        return [alarm.name for alarms in lines for alarm in alarms]

    assert named(100) == []
    assert named(30) == ["oscillation"]


def test_swing_must_exceed_the_variation_between_clips() -> None:
    assert swing(8) == pytest.approx(math.exp(2.8 / math.sqrt(8)))
    assert swing(100_000) == 1.1


@pytest.mark.usefixtures("few_clips")
def test_images_out_of_range(tiny: tuple[Config, Store], engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    config, store = tiny
    validate = validated(config, store).run
    healthy = validate(engine).metrics
    assert healthy["val/output_max"] <= 1 + 1e-6
    assert "output_range" not in [alarm.name for alarm in AlarmMonitor(config, 100, 50).observe(10, healthy)]

    motion = engine.model.decoder.motion
    monkeypatch.setattr(engine.model.decoder, "motion", lambda *x: (m := motion(*x))._replace(content=m.content + 9))
    metrics = validate(engine).metrics
    found = {alarm.name: alarm for alarm in AlarmMonitor(config, 100, 50).observe(10, metrics)}
    assert f"reach {metrics['val/output_max']:.4g}" in found["output_range"].seen


@pytest.mark.usefixtures("few_clips")
def test_ignored_actions(tiny: tuple[Config, Store], engine: Engine) -> None:
    config, store = tiny
    with torch.no_grad():
        engine.model.dynamics.embed[0].weight.zero_()
    metrics = validated(config, store).run(engine).metrics
    assert metrics["val/shuffled_actions_psnr"] == pytest.approx(metrics["val/psnr"], abs=1e-4)
    found = {alarm.name: alarm for alarm in AlarmMonitor(config, 100, 50).observe(50, metrics)}
    assert "cost the prediction" in found["actions_ignored"].seen
    assert "data.frame_skip=2" in found["actions_ignored"].advice


@pytest.mark.parametrize(
    ("step", "changed"),
    [(40, {}), (60, {"val/actions_spread": 0.0}), (60, {"val/shuffled_actions_psnr": 25.0})],
    ids=["early", "all drive alike", "obeys"],
)
def test_used_actions_raise_no_alarm(step: int, changed: dict[str, float]) -> None:
    ignoring = {"val/psnr": 26.0, "val/shuffled_actions_psnr": 26.0, "val/actions_spread": 0.1}
    only(AlarmMonitor(HEALTHY, 100, 50).observe(60, ignoring), "actions_ignored")
    assert AlarmMonitor(HEALTHY, 100, 50).observe(step, ignoring | changed) == []


def test_slow_loader(tiny: tuple[Config, Store]) -> None:
    config, store = tiny
    batch = read_clips(store, [ClipIndex(store, "train", 6).clip(0)])

    class Slow:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def __iter__(self) -> Iterator[Batch]:
            while True:
                time.sleep(self.seconds)
                yield batch

    def alarms(loading: float) -> list[list[Alarm]]:
        prefetcher, speed, watch = (
            DevicePrefetcher(Slow(loading), ALONE.device, 1),
            ThroughputMeter(ALONE, 1),
            AlarmMonitor(config, 1000, 100),
        )
        raised = []
        for step in range(3, 12, 3):
            for _ in range(3):
                with speed.step():
                    next(prefetcher)
                    time.sleep(0.01)
            raised.append(watch.observe(step, speed.take(prefetcher.waited)))
        return raised

    first, second, third = alarms(loading=0.05)
    assert first == third == []
    alarm = only(second, "starving")
    assert re.search(r"the device computed [1-4]?\d% of the time", alarm.seen)
    assert alarm.advice.startswith("data.num_workers=2; training.batch_size=4; data.pin_memory=true")
    assert alarms(loading=0.0) == [[], [], []]


@pytest.mark.parametrize(("accuracy", "advice"), [(0.999, "lr=0.0006"), (0.8, ""), (0.5, "lr=0.0024")])
def test_critic_that_wins_or_guesses(accuracy: float, advice: str) -> None:
    config = parse_config({"training": {"self_rollout": {"critic": {}}}})
    alarms = AlarmMonitor(config, 100, 10).observe(50, {"train/critic_accuracy": accuracy})
    assert [alarm.name for alarm in alarms] == (["critic_unbalanced"] if advice else [])
    assert all(f"training.self_rollout.critic.{advice}; " in alarm.advice for alarm in alarms)


def test_advice_is_valid_as_overrides(tmp_path: Path) -> None:
    """Every `section.key=value` in it is valid and changes a setting."""
    everything_wrong = {
        "train/loss": 1.0, "train/grad_norm": math.nan, "val/psnr": 15.0, "val/train_psnr": 20.0,
        "val/shuffled_actions_psnr": 15.0, "val/output_max": 2.0, "speed/device_use": 0.1,
        "train/critic_accuracy": 0.999,
    }  # fmt: skip
    trees = [{}, TINY_TRAINING, {"optimizer": {"encoder_lr": 1e-5}, "training": {"max_grad_norm": 5}}]
    trees += [{"scheduler": {"min_lr": 9e-5, "type": "linear"}, "data": {"augmentation": {"crop_scale": [0.5, 1]}}}]
    for tree in trees:
        file = tmp_path / "config.yaml"
        lanes = {"self_rollout": {"critic": {}}}
        training, data = {**tree.get("training", {}), **lanes}, {**tree.get("data", {}), "sequence_length": 10}
        file.write_text(yaml.safe_dump({**tree, "training": training, "data": data, "logging": {"log_interval": 1}}))
        config = load_config(file)
        swinging = [(step, 1.0 + 99 * (step % 2)) for step in range(1990, 2000)]
        watch = AlarmMonitor(config, 10, 1, {"losses": swinging, "best": 20.0, "stale": 5})
        watch.observe(2000, {"speed/device_use": 1.0})
        alarms = watch.observe(2001, everything_wrong)
        assert [alarm.name for alarm in alarms] == [rule.name for rule in RULES]
        for alarm in alarms:
            assert alarm.sentence.startswith(f"alarm {alarm.name}: {alarm.seen}; to try: ")
            overrides = re.findall(r"\b[a-z]+\.[a-z_.]+=[^\s;,]+(?:,[\d.]+\])?", alarm.advice)
            assert overrides or alarm.name == "output_range"
            for override in overrides:
                others = [o for o in overrides if o.startswith(("optimizer.", "scheduler.", "data.augmentation."))]
                assert load_config(file, [override, *others]) != config, override
