"""The order of the data, as pure functions: what is consumed when follows from the seed and one integer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from daydrive.errors import UserError


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order of clips 0 … count-1 in an epoch: a permutation given by (seed, epoch), read-only."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.flags.writeable = False
    return order


def batches_per_epoch(batch_size: int, count: int) -> int:
    """Whole batches in an epoch of `count` clips; the incomplete last one is dropped."""
    if count < batch_size:
        raise UserError(
            f"a batch of {batch_size} clips is more than the {count} clips there are; lower training.batch_size"
        )
    return count // batch_size


def batch_indices(seed: int, position: int, batch_size: int, count: int) -> list[int]:
    """Clips of the batch after `position` batches have been consumed, counted over all epochs.

    For several ranks `batch_size` is that of all together, and each takes its `shard`.
    """
    epoch, batch = divmod(position, batches_per_epoch(batch_size, count))
    order = epoch_order(seed, epoch, count)
    return [int(i) for i in order[batch * batch_size : (batch + 1) * batch_size]]


def shard(indices: Sequence[int], rank: int, world: int) -> list[int]:
    """What `rank` of `world` takes of a batch of all ranks: equal shares that together are the whole."""
    if len(indices) % world:
        raise ValueError(f"{len(indices)} clips cannot be shared equally by {world} ranks")
    return list(indices[rank::world])
