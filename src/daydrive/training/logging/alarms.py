"""Alarms: what looks wrong in the figures of a training, said once, with what to try.

The rules are pure functions of one moment of the training; only `Watch` remembers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from daydrive.config import Config
from daydrive.errors import UserError

OUTPUT_TOLERANCE = 1e-3
"""An eighth of a grey level. The model's pictures are weighted means of values in [-1, 1], and beyond that
only rounding takes them."""

ACTIONS_DIFFER = 0.01
"""Mean absolute difference of two clips' actions below which neither can be mistaken for the other."""

CLIP_SPREAD = 0.7
"""Standard deviation of the loss from clip to clip, as a share of its mean: 0.3 on road and Udacity drives, and more
where cars often stand still."""

SIGNIFICANT, LEAST_SWING, WINDOW, RISES = 4.0, 1.1, 20, 3
"""A swing is that many standard deviations of a logged loss that only the choice of clips moves, and at least a tenth.
Three such rises within twenty log lines, with such falls between them, are an oscillation."""

STALE_VALIDATIONS = 2
"""Validations without a better one that there are at least before that is said, where epochs are short."""


class Alarm(NamedTuple):
    """name: of the rule; seen: the figures; advice: what to try, settings as overrides of the command line."""

    name: str
    seen: str
    advice: str

    @property
    def sentence(self) -> str:
        return f"alarm {self.name}: {self.seen}; to try: {self.advice}"


class Moment(NamedTuple):
    """What the rules look at.

    figures: those logged at `step` (of `total_steps`). losses: the newest `train/loss` since the training last changed
    by plan. best, best_step: of `val/psnr`; stale: validations since then; epochs: passes over the clips since then.
    """

    step: int
    total_steps: int
    metrics: dict[str, float]
    losses: Sequence[float]
    best: float
    best_step: int
    stale: int
    epochs: float


Said = tuple[str, str] | None
"""What was seen and what to try; None where all is well."""


class Rule(NamedTuple):
    """Judged at the moments that have all the figures it `needs`, and where they are finite."""

    name: str
    needs: tuple[str, ...]
    judge: Callable[[Moment, Config], Said]


@dataclass
class Memory:
    """raised: alarms that have not cleared, and their steps. losses: steps and values of the newest `train/loss` since
    the training last changed by plan. best, best_step: of `val/psnr`; stale: validations since then."""

    raised: dict[str, int] = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0
    stale: int = 0


class AlarmMonitor:
    """Raises each alarm once; again only when it has cleared, and not within `alarms.patience` epochs.

    state: of the checkpoint that a training goes on from, as `state()` gave it; UserError where it is something else.
    """

    def __init__(
        self, config: Config, total_steps: int, steps_per_epoch: float, state: dict[str, Any] | None = None
    ) -> None:
        self._config, self._total_steps, self._steps_per_epoch = config, total_steps, steps_per_epoch
        self._changes = planned_changes(config, total_steps, steps_per_epoch)
        try:
            self._memory = Memory(**(state or {}))
            self._memory.losses = [(step, loss) for step, loss in self._memory.losses]
        except (TypeError, ValueError) as error:
            raise UserError(f"the checkpoint's 'alarms' are not what a training saves ({error})") from None
        self._workers_started = False

    def observe(self, step: int, metrics: dict[str, float]) -> list[Alarm]:
        """What to say at `step`, at which `figures` were logged: `train/…`, `val/…`, `speed/…`, or some of them."""
        metrics = dict(metrics)
        if "speed/device_use" in metrics and not self._workers_started:
            self._workers_started = True
            del metrics["speed/device_use"]  # the first interval of a process holds the start of its workers
        memory = self._memory
        self._remember(step, metrics)
        moment = Moment(
            step,
            self._total_steps,
            metrics,
            [loss for _, loss in memory.losses],
            -math.inf if memory.best is None else memory.best,
            memory.best_step,
            memory.stale,
            (step - memory.best_step) / self._steps_per_epoch,
        )
        alarms = []
        for rule in RULES:
            if not all(math.isfinite(metrics.get(name, math.nan)) for name in rule.needs):
                continue
            said = rule.judge(moment, self._config)
            if said is None:
                self._clear(rule.name, step)
            elif rule.name not in memory.raised:
                memory.raised[rule.name] = step
                alarms.append(Alarm(rule.name, *said))
        return alarms

    def state(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self._memory)

    def _remember(self, step: int, metrics: dict[str, float]) -> None:
        memory, interval = self._memory, self._config.logging.log_interval
        loss = metrics.get("train/loss", math.nan)
        if step % interval == 0 and math.isfinite(loss) and loss > 0:
            memory.losses.append((step, loss))
        change = max((c for c in self._changes if c < step), default=0)
        memory.losses = [(at, loss) for at, loss in memory.losses if at - interval >= change][-WINDOW:]

        psnr = metrics.get("val/psnr", math.nan)
        if math.isfinite(psnr) and (memory.best is None or psnr > memory.best):
            memory.best, memory.best_step, memory.stale = psnr, step, 0
        elif "val/psnr" in metrics:
            memory.stale += 1

    def _clear(self, name: str, step: int) -> None:
        raised = self._memory.raised
        if name in raised and step - raised[name] >= self._config.alarms.patience * self._steps_per_epoch:
            del raised[name]


def planned_changes(config: Config, total_steps: int, steps_per_epoch: float) -> list[int]:
    """Steps after which the loss may go up by plan: the warmup's end, longer unrolls, harder clips."""
    changes = [config.scheduler.warmup_steps]
    changes += [math.ceil(phase.start * total_steps) for phase in config.training.unroll]
    curriculum = config.data.curriculum
    if curriculum is not None:
        ends = range(1, curriculum.phases + 1)
        changes += [math.ceil(end * curriculum.epochs_per_phase * steps_per_epoch) for end in ends]
    return changes


def rises(losses: Sequence[float], ratio: float) -> list[tuple[float, float]]:
    """Where a curve rises by more than `ratio` times, each rise from trough to peak, and falls as much in between.

    What is smaller than that counts for nothing, and so does how long it takes. losses: positive.
    """
    turns: list[float] = []
    low = high = losses[0] if losses else 1.0
    rising: bool | None = None
    for loss in losses:
        if rising is not True and loss > low * ratio:
            turns.append(low)
            rising, high = True, loss
        elif rising is not False and loss < high / ratio:
            turns.append(high)
            rising, low = False, loss
        low, high = min(low, loss), max(high, loss)
    if rising is not None:
        turns.append(high if rising else low)
    return [(before, after) for before, after in pairwise(turns) if after > before]


def swing(clips: int) -> float:
    """By how many times a mean loss over `clips` has to change to be no chance."""
    return max(LEAST_SWING, math.exp(SIGNIFICANT * CLIP_SPREAD / math.sqrt(clips)))


def _not_finite(moment: Moment, config: Config) -> Said:
    scaled = "train/loss_scale" in moment.metrics  # float16 overflows now and then, and skips that step
    bad = [
        name
        for name, value in moment.metrics.items()
        if not math.isfinite(value) and not (scaled and name == "train/grad_norm")
    ]
    if not bad:
        return None
    more = f" and {len(bad) - 1} more figures" if len(bad) > 1 else ""
    return f"{bad[0]} is {moment.metrics[bad[0]]} at step {moment.step}{more}", lower_rates(config)


def _low_psnr(moment: Moment, config: Config) -> Said:
    psnr, least = moment.metrics["val/psnr"], config.alarms.min_psnr
    if moment.step < moment.total_steps / 2 or psnr >= least:
        return None
    copied = moment.metrics.get("val/copy_last_psnr")
    baseline = "" if copied is None else f" (copying the last frame: {copied:.1f})"
    seen = (
        f"val/psnr is {psnr:.1f} dB{baseline} at step {moment.step} of {moment.total_steps}, below alarms.min_psnr = "
        f"{least:g}"
    )
    training = config.training
    longer = (
        f"training.max_steps={2 * training.max_steps}"
        if training.max_steps
        else f"training.num_epochs={2 * training.num_epochs}"
    )
    larger = [" ".join(config.model.larger())] if config.model.larger() else []
    return seen, "; ".join(["a better optimizer.lr, which scripts/find_lr.py looks for", longer, *larger])


def _overfitting(moment: Moment, config: Config) -> Said:
    train, val = moment.metrics["val/train_psnr"], moment.metrics["val/psnr"]
    if train - val <= config.alarms.max_gap:
        return None
    seen = (
        f"training clips are dreamed at {train:.1f} dB and validation clips at {val:.1f} dB: {train - val:.1f} dB "
        f"apart, with alarms.max_gap = {config.alarms.max_gap:g}"
    )
    ways = [*config.model.regularised(config.loss), _more_augmentation(config), "or more drives"]
    return seen, "; ".join(ways)


def _no_improvement(moment: Moment, config: Config) -> Said:
    if moment.stale < STALE_VALIDATIONS or moment.epochs < config.alarms.patience:
        return None
    seen = (
        f"val/psnr has not been better than {moment.best:.2f} dB (step {moment.best_step}) for {moment.epochs:.0f} "
        f"epochs, {moment.stale} validations, with alarms.patience = {config.alarms.patience}"
    )
    schedule = "" if config.scheduler.type == "cosine" else "scheduler.type=cosine; "
    return seen, f"ending here, with the checkpoint 'best'; {schedule}{lower_rates(config)}; or more drives"


def _oscillation(moment: Moment, config: Config) -> Said:
    training, interval = config.training, config.logging.log_interval
    ratio = swing(training.batch_size * training.gradient_accumulation * interval)
    found = rises(moment.losses, ratio)
    if len(found) < RISES:
        return None
    low, high = max(found, key=lambda rise: rise[1] / rise[0])
    seen = (
        f"train/loss went up {len(found)} times in {len(moment.losses)} log lines and down in between, by up to "
        f"{high / low - 1:.0%} ({low:.4g} to {high:.4g}), where other clips would move it by {ratio - 1:.0%} at most"
    )
    larger = f"training.gradient_accumulation={2 * training.gradient_accumulation}"
    return seen, f"{lower_rates(config)}; {larger}"


def _output_range(moment: Moment, config: Config) -> Said:
    largest = moment.metrics["val/output_max"]
    if largest <= 1 + OUTPUT_TOLERANCE:
        return None
    seen = f"the model's pictures reach {largest:.4g}, and should lie in [-1, 1]"
    model = "a model of your own has to end within it, as tanh does"
    return seen, f"training.use_amp=false, to see whether it is rounding; {model}" if config.training.use_amp else model


def _actions_ignored(moment: Moment, config: Config) -> Said:
    """From half of the training on: what is healthy, too, first learns to move pictures on and only then to obey (on
    road drives it was 1.6 dB better than copying when actions still cost it 0.02 dB)."""
    metrics, least = moment.metrics, config.alarms.min_action_cost
    cost = metrics["val/psnr"] - metrics["val/shuffled_actions_psnr"]
    alike = metrics.get("val/actions_spread", math.inf) < ACTIONS_DIFFER
    if moment.step < moment.total_steps / 2 or alike or cost >= least:
        return None
    seen = (
        f"another clip's actions cost the dream {cost:.2f} dB, less than alarms.min_action_cost = {least:g}: it "
        f"ignores the driver"
    )
    balance = config.data.balance
    strength = 0.5 if balance is None else min(1.0, balance.strength + 0.25)
    advice = (
        f"data.balance.strength={strength:g}, so that curves count; data.frame_skip={2 * config.data.frame_skip}, so "
        f"that an action shows; scripts/show_batch.py, to see whether actions and pictures belong together"
    )
    return seen, advice


def _starving(moment: Moment, config: Config) -> Said:
    use, data = moment.metrics["speed/device_use"], config.data
    if use >= config.alarms.min_device_use:
        return None
    seen = (
        f"the device computed {use:.0%} of the time and waited for data in the rest, with alarms.min_device_use = "
        f"{config.alarms.min_device_use:g}"
    )
    pin = "" if data.pin_memory else "data.pin_memory=true; "
    advice = (
        f"data.num_workers={max(2, 2 * data.num_workers)}; training.batch_size={2 * config.training.batch_size}; "
        f"{pin}a store on a faster disk (SSD)"
    )
    return seen, advice


def lower_rates(config: Config, by: float = 2) -> str:
    """Overrides that divide every learning rate, and clip gradients where they are hardly clipped."""
    optimizer = config.optimizer
    names = [name for name in ("lr", "encoder_lr", "dynamics_lr", "decoder_lr") if getattr(optimizer, name)]
    overrides = [f"optimizer.{name}={getattr(optimizer, name) / by:g}" for name in names]
    if config.scheduler.min_lr > optimizer.lr / by:
        overrides.append(f"scheduler.min_lr={optimizer.lr / by:g}")
    if config.training.max_grad_norm > 1:
        overrides.append("training.max_grad_norm=1.0")
    return " ".join(overrides)


def _more_augmentation(config: Config) -> str:
    now = config.data.augmentation
    change = 0.3 if now is None else min(0.9, max(0.3, now.brightness + 0.1, now.contrast + 0.1))
    light = f"data.augmentation.brightness={change:g} data.augmentation.contrast={change:g}"
    crops = now is not None and now.crop_scale[0] <= 0.7
    return light if crops else f"{light} data.augmentation.crop_scale=[0.7,1.0]"


RULES = (
    Rule("not_finite", (), _not_finite),
    Rule("low_psnr", ("val/psnr",), _low_psnr),
    Rule("overfitting", ("val/psnr", "val/train_psnr"), _overfitting),
    Rule("no_improvement", ("val/psnr",), _no_improvement),
    Rule("oscillation", ("train/loss",), _oscillation),
    Rule("output_range", ("val/output_max",), _output_range),
    Rule("actions_ignored", ("val/psnr", "val/shuffled_actions_psnr"), _actions_ignored),
    Rule("starving", ("speed/device_use",), _starving),
)
