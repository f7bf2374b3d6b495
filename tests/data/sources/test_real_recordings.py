"""Real recordings: recorded actions agree with the image motion."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from daydrive.data.kinematics.signals import lag
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.paths import UDACITY


def horizontal_motion(store: Store, rows: np.ndarray) -> np.ndarray:
    """Horizontal motion of the distant scene between frames, (N - 1,) pixels, positive to the left."""
    height = store.image_size[0]
    far = [simplejpeg.decode_jpeg(jpeg, "GRAY")[height // 5 : height // 2, :, 0] for jpeg in store.read(rows)[0]]
    bands = [band.astype(np.float32) for band in far]
    window = cv2.createHanningWindow(bands[0].shape[::-1], cv2.CV_32F)
    moved = [-cv2.phaseCorrelate(a, b, window)[0][0] for a, b in pairwise(bands)]
    return np.clip(moved, -12, 12)


@pytest.mark.skipif(not UDACITY.is_dir(), reason=f"the recording is not at {UDACITY}")
def test_udacity_image_motion_follows_the_steering_in_both_gears(tmp_path: Path) -> None:
    store = Store.open(prepare("udacity", UDACITY, tmp_path / "store", (80, 160), workers=1))
    backwards = []
    for drive in (drive for drive in store.drives if drive.frames > 100):
        rows = drive.start + np.arange(drive.frames)
        actions, moved = store.read_actions(rows)[:-1], horizontal_motion(store, rows)
        seen = lag(actions[:, 0] * actions[:, 3], moved, store.hz)
        assert seen.correlation > 0.75 and 0 <= seen.frames < 1
        reverse = actions[:, 3] < 0
        backwards.append(int(reverse.sum()))
        if reverse.any():
            assert np.flatnonzero(np.diff(reverse)).size == 2, "one contiguous interval"
            speed = store.read_values(rows, ["speed"])["speed"][:-1]
            wheel = reverse & (np.abs(actions[:, 0]) > 0.9)
            assert np.median(moved[wheel] * actions[wheel, 0]) < -0.5, "in reverse the car turns the other way"
            assert actions[reverse, 1].max() == 1 and speed[reverse].max() > 8
    assert sorted(backwards)[-1] in range(40, 56) and sorted(backwards)[-2] == 0, "about 3 s in one drive"
