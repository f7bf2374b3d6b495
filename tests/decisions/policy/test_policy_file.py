"""The network, its file and its ONNX export; damaged files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from daydrive.decisions.policy.network import METADATA, Policy, load_policy
from daydrive.decisions.policy.onnx_file import export_policy
from daydrive.envs.world_model.readout import reduce_images
from daydrive.errors import UserError
from daydrive.types import to_signed
from helpers.described_files import with_header

FRAMES = torch.randint(0, 256, (3, 2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_actions_are_in_their_ranges_and_the_wheel_ignores_the_frame_before(policy: Policy) -> None:
    actions = policy(FRAMES)
    assert actions.shape == (3, 4) and (actions[:, 3] == 1).all()
    assert (actions[:, 0].abs() <= 1).all() and ((actions[:, 1:3] >= 0) & (actions[:, 1:3] <= 1)).all()
    other = policy(torch.stack([FRAMES[:, 1].flip(-1), FRAMES[:, 1]], dim=1))
    assert other[:, 0].equal(actions[:, 0]) and not other[:, 1].equal(actions[:, 1])
    assert policy.network.steering(to_signed(FRAMES[:, 1])).equal(actions[:, 0])


def test_larger_images_are_reduced(policy: Policy) -> None:
    large = torch.nn.functional.interpolate(FRAMES.flatten(0, 1).float(), scale_factor=2).to(torch.uint8)
    assert reduce_images(large).equal(FRAMES.flatten(0, 1))
    assert policy(large.unflatten(0, (3, 2))).equal(policy(FRAMES))


def test_the_file_and_its_folder_give_the_same_policy(policy: Policy, policy_file: Path) -> None:
    for path in (policy_file, policy_file.parent):
        loaded = load_policy(path)
        assert loaded.info == policy.info and loaded(FRAMES).equal(policy(FRAMES))


def test_onnx_file_gives_the_same_controls(policy: Policy, tmp_path: Path) -> None:
    export_policy(policy, tmp_path / "policy.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["policy.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"))
    for count in (1, 3):
        (controls,) = session.run(None, {"frames": to_signed(FRAMES[:count]).numpy()})
        np.testing.assert_allclose(controls, policy(FRAMES[:count])[:, :3].numpy(), atol=1e-4)
    assert policy(FRAMES).shape == (3, 4)  # tracing leaves the network as it was


def with_weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        with safe_open(file, framework="pt") as opened:
            header, weights = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        save_file({name: change(value).contiguous() for name, value in weights.items()}, file, header)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "there is no policy"),
        (lambda file: file.write_bytes(b""), "is not a complete policy"),
        (lambda file: file.write_bytes(os.urandom(500)), "is not a complete policy"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "is not a complete policy"),
        (lambda file: save_file({"a": torch.zeros(2)}, file), "is not a policy; learn one with"),
        (lambda file: save_file({"a": torch.zeros(2)}, file, {METADATA: "{"}), "is not a complete policy"),
        (with_header(METADATA, lambda header: {**header, "hz": 0}), "is not a complete policy"),
        (with_header(METADATA, lambda header: {**header, "wheels": 4}), "is not a complete policy"),
        (with_header(METADATA, lambda _: [1]), "is not a complete policy"),
        (with_weights(lambda value: value[:1]), "is not a complete policy"),
        (with_weights(lambda value: torch.full_like(value, torch.nan)), "weights that are not finite"),
    ],
)
def test_damaged_files_are_refused(damage: Callable[[Path], None], message: str, policy_file: Path) -> None:
    damage(policy_file)
    with pytest.raises(UserError, match=message) as raised:
        load_policy(policy_file)
    assert "\n" not in str(raised.value)
