"""States of rollouts: clips of a batch can be taken out, put back and replaced, with random numbers of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from daydrive.models.noise import ClipGenerators, sample_noise
from daydrive.models.states import clip_of, concatenate, map_tensors, replace_clips
from helpers.architectures import ARCHITECTURES, built, clip

every = pytest.mark.parametrize("architecture", ARCHITECTURES)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@every
@torch.no_grad()
def test_clips_with_their_own_generators_and_restarts_match_separate_rollouts(architecture: str) -> None:
    model, (images, actions) = built(architecture, spread=0.2), clip(frames=9)
    context, between = images[:, :4], actions[:, :3]

    def alone(which: int, seed: int, steps: range) -> list[Tensor]:
        one = slice(which, which + 1)
        generator = torch.Generator().manual_seed(seed)
        state, frames = model.init_state(context[one], between[one], generator), []
        for t in steps:
            state, frame = model.step(state, actions[one, t], generator)
            frames.append(frame[0])
        return frames

    each = generators(5, 6, 7)
    state = model.init_state(context, between, ClipGenerators(each))
    frames: list[list[Tensor]] = [[], [], []]
    for t in range(3, 7):
        if t == 5:
            each[1].manual_seed(8)
            state = replace_clips(state, [1], model.init_state(context[1:2], between[1:2], each[1]))
        state, batch = model.step(state, actions[:, t], ClipGenerators(each))
        for which, frame in enumerate(batch):
            frames[which].append(frame)
    for which, seed in ((0, 5), (2, 7)):
        close(frames[which], alone(which, seed, range(3, 7)))
    close(frames[1], [*alone(1, 6, range(3, 5)), *alone(1, 8, range(5, 7))])
    with pytest.raises(AssertionError):
        close(frames[0], alone(0, 6, range(3, 7)) if architecture != "texture" else alone(1, 6, range(3, 7)))


@every
@torch.no_grad()
def test_states_of_clips_are_copied_and_put_back_exactly(architecture: str) -> None:
    model, (images, actions) = built(architecture, spread=0.2), clip(frames=9)
    state = model.init_state(images[:, :4], actions[:, :3])
    state, _ = model.step(state, actions[:, 3])
    copies = [clip_of(state, k) for k in range(3)]
    _, expected = model.step(state, actions[:, 4])
    later, _ = model.step(state, actions[:, 5])
    for restored in (concatenate(copies), replace_clips(later, [0, 1, 2], concatenate(copies))):
        assert model.step(restored, actions[:, 4])[1].equal(expected)
    swapped = replace_clips(state, [0, 2], concatenate([copies[2], copies[0]]))
    _, frames = model.step(swapped, actions[:, 4])
    torch.testing.assert_close(frames[1], expected[1])
    assert not frames[0].equal(expected[0])


def test_states_of_another_structure_or_shape_are_refused() -> None:
    state = (torch.zeros(3, 2), None, (torch.zeros(3, 4),))
    assert map_tensors(torch.ones_like, state)[1] is None
    with pytest.raises(TypeError, match="not tuple and Tensor"):
        replace_clips(state, [1], (torch.zeros(1, 2), None, torch.zeros(1, 4)))
    with pytest.raises(TypeError, match="not dict"):
        clip_of({"images": torch.zeros(3)}, 0)
    for wrong in (torch.zeros(1, 3), torch.zeros(2, 2), torch.zeros(1, 2, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="instead of"):
            replace_clips(state, [1], (wrong, None, (torch.zeros(1, 4),)))


def test_noise_of_a_clip_does_not_depend_on_the_batch() -> None:
    one = sample_noise(torch.randn, (4, 1, 2), generators(3)[0], clip_dim=1)
    both = sample_noise(torch.randn, (4, 1, 2), ClipGenerators(generators(1, 3)), clip_dim=1)
    assert one.shape == (4, 1, 2) and both.shape == (4, 2, 2)
    assert both[:, 1:].equal(one) and not both[:, :1].equal(one)


def close(frames: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(torch.stack(frames), torch.stack(expected), rtol=0, atol=2e-3)
