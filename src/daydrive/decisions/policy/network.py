"""The policy: a small network from two consecutive frames to the wheel and the pedals, and its file.

The wheel depends on the newest frame alone. A network that sees the motion between frames learns to continue the
driver's last turn instead of following the road (de Haan, Jayaraman, Levine, "Causal confusion in imitation learning",
NeurIPS 2019). The pedals also depend on the speed, from the motion of the ground between the frames.
"""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from daydrive.envs.world_model import ground_motion
from daydrive.envs.world_model.readout import reduce_images
from daydrive.errors import UserError
from daydrive.tensors import read_described, write_described
from daydrive.types import to_signed

CHANNELS, HIDDEN, GRID = (24, 32, 48, 64), 64, 4
METADATA = "daydrive_policy"
POLICY_FILE = "policy.safetensors"


class PolicyInfo(BaseModel):
    """What a policy drives and how it was learned.

    learned: `world_model`, `cloning`, `cloning_noise` or `simulator`. hz: decisions per second. image_size: height and
    width. horizon: its row, in image heights from the top. checkpoint: name of the world model; None without one.
    store: fingerprint of the store with the recorded drives.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    learned: str
    hz: float = Field(gt=0)
    image_size: tuple[int, int]
    horizon: float = Field(ge=0, le=1)
    checkpoint: str | None
    store: str
    seed: int
    daydrive: str

    def check(self, file: str | Path, hz: float, image_size: tuple[int, int]) -> None:
        """Raises UserError, naming the policy's file, if it decides at another rate or on other images."""
        for what, own, other in (
            ("image size", self.image_size, image_size),
            ("rate", f"{self.hz:g} Hz", f"{hz:g} Hz"),
        ):
            if own != other:
                raise UserError(f"--policy {file}: its {what} is {own}, and that of what is driven is {other}")


class PolicyNetwork(nn.Module):
    """Two frames → steering, throttle and brake."""

    def __init__(self, horizon: float) -> None:
        super().__init__()
        self.horizon = horizon
        self.view = nn.Sequential(
            *(_stage(a, b, 5 if a == 3 else 3) for a, b in pairwise((3, *CHANNELS))),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(CHANNELS[-1] * GRID * GRID, HIDDEN),
            nn.SiLU(),
        )
        self.wheel = nn.Linear(HIDDEN, 1)
        self.motion = nn.Sequential(nn.Linear(ground_motion.FEATURES, HIDDEN // 2), nn.SiLU(), nn.Dropout(0.3))
        self.pedals = nn.Sequential(nn.Linear(HIDDEN + HIDDEN // 2, HIDDEN // 2), nn.SiLU(), nn.Linear(HIDDEN // 2, 2))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, FRAMES, 3, h, w) in [-1, 1], reduced as by `reduce_images` → (B, 3): steering in [-1, 1], throttle and
        brake in [0, 1]."""
        return self.controls(frames[:, -1], ground_motion.correlations(frames, self.horizon))

    def controls(self, image: Tensor, correlations: Tensor) -> Tensor:
        """As `forward`, from the newest frame (B, 3, h, w) and `ground_motion.correlations` of both."""
        view = self.view(image)
        pedals = self.pedals(torch.cat([view, self.motion(correlations)], dim=1)).sigmoid()
        return torch.cat([self.wheel(view).tanh(), pedals], dim=1)

    def steering(self, image: Tensor) -> Tensor:
        """The newest frame (B, 3, h, w) → steering, (B,)."""
        wheel: Tensor = self.wheel(self.view(image)).tanh()
        return wheel[:, 0]


def _stage(inputs: int, outputs: int, kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.GroupNorm(8, outputs), nn.SiLU())


class Policy:
    """A learned policy on a device."""

    def __init__(self, network: PolicyNetwork, info: PolicyInfo) -> None:
        self.network, self.info = copy.deepcopy(network).eval().requires_grad_(False), info

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 (B, FRAMES, 3, H, W) → actions, float32 (B, 4), the gear always forwards."""
        reduced = to_signed(reduce_images(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])
        controls = self.network(reduced)
        return torch.cat([controls, torch.ones_like(controls[:, :1])], dim=1)

    def save(self, file: Path) -> None:
        """Write the file atomically."""
        write_described(self.network.state_dict(), file, METADATA, self.info.model_dump_json())


def load_policy(file: str | Path) -> Policy:
    """The policy of a file of `daydrive learn-policy`, or the best one of its folder.

    Raises UserError if the file is missing or not a policy.
    """
    path = Path(file)
    if path.is_dir():
        path = path / POLICY_FILE
    if not path.is_file():
        raise UserError(f"there is no policy {path}; learn one with `daydrive learn-policy`")
    header, weights = read_described(path, METADATA, "policy")
    if header is None:
        raise UserError(f"{path} is not a policy; learn one with `daydrive learn-policy`")
    try:
        info = PolicyInfo.model_validate(json.loads(header))
        network = PolicyNetwork(info.horizon)
        network.load_state_dict(weights)
    except (ValueError, ValidationError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is not a complete policy ({reason}); learn it again") from None
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise UserError(f"{path} has weights that are not finite; learn it again")
    return Policy(network, info)
