"""Many dreams on one page, the best on top: how well a model does, and where it fails."""

from __future__ import annotations

from collections.abc import Sequence

from daydrive.types import Image
from daydrive.viz.images import contact_sheet, to_images, widen
from daydrive.viz.views.clips import PredictedClip, shown_steps, step_names

_HEIGHT = 80


def sheet(shown: Sequence[PredictedClip], hz: float, pixel_aspect: float = 1.0) -> Image:
    """Two rows a clip, the real frames above the dream; clips in the order of what the dream gains over copying."""
    steps = shown_steps(len(shown[0].real), 10)
    rows, labels = [], []
    for one in sorted(shown, key=lambda one: one.mean_psnr[1] - one.mean_psnr[0]):
        real, dream = (widen(to_images(x), pixel_aspect) for x in (one.real, one.predicted))
        (last,) = widen(to_images(one.seen[-1:]), pixel_aspect)
        ours, baseline = one.mean_psnr
        rows += [[last, *(frames[t - 1] for t in steps)] for frames in (real, dream)]
        labels += [f"{one.name}  real", f"{ours:.1f} dB, {ours - baseline:+.1f}  dream"]
    title = f"{len(shown)} clips, the best on top: PSNR, and by how much it is better than the last picture copied"
    return contact_sheet(rows, labels, ["last seen", *step_names(steps, hz)], title=title, height=_HEIGHT, group=2)
