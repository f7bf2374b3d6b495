"""Stored rollouts come back as they were, on any number of processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from daydrive.distributed import DistributedContext
from daydrive.training.self_rollout.lane_buffer import LaneBuffer

CPU = torch.device("cpu")


class State(NamedTuple):
    hidden: tuple[Tensor, ...]
    motion: Tensor | None


def buffer(rank: int = 0, world: int = 1) -> LaneBuffer:
    initial = State((torch.zeros(1, 2), torch.zeros(1, 3)), None)
    return LaneBuffer(8, DistributedContext(rank, world, CPU), initial, torch.zeros(3, 4, 6))


def fill(lanes: LaneBuffer, numbers: list[int]) -> tuple[State, Tensor, Tensor]:
    clips = len(numbers)
    state = State((torch.randn(clips, 2), torch.randn(clips, 3)), torch.randn(clips, 5))
    shown, ages = torch.randn(clips, 2, 3, 4, 6), torch.tensor(numbers) * 10
    lanes.put(numbers, [7] * clips, ages, state, shown)
    return state, shown, ages


def test_states_are_stored_without_the_parts_that_a_new_state_lacks() -> None:
    lanes = buffer()
    given, shown, ages = fill(lanes, [1, 4, 6])
    state, stored, stored_ages = lanes.take([6, 1])
    assert state.motion is None
    assert torch.equal(state.hidden[0], given.hidden[0][[2, 0]]) and torch.equal(
        state.hidden[1], given.hidden[1][[2, 0]]
    )
    assert torch.equal(stored, shown[[2, 0]]) and torch.equal(stored_ages, ages[[2, 0]])
    assert lanes.holds(4, 7) and not lanes.holds(4, 6) and not lanes.holds(0, -1)
    assert lanes.mean_age() == (10 + 40 + 60) / 3 and lanes.oldest() == 60


def test_stored_states_have_no_gradient() -> None:
    lanes = buffer()
    hidden = (torch.zeros(1, 2, requires_grad=True) * 2, torch.zeros(1, 3))
    lanes.put([0], [0], torch.zeros(1, dtype=torch.long), State(hidden, None), torch.zeros(1, 2, 3, 4, 6))
    assert not lanes.take([0])[0].hidden[0].requires_grad


def test_contents_restore_on_another_number_of_processes() -> None:
    whole = buffer()
    given, _, _ = fill(whole, list(range(8)))
    for rank in range(2):
        part = buffer(rank, 2)
        part.load(whole.contents())
        own = list(range(rank, 8, 2))
        assert torch.equal(part.take(own)[0].hidden[1], given.hidden[1][own])
        assert part.take(own)[2].tolist() == [10 * lane for lane in own] and part.holds(own[0], 7)


def test_lanes_of_another_number_are_left_out() -> None:
    whole = buffer()
    fill(whole, list(range(8)))
    other = LaneBuffer(4, DistributedContext.single(CPU), State((torch.zeros(1, 2),) * 2, None), torch.zeros(3, 4, 6))
    other.load(whole.contents())
    assert not other.holds(0, 7)
