"""Alarms: rules that find problems in the metrics of a training, each reported once with advice.

The rules are pure functions of one moment of the training; only `AlarmMonitor` has a state.
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
"""An eighth of a grey level. The model's images are weighted means of values in [-1, 1], which only rounding can
exceed."""

ACTIONS_DIFFER = 0.01
"""Mean absolute difference of two clips' actions below which they are considered the same."""

CLIP_SPREAD = 0.7
"""Standard deviation of the loss between clips, as a fraction of its mean: 0.3 on road and Udacity drives, more where
cars often stand still."""

SIGNIFICANT, MIN_SWING, WINDOW, RISES = 4.0, 1.1, 20, 3
"""A swing is SIGNIFICANT standard deviations of a logged loss that varies only with the choice of clips, and at least a
tenth. RISES such rises within WINDOW log lines, with such falls in between, are an oscillation."""

CRITIC_WINS, CRITIC_GUESSES = 0.98, 0.51
"""Shares of windows that the critic tells apart, above which it gives the model no useful gradient, and below which it
has learned nothing."""

STALE_VALIDATIONS = 2
"""Minimum number of validations without improvement before an alarm, where epochs are short."""


class Alarm(NamedTuple):
    """name: of the rule. seen: the values that raised it. advice: what to try; settings as overrides of the command
    line."""

    name: str
    seen: str
    advice: str

    @property
    def sentence(self) -> str:
        return f"alarm {self.name}: {self.seen}; to try: {self.advice}"


class Moment(NamedTuple):
    """The input of the rules.

    metrics: those logged at `step` (of `total_steps`). losses: the newest `train/loss` since the last planned change
    of the training. best, best_step: of `val/psnr`. stale: validations since then. epochs: passes over the clips
    since then.
    """

    step: int
    total_steps: int
    metrics: dict[str, float]
    losses: Sequence[float]
    best: float
    best_step: int
    stale: int
    epochs: float


Finding = tuple[str, str] | None
"""The observation and the advice; None without a problem."""


class Rule(NamedTuple):
    """A rule is evaluated when all metrics that it `needs` are logged and finite."""

    name: str
    needs: tuple[str, ...]
    evaluate: Callable[[Moment, Config], Finding]


@dataclass
class AlarmHistory:
    """State of an `AlarmMonitor`.

    raised: alarms that have not cleared, and their steps. losses: steps and values of the newest `train/loss` since
    the last planned change of the training. best, best_step: of `val/psnr`. stale: validations since then.
    """

    raised: dict[str, int] = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0
    stale: int = 0


class AlarmMonitor:
    """Raises each alarm once; again only after it has cleared, and not within `alarms.patience` epochs.

    state: from the checkpoint of a resumed training, as returned by `state()`. Raises UserError where it is invalid.
    """

    def __init__(
        self, config: Config, total_steps: int, steps_per_epoch: float, state: dict[str, Any] | None = None
    ) -> None:
        self._config, self._total_steps, self._steps_per_epoch = config, total_steps, steps_per_epoch
        self._changes = planned_changes(config, total_steps, steps_per_epoch)
        try:
            self._history = AlarmHistory(**(state or {}))
            self._history.losses = [(step, loss) for step, loss in self._history.losses]
        except (TypeError, ValueError) as error:
            raise UserError(f"the checkpoint's 'alarms' are not a training state ({error})") from None
        self._workers_started = False

    def observe(self, step: int, metrics: dict[str, float]) -> list[Alarm]:
        """The alarms to raise at `step`, at which `metrics` were logged: some of `train/…`, `val/…`, `speed/…`."""
        metrics = dict(metrics)
        if "speed/device_use" in metrics and not self._workers_started:
            self._workers_started = True
            del metrics["speed/device_use"]  # the first interval includes the start of the workers
        history = self._history
        self._remember(step, metrics)
        moment = Moment(
            step,
            self._total_steps,
            metrics,
            [loss for _, loss in history.losses],
            -math.inf if history.best is None else history.best,
            history.best_step,
            history.stale,
            (step - history.best_step) / self._steps_per_epoch,
        )
        alarms = []
        for rule in RULES:
            if not all(math.isfinite(metrics.get(name, math.nan)) for name in rule.needs):
                continue
            finding = rule.evaluate(moment, self._config)
            if finding is None:
                self._clear(rule.name, step)
            elif rule.name not in history.raised:
                history.raised[rule.name] = step
                alarms.append(Alarm(rule.name, *finding))
        return alarms

    def state(self) -> dict[str, Any]:
        """The state as plain JSON."""
        return asdict(self._history)

    def _remember(self, step: int, metrics: dict[str, float]) -> None:
        history, interval = self._history, self._config.logging.log_interval
        loss = metrics.get("train/loss", math.nan)
        if step % interval == 0 and math.isfinite(loss) and loss > 0:
            history.losses.append((step, loss))
        change = max((c for c in self._changes if c < step), default=0)
        history.losses = [(at, loss) for at, loss in history.losses if at - interval >= change][-WINDOW:]

        psnr = metrics.get("val/psnr", math.nan)
        if math.isfinite(psnr) and (history.best is None or psnr > history.best):
            history.best, history.best_step, history.stale = psnr, step, 0
        elif "val/psnr" in metrics:
            history.stale += 1

    def _clear(self, name: str, step: int) -> None:
        raised = self._history.raised
        if name in raised and step - raised[name] >= self._config.alarms.patience * self._steps_per_epoch:
            del raised[name]


def planned_changes(config: Config, total_steps: int, steps_per_epoch: float) -> list[int]:
    """Steps after which the loss may rise as planned: the end of the warmup, longer unrolls, self-rollouts, harder
    clips."""
    changes = [config.scheduler.warmup_steps]
    changes += [math.ceil(phase.start * total_steps) for phase in config.training.unroll]
    if config.training.self_rollout is not None:
        changes.append(math.ceil(config.training.self_rollout.start * total_steps))
    curriculum = config.data.curriculum
    if curriculum is not None:
        ends = range(1, curriculum.phases + 1)
        changes += [math.ceil(end * curriculum.epochs_per_phase * steps_per_epoch) for end in ends]
    return changes


def rises(losses: Sequence[float], ratio: float) -> list[tuple[float, float]]:
    """The rises of a curve by more than a factor of `ratio`, each from trough to peak, with such falls in between.

    Smaller changes are ignored; the duration does not matter. losses: positive.
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
    """The factor by which a mean loss over `clips` clips has to change to be significant."""
    return max(MIN_SWING, math.exp(SIGNIFICANT * CLIP_SPREAD / math.sqrt(clips)))


def _not_finite(moment: Moment, config: Config) -> Finding:
    scaled = "train/loss_scale" in moment.metrics  # float16 overflows occasionally and skips the step
    bad = [
        name
        for name, value in moment.metrics.items()
        if not math.isfinite(value) and not (scaled and name == "train/grad_norm")
    ]
    if not bad:
        return None
    more = f" and {len(bad) - 1} more metrics" if len(bad) > 1 else ""
    return f"{bad[0]} is {moment.metrics[bad[0]]} at step {moment.step}{more}", lower_rates(config)


def _low_psnr(moment: Moment, config: Config) -> Finding:
    psnr, minimum = moment.metrics["val/psnr"], config.alarms.min_psnr
    if moment.step < moment.total_steps / 2 or psnr >= minimum:
        return None
    copy_psnr = moment.metrics.get("val/copy_last_psnr")
    baseline = "" if copy_psnr is None else f" (copying the last frame: {copy_psnr:.1f})"
    seen = (
        f"val/psnr is {psnr:.1f} dB{baseline} at step {moment.step} of {moment.total_steps}, below alarms.min_psnr = "
        f"{minimum:g}"
    )
    training = config.training
    longer = (
        f"training.max_steps={2 * training.max_steps}"
        if training.max_steps
        else f"training.num_epochs={2 * training.num_epochs}"
    )
    larger = [" ".join(config.model.larger())] if config.model.larger() else []
    return seen, "; ".join(["a better optimizer.lr, found by scripts/find_lr.py", longer, *larger])


def _overfitting(moment: Moment, config: Config) -> Finding:
    train, val = moment.metrics["val/train_psnr"], moment.metrics["val/psnr"]
    if train - val <= config.alarms.max_gap:
        return None
    seen = (
        f"training clips are predicted with {train:.1f} dB and validation clips with {val:.1f} dB: {train - val:.1f} "
        f"dB apart, above alarms.max_gap = {config.alarms.max_gap:g}"
    )
    options = [*config.model.regularised(config.loss), _more_augmentation(config), "or more drives"]
    return seen, "; ".join(options)


def _no_improvement(moment: Moment, config: Config) -> Finding:
    if moment.stale < STALE_VALIDATIONS or moment.epochs < config.alarms.patience:
        return None
    seen = (
        f"val/psnr has not exceeded {moment.best:.2f} dB (step {moment.best_step}) for {moment.epochs:.0f} "
        f"epochs, {moment.stale} validations; alarms.patience = {config.alarms.patience}"
    )
    schedule = "" if config.scheduler.type == "cosine" else "scheduler.type=cosine; "
    return seen, f"stopping here and using the checkpoint 'best'; {schedule}{lower_rates(config)}; or more drives"


def _oscillation(moment: Moment, config: Config) -> Finding:
    training, interval = config.training, config.logging.log_interval
    ratio = swing(training.batch_size * training.gradient_accumulation * interval)
    found = rises(moment.losses, ratio)
    if len(found) < RISES:
        return None
    low, high = max(found, key=lambda rise: rise[1] / rise[0])
    seen = (
        f"train/loss rose {len(found)} times in {len(moment.losses)} log lines and fell in between, by up to "
        f"{high / low - 1:.0%} ({low:.4g} to {high:.4g}), while the choice of clips explains {ratio - 1:.0%} at most"
    )
    larger = f"training.gradient_accumulation={2 * training.gradient_accumulation}"
    return seen, f"{lower_rates(config)}; {larger}"


def _output_range(moment: Moment, config: Config) -> Finding:
    output_max = moment.metrics["val/output_max"]
    if output_max <= 1 + OUTPUT_TOLERANCE:
        return None
    seen = f"the model's images reach {output_max:.4g}, and should lie in [-1, 1]"
    model = "a custom model has to limit its output, as tanh does"
    return (
        seen,
        f"training.use_amp=false, to see whether rounding is the cause; {model}" if config.training.use_amp else model,
    )


def _actions_ignored(moment: Moment, config: Config) -> Finding:
    """Evaluated from half of the training on: a healthy model also learns to continue the motion first and to follow
    actions later (on road drives it was 1.6 dB better than copying while other actions still cost it 0.02 dB)."""
    metrics, minimum = moment.metrics, config.alarms.min_action_cost
    cost = metrics["val/psnr"] - metrics["val/shuffled_actions_psnr"]
    alike = metrics.get("val/actions_spread", math.inf) < ACTIONS_DIFFER
    if moment.step < moment.total_steps / 2 or alike or cost >= minimum:
        return None
    seen = (
        f"another clip's actions cost the prediction {cost:.2f} dB, less than alarms.min_action_cost = {minimum:g}: it "
        f"ignores the actions"
    )
    balance = config.data.balance
    strength = 0.5 if balance is None else min(1.0, balance.strength + 0.25)
    advice = (
        f"data.balance.strength={strength:g}, to give curves more weight; "
        f"data.frame_skip={2 * config.data.frame_skip}, so that actions have a "
        "visible effect; scripts/show_batch.py, to check that actions match the images"
    )
    return seen, advice


def _starving(moment: Moment, config: Config) -> Finding:
    use, data = moment.metrics["speed/device_use"], config.data
    if use >= config.alarms.min_device_use:
        return None
    seen = (
        f"the device computed {use:.0%} of the time and waited for data otherwise; alarms.min_device_use = "
        f"{config.alarms.min_device_use:g}"
    )
    pin = "" if data.pin_memory else "data.pin_memory=true; "
    advice = (
        f"data.num_workers={max(2, 2 * data.num_workers)}; training.batch_size={2 * config.training.batch_size}; "
        f"{pin}a store on a faster disk (SSD)"
    )
    return seen, advice


def _critic_unbalanced(moment: Moment, config: Config) -> Finding:
    accuracy, lanes = moment.metrics["train/critic_accuracy"], config.training.self_rollout
    if lanes is None or lanes.critic is None or CRITIC_GUESSES <= accuracy <= CRITIC_WINS:
        return None
    critic = lanes.critic
    if accuracy > CRITIC_WINS:
        seen = f"the critic tells {accuracy:.0%} of the windows apart, so that the model learns nothing from it"
        change = f"training.self_rollout.critic.lr={critic.lr / 2:g}"
        return seen, f"{change}; training.self_rollout.critic.penalty={2 * critic.penalty:g}"
    seen = f"the critic tells {accuracy:.0%} of the windows apart, as guessing would"
    change = f"training.self_rollout.critic.lr={2 * critic.lr:g}"
    return seen, f"{change}; training.self_rollout.critic.penalty={critic.penalty / 2:g}"


def lower_rates(config: Config, by: float = 2) -> str:
    """Overrides that divide every learning rate by `by`, and clip gradients where they are hardly clipped."""
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
    Rule("critic_unbalanced", ("train/critic_accuracy",), _critic_unbalanced),
    Rule("starving", ("speed/device_use",), _starving),
)
