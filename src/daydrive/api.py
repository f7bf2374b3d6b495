"""The public API of `import daydrive`: stores, clips, models, rollouts and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from daydrive import checkpoint
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation import EvaluateConfig
from daydrive.evaluation import evaluate as evaluate_checkpoint
from daydrive.models import WorldModel, build_world_model
from daydrive.models.rollout import rollout_uint8
from daydrive.pretrained import from_pretrained, push_to_hub, save_pretrained

__all__ = [
    "Clips",
    "Store",
    "UserError",
    "build_world_model",
    "evaluate",
    "from_pretrained",
    "load",
    "push_to_hub",
    "rollout",
    "save_pretrained",
]


class Clips(Dataset[tuple[Tensor, Tensor]]):
    """The clips of a split of a store as a PyTorch dataset; an item is a tuple of images and actions.

    Images are uint8 (T, 3, H, W), actions float32 (T-1, 4): steering [-1, 1], positive to the right, throttle [0, 1],
    brake [0, 1], gear -1, 0 or 1; `actions[t]` is the driver's action from frame t to frame t+1.

    The dataset can be pickled. Start the workers of a DataLoader with `forkserver` or `spawn`, since Lance, which reads
    the store, does not support fork.

    Examples:
        >>> import daydrive
        >>> clips = daydrive.Clips("data/processed/road", "train", length=6)
        >>> images, actions = clips[0]
        >>> images.shape, images.dtype, actions.shape
        (torch.Size([6, 3, 64, 64]), torch.uint8, torch.Size([5, 4]))

        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(clips, batch_size=4, num_workers=2, multiprocessing_context="forkserver")
        >>> [tuple(part.shape) for part in next(iter(loader))]
        [(4, 6, 3, 64, 64), (4, 5, 4)]
    """

    def __init__(
        self, store: Store | str | Path, split: str = "train", length: int = 10, frame_skip: int = 1,
        where: str | None = None,
    ) -> None:  # fmt: skip
        """store: a Store, or its path or URL. length: number of frames T of a clip, `frame_skip` apart. where: an SQL
        condition on columns of the store and names of actions that all frames of a clip satisfy.

        Raises UserError if the store cannot be read or the split has no clip of this length.
        """
        self.store = store if isinstance(store, Store) else Store.open(store)
        self._index = ClipIndex(self.store, split, length, frame_skip, where=where)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The clip with this index, counted from the end if negative; raises IndexError if out of range."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Several clips with a single read of the store."""
        count = len(self)
        batch = read_clips(self.store, [self._index.clip(int(k) + count * (k < 0)) for k in indices])
        return list(zip(batch.images.contiguous(), batch.actions, strict=True))


def load(path: str | Path, device: torch.device | str = "cpu") -> WorldModel:
    """Load the model of a checkpoint onto `device`, in evaluation mode.

    path: a run folder (its best checkpoint is loaded), a checkpoint folder, a `model.safetensors`, a folder of
    `save_pretrained`, or "road", the weights of the road world in the package.

    Examples:
        >>> import daydrive
        >>> model = daydrive.load("runs/first")
        >>> model.context_frames, model.image_size, model.training
        (4, (64, 64), False)

    Raises UserError if there is no checkpoint or if it cannot be read.
    """
    model = checkpoint.load(Path(path), device).model
    assert isinstance(model, WorldModel)
    return model


def rollout(model: WorldModel, images: Tensor, actions: Tensor, seed: int | None = 0) -> Tensor:
    """Predict future frames from context frames and actions.

    images: uint8 (B, C, 3, H, W), with C = `model.context_frames`. actions: float32 (B, C-1+N, 4), of which the first
    C-1 lie between the context frames. Returns uint8 (B, N, 3, H, W) on the model's device. The same `seed` gives the
    same frames, and None the most likely ones; it has no effect on deterministic models.

    Examples:
        >>> import daydrive
        >>> model = daydrive.load("runs/first")
        >>> images, actions = daydrive.Clips("data/processed/road", "test", length=12)[0]
        >>> frames = daydrive.rollout(model, images[None, : model.context_frames], actions[None])
        >>> frames.shape, frames.dtype
        (torch.Size([1, 8, 3, 64, 64]), torch.uint8)

    Raises UserError for other shapes or dtypes.
    """
    _check(model, images, actions)
    return rollout_uint8(model, images, actions, seed)


def evaluate(
    checkpoint: str | Path,
    data_root: str | Path,
    output: str | Path,
    *,
    split: str = "test",
    horizon: int = 50,
    clips: int = 64,
    seed: int = 0,
    counterfactual: bool = False,
    controllability: bool = False,
    long: bool = False,
    deterministic: bool = False,
    samples: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Evaluate a checkpoint on a split of a store, against baselines.

    Returns the contents of `evaluation.json`; this file, `report.html`, images and videos are written to the folder
    `output`.

    horizon: number of steps to predict; fewer if no two clips are that long. clips: number of clips, evenly spaced.
    seed: for pairing clips with the actions of other clips. counterfactual: also left, straight and right from one
    moment of the road world. controllability: also the controllability scorecard. long: also rollouts of 200 and 1000
    steps. deterministic: without random numbers, the most likely frames of a model that samples. samples: number of
    futures to sample of each of 16 clips, at least 2; 0 for none.

    Examples:
        >>> import daydrive
        >>> found = daydrive.evaluate("runs/first", "data/processed/road", "evaluation", horizon=5, clips=4)
        >>> found["clips"], found["split"]
        (4, 'test')

    Raises UserError if checkpoint, store and options do not match, before anything is computed or written.
    """
    config = EvaluateConfig(
        split=split,
        horizon=horizon,
        clips=clips,
        seed=seed,
        counterfactual=counterfactual,
        controllability=controllability,
        long=long,
        deterministic=deterministic,
        samples=samples,
    )
    return evaluate_checkpoint(Path(checkpoint), Path(data_root), Path(output), config, device=device)


def _check(model: WorldModel, images: Tensor, actions: Tensor) -> None:
    """Raise UserError if shapes or dtypes do not fit the model."""
    context, (height, width), action = model.context_frames, model.image_size, model.config.action_dim
    if images.ndim != 5 or images.shape[1:] != (context, 3, height, width) or images.dtype != torch.uint8:
        raise UserError(
            f"images are {images.dtype} {tuple(images.shape)}; this model expects uint8 (B, {context}, 3, {height}, "
            f"{width}), its {context} context frames"
        )
    if actions.ndim != 3 or actions.shape[::2] != (len(images), action) or not actions.is_floating_point():
        raise UserError(
            f"actions are {actions.dtype} {tuple(actions.shape)}; for these images float32 ({len(images)}, "
            f"{context - 1} + N, {action}) is expected"
        )
    if actions.shape[1] < context:
        raise UserError(
            f"actions have {actions.shape[1]} steps, {context - 1} of which lie between the context frames; give at "
            f"least {context}, one more for each frame to predict"
        )
