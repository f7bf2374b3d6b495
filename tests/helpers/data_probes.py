"""Probes of `data`: which clips are read, in which order, and the effect of augmentation."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from daydrive.config import Config
from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling import clip_weights
from daydrive.data.sampling.clips import ClipIndex, read_clips, read_images
from daydrive.data.store.store import Store
from daydrive.training import run as run_module
from daydrive.training.context import TrainOptions
from helpers.probes import Probe, differs, gives, near
from helpers.training_plan import CPU, Plan, plan, planned

WHOLE_CLIPS = "training.unroll=[]"
CLIPS = 38
"""Of six frames, in the two training drives of 24 frames."""


def store_of_the_run(config: Config) -> str:
    """Name of the store that `daydrive train` reads without --data-root."""
    found: list[Path] = []

    def train(config: Config, store: Path, *_: object) -> int:
        found.append(store)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "train", train)
        run_module.train_run(config, Path("any.yaml"), None, Path("run"), CPU, TrainOptions())
    return found[0].name


def prepared_size(config: Config) -> tuple[int, int]:
    """Image size of a store prepared for a dataset whose config has the image size of this one."""
    Path("configs/data").mkdir(parents=True, exist_ok=True)
    size = config.data.image_size or (0, 0)
    Path("configs/data/road.yaml").write_text(f"data: {{image_size: {list(size)}}}\n")
    return Store.open(prepare("road", None, f"road-{size[0]}-{size[1]}", drives=3, frames=8, workers=0)).image_size


def frames_apart(config: Config) -> list[int]:
    """Distance in rows between the frames of a clip in a batch."""
    batch = planned(config).batches[0]
    store = Store.open(config.data.root or Path())
    start, length = batch.clips[0].start, batch.images.shape[1]
    found = []
    for apart in (1, 2, 3):
        images, _ = read_images(store, start + apart * np.arange(length))
        if torch.equal(torch.from_numpy(images).permute(0, 3, 1, 2), batch.images[0]):
            found.append(apart)
    return found


def colours(config: Config) -> tuple[bool, ...]:
    """Whether augmentation changed the brightness, the contrast and the saturation of the images.

    Measured as the mean grey value, its standard deviation, and the mean distance from grey, the latter two relative
    to the mean.
    """
    batch = planned(config).batches[0]
    before = read_clips(Store.open(config.data.root or Path()), batch.clips).images

    def measures(images: torch.Tensor) -> torch.Tensor:
        values = images.double()
        grey = (values * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=2, keepdim=True)
        mean = grey.mean(dim=(1, 2, 3, 4))
        colour = (values - grey).abs().mean(dim=(1, 2, 3, 4))
        return torch.stack([mean, grey.std(dim=(1, 2, 3, 4)) / mean, colour / mean])

    changes = (measures(batch.images) / measures(before) - 1).abs().amax(dim=1)
    return tuple((changes > 0.1).tolist())


def images_as_stored(config: Config) -> bool:
    batch = planned(config).batches[0]
    return torch.equal(batch.images, read_clips(Store.open(config.data.root or Path()), batch.clips).images)


def mirrored(config: Config) -> list[str]:
    """Whether images and steering are as stored, mirrored, or neither."""
    batch = planned(config).batches[0]
    stored = read_clips(Store.open(config.data.root or Path()), batch.clips)
    found = []
    if torch.equal(batch.images, stored.images) and torch.equal(batch.actions, stored.actions):
        found.append("as stored")
    turned = stored.actions * torch.tensor([-1.0, 1.0, 1.0, 1.0])
    if torch.equal(batch.images, stored.images.flip(-1)) and torch.equal(batch.actions, turned):
        found.append("mirrored")
    return found


def balanced_by(plan: Plan) -> list[str]:
    how = []
    if max(Counter(plan.clips(CLIPS)).values()) > 1:
        how.append("drawn more often")
    if plan.context.order.weights(0, CLIPS) is not None:
        how.append("weigh more")
    return how


def strength(config: Config) -> float:
    """The exponent with which the weight of a clip falls with the number of clips of its kind."""
    store = Store.open(config.data.root or Path())
    kinds = clip_weights.kinds(store, ClipIndex(store, "train", config.data.sequence_length, 1))
    order = planned(config).context.order
    weights = order.weights(0, CLIPS)
    assert weights is not None
    kind_of = kinds[order.clips(0, CLIPS)]
    (common, many), (rare, few) = (lambda counts: (counts[0], counts[-1]))(Counter(kind_of.tolist()).most_common())
    assert many > few
    return math.log(weights[kind_of == rare][0] / weights[kind_of == common][0]) / math.log(many / few)


def sizes_of_the_phases(plan: Plan) -> list[int]:
    return [phase.count for phase in plan.context.order.phases]


PHASES = ("data.curriculum.phases=3", WHOLE_CLIPS)
BATCH = ("training.batch_size=6", WHOLE_CLIPS)

PROBES: dict[str, Probe] = {
    "data.root": gives(store_of_the_run, {"one": "one", "another": "another"}),
    "data.image_size": gives(prepared_size, {"[64, 64]": (64, 64), "[64, 128]": (64, 128)}),
    "data.num_workers": gives(plan(lambda p: p.read["num_workers"]), {"0": 0, "2": 2}),
    "data.pin_memory": gives(plan(lambda p: p.read["pin_memory"]), {"false": False, "true": True}),
    "data.sequence_length": gives(
        plan(lambda p: p.batches[0].images.shape[1]), {"6": 6, "7": 7}, WHOLE_CLIPS
    ),
    "data.frame_skip": gives(frames_apart, {"1": [1], "2": [2]}, WHOLE_CLIPS),
    "data.filter": gives(
        plan(lambda p: len(p.context.clips)),
        {"frame >= 0": CLIPS, "frame < 12": 14, "frame > 9 and gear < 2": 18},
        WHOLE_CLIPS,
    ),
    "data.augmentation.brightness": gives(colours, {"0.0": (False, False, False), "0.3": (True, False, False)}, *BATCH),
    "data.augmentation.contrast": gives(colours, {"0.0": (False, False, False), "0.3": (False, True, True)}, *BATCH),
    "data.augmentation.saturation": gives(colours, {"0.0": (False, False, False), "0.3": (False, False, True)}, *BATCH),
    "data.augmentation.crop_scale": gives(images_as_stored, {"[1.0, 1.0]": True, "[0.4, 0.5]": False}, WHOLE_CLIPS),
    "data.augmentation.mirror": gives(mirrored, {"0.0": ["as stored"], "1.0": ["mirrored"]}, WHOLE_CLIPS),
    "data.balance.mode": gives(
        plan(balanced_by), {"sample": ["drawn more often"], "weight": ["weigh more"]}, "data.balance.strength=1.0"
    ),
    "data.balance.strength": gives(strength, {"0.5": near(0.5), "1.0": near(1.0)}, "data.balance.mode=weight"),
    "data.curriculum.by": differs(plan(lambda p: p.clips(12)), ["steering", "throttle"], *PHASES),
    "data.curriculum.phases": gives(
        plan(sizes_of_the_phases), {"2": [19, 38, 38], "3": [12, 25, 38, 38]}, WHOLE_CLIPS
    ),
    "data.curriculum.epochs_per_phase": gives(
        plan(lambda p: [phase.passes for phase in p.context.order.phases]),
        {"1": [1, 1, 1, None], "2": [2, 2, 2, None]},
        *PHASES,
    ),
    "data.curriculum.cumulative": gives(
        plan(sizes_of_the_phases), {"true": [12, 25, 38, 38], "false": [12, 13, 13, 38]}, *PHASES
    ),
}  # fmt: skip
