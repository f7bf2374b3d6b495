"""The steps of a training that continue the model's own rollouts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from daydrive import losses
from daydrive.data.sampling.lanes import LaneOrder, LaneVisit
from daydrive.models import LossOutput
from daydrive.models.noise import ClipGenerators
from daydrive.training.engine import Engine
from daydrive.training.self_rollout.adversary import Adversary, Windows
from daydrive.training.self_rollout.lane_buffer import SHOWN, LaneBuffer
from daydrive.training.step import ContinuedRollout, OngoingRollout, StepResult, clips_per_pass
from daydrive.types import Batch, to_signed

COARSE_FLOOR, COARSE_AGE = 0.2, 40.0
"""The weight of the coarse loss decays with this age in frames to the floor: light and layout matter at any age."""

STREAMS = 4
"""Streams of random numbers of a visit: for the frames with and without gradient of each of two futures."""


class SelfRollout:
    """Lanes, their losses and the critic, for the steps that `order.has_lanes` assigns to lanes."""

    def __init__(self, engine: Engine, order: LaneOrder) -> None:
        self.engine, self.order, self.config = engine, order, order.config
        model = engine.model
        self._context = model.context_frames
        height, width = model.image_size
        black = torch.zeros(1, self._context, 3, height, width, device=engine.dist.device)
        idle = torch.zeros(1, self._context - 1, model.config.action_dim, device=engine.dist.device)
        with torch.no_grad(), engine.precision.autocast():
            initial = model.init_state(black, idle)
        self._buffer = LaneBuffer(self.config.lanes * self.config.samples, engine.dist, initial, black[0, 0])
        self._adversary: Adversary | None = None
        if self.config.critic is not None:
            seed = engine.config.training.seed
            self._adversary = Adversary(self.config.critic, model, engine.dist, engine.precision, seed)

    def applies_to(self, batch: Batch) -> bool:
        return self.order.has_lanes(batch.samples[0])

    def with_origins(self, batch: Batch) -> Batch:
        """The batch under the sample numbers at which its rollouts started, so that augmentation does not change during
        a rollout."""
        origins = [self.order.visit(sample).origin for sample in batch.samples]
        return Batch(batch.images, batch.actions, batch.clips, origins, batch.weights)

    def accumulate(self, batch: Batch, last: bool) -> Iterator[StepResult]:
        """Continue the lanes of a batch; as `Engine.accumulate`."""
        if self._adversary is not None:
            self._adversary.start(self.engine.model, self.order.lane_step(batch.samples[0]))
        micro_batches = batch.split(clips_per_pass(batch))
        for number, micro_batch in enumerate(micro_batches):
            with self.engine.defer_gradient_sync(defer=not (last and number == len(micro_batches) - 1)):
                result = self._continue(micro_batch)
                self.engine.precision.backward(result.loss)
            yield result

    def update_critic(self) -> dict[str, Tensor]:
        """Train the critic on the windows of the step; returns metrics (N,), none without a critic."""
        return {} if self._adversary is None else self._adversary.update()

    def metrics(self) -> dict[str, float]:
        return {"train/rollout_age": self._buffer.mean_age(), "train/rollout_oldest": float(self._buffer.oldest())}

    def contents(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs, by name. Every process has to call it."""
        own = {f"lanes.{name}": value for name, value in self._buffer.contents().items()}
        adversary = {} if self._adversary is None else self._adversary.contents()
        return {**own, **{f"critic.{name}": value for name, value in adversary.items()}}

    def load(self, contents: dict[str, Tensor]) -> None:
        """Restore what `contents` returned; nothing where it is empty, so that all lanes restart."""
        if not contents:
            return
        self._buffer.load(_under("lanes.", contents))
        if self._adversary is not None:
            self._adversary.load(_under("critic.", contents))

    def _continue(self, batch: Batch) -> StepResult:
        images, actions = to_signed(batch.images), batch.actions
        visits = [self.order.visit(sample) for sample in batch.samples]
        self.engine.model.train()
        with torch.no_grad(), self.engine.precision.autocast():
            self._restart(visits, batch.samples, images, actions)
            self._run_free(visits, batch.samples, actions)
        futures = range(self.config.samples)
        states, shown, ages = zip(*(self._buffer.take(self._stored(visits, future)) for future in futures), strict=True)
        rows = torch.arange(len(visits), device=images.device)
        skipped = torch.tensor([self._free_steps(visit) for visit in visits], device=images.device)
        last = self._context - 1 + skipped  # index of each lane's newest frame in its clip
        ahead = torch.arange(self.config.steps, device=images.device)
        own_actions = actions[rows[:, None], last[:, None] + ahead]
        generators = [self._random(batch.samples, 2 * future) for future in futures]
        with self.engine.precision.autocast():
            continued: ContinuedRollout = self.engine.wrapped(
                images[:, : self._context],
                actions[:, : self._context - 1],
                OngoingRollout(states, generators, own_actions),
            )
        predicted = continued.predicted.float()
        frames = [torch.cat([shown[future], predicted[future]], dim=1) for future in futures]
        around = torch.arange(1 - SHOWN, self.config.steps + 1, device=images.device)
        real = images[rows[:, None], last[:, None] + around]
        window_actions = actions[rows[:, None], last[:, None] + around[:-1]]
        aligned = torch.tensor([not visit.wrapped for visit in visits], device=images.device)
        loss, parts = self._losses(frames, real, window_actions, ages[0], aligned)
        per_clip = loss + self.engine.config.loss.recon_weight * continued.recon_loss
        for future in futures:
            lanes, numbers = self._stored(visits, future), [visit.visit for visit in visits]
            state, newest = continued.states[future], frames[future][:, -SHOWN:]
            self._buffer.put(lanes, numbers, ages[future] + self.config.steps, state, newest)
        weighted = per_clip.mean() if batch.weights is None else (batch.weights * per_clip).sum()
        parts = {"loss": per_clip, "recon_loss": continued.recon_loss, **parts}
        detached = {name: part.detach() for name, part in parts.items()}
        return StepResult(weighted, detached, images, actions, LossOutput(per_clip, parts))

    def _restart(self, visits: list[LaneVisit], samples: list[int], images: Tensor, actions: Tensor) -> None:
        """Start rollouts from real frames: where their time has come, and where none is stored."""
        rows = [
            i
            for i, (visit, sample) in enumerate(zip(visits, samples, strict=True))
            if visit.origin == sample or not self._buffer.holds(visit.lane, visit.visit - 1)
        ]
        if not rows:
            return
        context = images[rows, : self._context]
        state = self.engine.model.init_state(context, actions[rows, : self._context - 1])
        ages = torch.zeros(len(rows), dtype=torch.long)
        restarted = [visits[i] for i in rows]
        for future in range(self.config.samples):
            lanes, numbers = self._stored(restarted, future), [visit.visit - 1 for visit in restarted]
            self._buffer.put(lanes, numbers, ages, state, context[:, -SHOWN:])

    def _run_free(self, visits: list[LaneVisit], samples: list[int], actions: Tensor) -> None:
        """Continue the long lanes by `free_steps` frames."""
        rows = [i for i, visit in enumerate(visits) if self._free_steps(visit)]
        if not rows:
            return
        continued = [visits[i] for i in rows]
        for future in range(self.config.samples):
            lanes, numbers = self._stored(continued, future), [visit.visit - 1 for visit in continued]
            state, shown, ages = self._buffer.take(lanes)
            generator = self._random([samples[i] for i in rows], 2 * future + 1)
            for t in range(self.config.free_steps):
                state, frame = self.engine.model.step(state, actions[rows, self._context - 1 + t], generator)
                shown = torch.cat([shown[:, 1:], frame[:, None].float()], dim=1)
            self._buffer.put(lanes, numbers, ages + self.config.free_steps, state, shown)

    def _stored(self, visits: list[LaneVisit], future: int) -> list[int]:
        """Numbers in the buffer of a future of the lanes: those of the second follow all of the first, and belong to
        the same process, since the number of lanes is a multiple of the processes."""
        return [visit.lane + future * self.config.lanes for visit in visits]

    def _free_steps(self, visit: LaneVisit) -> int:
        return self.config.free_steps if visit.long else 0

    def _losses(
        self, futures: list[Tensor], real: Tensor, actions: Tensor, ages: Tensor, aligned: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted loss (B,) and its parts. futures (each) and real: (B, SHOWN + K, 3, H, W), the K newest predicted;
        the critic sees the first future. actions: (B, 1 + K, action_dim). ages: (B,) before the K frames. aligned:
        (B,), see `LaneVisit.wrapped`."""
        config, weights = self.config, self.engine.config.loss
        count = config.steps
        samples, truth = [future[:, SHOWN:].flatten(0, 1) for future in futures], real[:, SHOWN:].flatten(0, 1)
        age = (ages[:, None] + torch.arange(count, device=real.device)).flatten().float()
        known = aligned.repeat_interleave(count) * torch.exp(-age / config.truth_age)
        layout = COARSE_FLOOR + (1 - COARSE_FLOOR) * torch.exp(-age / COARSE_AGE)
        parts = {
            "rollout_pred_loss": known * losses.energy_score(losses.prediction_loss, samples, truth),
            "rollout_perceptual_loss": known * losses.energy_score(self._perceptual, samples, truth),
            "coarse_loss": layout * losses.energy_score(losses.coarse_loss, samples, truth),
            "detail_loss": losses.detail_loss(samples[0], truth),
        }
        total = (
            weights.pred_weight * parts["rollout_pred_loss"]
            + weights.perceptual_weight * parts["rollout_perceptual_loss"]
            + config.coarse_weight * parts["coarse_loss"]
            + config.detail_weight * parts["detail_loss"]
        )
        if self._adversary is not None:
            adversarial, its_parts = self._adversary.losses(
                Windows(_windows(futures[0], count), _windows(real, count), _pairs(actions, count))
            )
            total, parts = total + adversarial, {**parts, **its_parts}
        per_clip = {name: part.unflatten(0, (-1, count)).mean(1) for name, part in parts.items()}
        return total.unflatten(0, (-1, count)).mean(1), per_clip

    def _perceptual(self, predicted: Tensor, real: Tensor) -> Tensor:
        return self.engine.objective.distance(predicted[:, None], real[:, None])

    def _random(self, samples: list[int], stream: int) -> ClipGenerators:
        """The sources of random numbers of the clips of a visit, from their sample numbers: a resumed training draws
        the same ones, with any number of processes. stream: see `STREAMS`."""
        seed = self.engine.config.training.seed * 1_000_003
        return ClipGenerators([torch.Generator().manual_seed((seed + sample) * STREAMS + stream) for sample in samples])


def _windows(frames: Tensor, count: int) -> Tensor:
    """(B, SHOWN + count, …) → windows of SHOWN + 1 frames that end at the newest `count`, (B · count, …)."""
    return torch.stack([frames[:, t : t + SHOWN + 1] for t in range(count)], dim=1).flatten(0, 1)


def _pairs(actions: Tensor, count: int) -> Tensor:
    """(B, 1 + count, action_dim) → the two actions within each window, (B · count, 2, action_dim)."""
    return torch.stack([actions[:, t : t + SHOWN] for t in range(count)], dim=1).flatten(0, 1)


def _under(prefix: str, contents: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in contents.items() if name.startswith(prefix)}
