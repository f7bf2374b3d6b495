"""Time of a step on the model's own rollouts."""

from __future__ import annotations

from collections import deque

from daydrive.benchmarks.findings import Findings
from daydrive.benchmarks.interleaved_timing import least, time_interleaved
from daydrive.benchmarks.training.workload import Workload
from daydrive.config import CriticConfig, SelfRolloutConfig
from daydrive.training.context import TrainOptions, build_context


def self_rollouts(workload: Workload) -> Findings:
    """`self_rollout_cost`: a step on lanes with the critic, all of which restart, over one at the longest unroll."""
    setup = workload.setup
    clips = setup.resume_state.clips_per_step
    lanes = SelfRolloutConfig(start=0.0, lanes=clips, critic=CriticConfig())
    visit = setup.config.training.context_frames + lanes.free_steps + lanes.steps
    training = setup.config.training.model_copy(update={"self_rollout": lanes, "strategy": "ddp"})
    data = setup.config.data.model_copy(update={"sequence_length": max(visit, setup.config.data.sequence_length)})
    config = setup.config.model_copy(update={"training": training, "data": data})
    context = build_context(config, setup.store.path, workload.folder / "lanes", setup.dist, TrainOptions())
    rollouts = context.self_rollout
    assert rollouts is not None
    batches = [context.longest_batch()] * training.gradient_accumulation
    longest = workload.batches(workload.lengths[1])

    def on_lanes() -> None:
        for batch in batches:
            deque(context.accumulate(batch, last=batch is batches[-1]), maxlen=0)
        context.engine.clip_gradients()
        context.engine.update()
        rollouts.update_critic()

    seconds = time_interleaved(
        {"lanes": on_lanes, "longest": lambda: workload.step(longest)}, workload.effort, workload.device
    )
    best = least(seconds)
    raw = {"config": workload.name, "seconds": seconds}
    return Findings({"self_rollout_cost": best["lanes"] / best["longest"]}, {"self_rollout": raw})
