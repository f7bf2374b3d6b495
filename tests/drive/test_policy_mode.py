"""A policy drives in the window in place of the person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import simplejpeg
import torch

from daydrive.decisions.policy.network import Policy, PolicyInfo, PolicyNetwork
from daydrive.drive.engine import DriveEngine
from daydrive.errors import UserError
from helpers.driving import SIZE, Page, road_scenario, serving

INFO = PolicyInfo(
    learned="world_model", hz=10, image_size=SIZE, horizon=0.44, checkpoint="c", store="s", seed=0, daydrive="0"
)


def policy() -> Policy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Policy(PolicyNetwork(0.44), INFO)


def test_the_policy_drives_and_the_person_takes_over(tmp_path: Path) -> None:
    scenario = replace(road_scenario(tmp_path), policy=policy())
    with serving(scenario) as address, Page(address) as page:
        assert page.welcome["policy"] is True
        assert page.answer(type="mode", mode="policy")["mode"] == "policy"
        actions, frames = [], [torch.from_numpy(scenario.moments.load(scenario.moments.names[0]).image)]
        for _ in range(2):
            page.answer(type="step")
            actions.append(page.header["action"])
            frames.append(torch.from_numpy(simplejpeg.decode_jpeg(page.images[0])))
        before = scenario.policy(torch.stack([frames[0], frames[0]]).movedim(-1, 1)[None])[0]
        assert actions[0] == pytest.approx(before.tolist(), abs=1e-4)
        later = scenario.policy(torch.stack([frames[0], frames[1]]).movedim(-1, 1)[None])[0]
        assert actions[1] == pytest.approx(later.tolist(), abs=0.05) and actions[1] != actions[0]
        page.answer(type="mode", mode="human")
        page.act(steering=0.25)
        page.answer(type="step")
        assert page.header["action"][0] == 0.25


def test_without_a_policy_the_mode_is_refused(tmp_path: Path) -> None:
    scenario = road_scenario(tmp_path)
    with serving(scenario) as address, Page(address) as page:
        assert page.welcome["policy"] is False
        assert "there is no policy" in page.answer(type="mode", mode="policy")["message"]
    with pytest.raises(UserError, match="there is no policy"):
        DriveEngine(scenario).policy_action()
