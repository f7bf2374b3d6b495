"""The views of `daydrive.viz.views` show the given frames, errors, motion and latents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import Store
from daydrive.envs.road import Driver, RoadEnv
from daydrive.errors import UserError
from daydrive.evaluation.controllability.branches import BranchSet, rollout_branches
from daydrive.models.rollout import rollout_uint8
from daydrive.types import Image
from daydrive.viz import colormaps
from daydrive.viz.charts import line_styles
from daydrive.viz.views import errors, latents, motion, rollouts, steering_sweep, training_curves
from daydrive.viz.views.clips import ClipQuery, ModelClip, PredictedClip, find_clips, load_model_clip, shown_steps

SIZE, CONTEXT, STEPS, HZ = (32, 48), 3, 6, 10.0
CPU = torch.device("cpu")


def noise(seed: int, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, *SIZE), dtype=torch.uint8, generator=generator)


def one(seed: int) -> PredictedClip:
    actions = torch.tensor([0.3, 0.5, 0.0, 1.0]).repeat(CONTEXT - 1 + STEPS, 1)
    return PredictedClip(
        f"drive{seed}", *(noise(10 * seed + i, n) for i, n in enumerate((CONTEXT, STEPS, STEPS))), actions
    )


def decode_video(video: Iterator[Image], frames: int) -> list[Image]:
    """The frames of a video; checks their number and that all have one size."""
    images = list(video)
    assert len(images) == frames and len({image.shape for image in images}) == 1
    assert all(image.dtype == np.uint8 for image in images)
    return images


def copier(context: Tensor, actions: Tensor) -> Tensor:
    return context[:, -1:].expand(-1, actions.shape[1] - context.shape[1] + 1, -1, -1, -1).clone()


class TestClips:
    def test_moment_is_the_last_context_frame(self, road_store: Path) -> None:
        store = Store.open(road_store)
        drive = store.drives[1]
        (clip,) = find_clips(store, ClipQuery("test", 5, 1, [drive.name], 1.2), CONTEXT, 2)
        assert (clip.start, clip.length, clip.frame_skip) == (drive.start + 12 - 4, CONTEXT + 5, 2)
        (shorter,) = find_clips(store, ClipQuery("test", 50, 1, [drive.name], 2.1), CONTEXT, 1)
        assert shorter.length == CONTEXT + 2
        both = find_clips(store, ClipQuery("test", 50, 1, [drive.name, store.drives[0].name]), CONTEXT, 1)
        assert [clip.drive for clip in both] == [drive.name, store.drives[0].name]

    @pytest.mark.parametrize("at", [-1.0, 0.1, 2.3, 100.0])
    def test_time_outside_the_drive_names_the_allowed_range(self, road_store: Path, at: float) -> None:
        store = Store.open(road_store)
        with pytest.raises(UserError, match=r"a rollout can start from 0\.2 s to 2\.2 s$"):
            find_clips(store, ClipQuery("test", 5, 1, [store.drives[0].name], at), CONTEXT, 1)

    def test_last_step_is_always_shown(self) -> None:
        assert shown_steps(1) == [1] and shown_steps(7) == [1, 2, 3, 5, 7]
        assert shown_steps(50)[-1] == 50 and len(shown_steps(50)) == 8


class TestRollout:
    def test_video_has_context_and_every_step(self) -> None:
        shown = [one(1), one(2)]
        images = decode_video(rollouts.video(shown, HZ), CONTEXT + STEPS)
        true = [shown[0]._replace(predicted=shown[0].real), shown[1]]
        other = decode_video(rollouts.video(true, HZ), CONTEXT + STEPS)
        assert all((a == b).all() for a, b in zip(images[:CONTEXT], other[:CONTEXT], strict=True))
        for a, b in zip(images[CONTEXT:], other[CONTEXT:], strict=True):
            assert set(np.flatnonzero((a != b).any((1, 2)))) <= set(range(round(0.6 * a.shape[0]))), (
                "the second clip changed"
            )

    def test_many_clips_are_arranged_in_columns(self) -> None:
        few, many = (next(rollouts.video([one(i) for i in range(n)], HZ)) for n in (4, 8))
        assert many.shape[0] == few.shape[0] and many.shape[1] > 1.5 * few.shape[1]

    def test_strip_has_three_rows_per_clip(self) -> None:
        once, twice = (rollouts.strip([one(i) for i in range(n)], HZ) for n in (1, 2))
        assert twice.shape[0] > 1.7 * once.shape[0] and twice.shape[1] == once.shape[1]


def test_sheet_shows_the_best_clip_first() -> None:
    def plain(seen: int, real: int, predicted: int) -> PredictedClip:
        levels = [torch.full_like(x, level) for x, level in zip(one(0)[1:4], (seen, real, predicted), strict=True)]
        return one(0)._replace(seen=levels[0], real=levels[1], predicted=levels[2])

    good, bad = plain(20, 90, 90), plain(40, 60, 220)
    assert good.mean_psnr[0] == 100.0 and good.mean_psnr[1] == pytest.approx(20 * np.log10(255 / 70))
    for clips in ([bad, good], [good, bad]):
        drawn = rollouts.ranked_sheet(clips, HZ)
        tops = {level: np.flatnonzero((drawn == level).all(-1).sum(1) > 100).min() for level in (90, 60, 220)}
        assert tops[90] < tops[60] < tops[220]


class TestError:
    def test_error_maps_are_differences(self) -> None:
        shown = [one(1), one(2), one(3)]
        found = errors.errors(iter(shown))
        wide = [[x.numpy().astype(float) for x in (c.real, c.predicted, c.copied)] for c in shown]
        for maps, which in ((found.mean_predicted, 1), (found.mean_copied, 2)):
            expected = np.mean([np.abs(clip[0] - clip[which]).mean(1) for clip in wide], axis=0)
            np.testing.assert_allclose(maps, expected, rtol=1e-5)
        np.testing.assert_allclose(found.predicted, np.abs(wide[0][0] - wide[0][1]).mean(1), rtol=1e-5)
        assert found.clips == 3 and found.first is shown[0] and found.predicted.shape == (STEPS, *SIZE)
        assert np.quantile(found.predicted, 0.9) < found.top <= 255

    def test_views_are_drawn(self) -> None:
        alone, several = errors.errors([one(1)]), errors.errors([one(1), one(2)])
        for found in (alone, several):
            decode_video(errors.video(found, HZ), STEPS)
        assert 300 < errors.sheet(alone, HZ).shape[0] < errors.sheet(several, HZ).shape[0]


class TestFan:
    def test_real_row_is_the_simulated_future(self) -> None:
        asked: list[Tensor] = []

        def predict(context: Tensor, actions: Tensor) -> Tensor:
            asked.append(actions)
            return copier(context, actions)

        shown = steering_sweep.sweep_world(predict, (64, 64), CONTEXT, 1, 4, world=2)
        real = shown.futures["real"]
        assert real.shape == shown.futures["predicted"].shape == (5, 4, 3, 64, 64)
        env, driver = RoadEnv((64, 64)), Driver(steering_sweep.FIRST_WORLD + 2)
        image, info = env.reset(seed=steering_sweep.FIRST_WORLD + 2)
        for _ in range(400):
            command = driver.act(info)
            if np.array_equal(image, shown.seen[-1].permute(1, 2, 0).numpy()):
                break
            image, _, _, _, info = env.step(command)
        for t in range(4):
            image = env.step(np.array([0.0, *command[1:]], np.float32))[0]
            assert np.array_equal(image, real[2, t].permute(1, 2, 0).numpy())
        (actions,) = asked
        assert actions.shape == (5, CONTEXT - 1 + 4, 4)
        assert actions[:, -1, 0].tolist() == [-1, -0.5, 0, 0.5, 1] == shown.steering[:, 0].tolist()
        assert (actions[:, : CONTEXT - 1] == actions[0, : CONTEXT - 1]).all()
        assert np.allclose(actions[:, -1, 1:], command[1:])
        assert "; 1 of 5 predictions" in shown.title, "a model that ignores the actions is right once"
        branches = BranchSet(shown.seen, actions, real)
        for predicted, count in ((real, 5), (real.flip(0), 1)):
            rollout = rollout_branches(lambda *_, predicted=predicted: predicted, branches)
            assert int((rollout.nearest().diagonal() == 1).sum()) == count
        decode_video(steering_sweep.video(shown, HZ), CONTEXT + 4)
        assert min(steering_sweep.sheet(shown, HZ).shape[:2]) > 400

    def test_recorded_future_is_the_first_column(self, road_store: Path) -> None:
        store = Store.open(road_store)
        (clip,) = find_clips(store, ClipQuery("test", 4, 1, [store.drives[0].name], 1.0), CONTEXT, 1)
        shown = steering_sweep.sweep_drive(copier, store, clip, CONTEXT)
        batch = read_clips(store, [clip])
        (columns,) = shown.futures.values()
        assert shown.names[0] == "recorded" and len(columns) == 6
        assert torch.equal(columns[0], batch.images[0, CONTEXT:])
        assert torch.equal(shown.steering[0], batch.actions[0, CONTEXT - 1 :, 0])
        assert torch.equal(columns[3], batch.images[0, CONTEXT - 1].expand(4, -1, -1, -1))
        decode_video(steering_sweep.video(shown, HZ, 2.0), CONTEXT + 4)


@pytest.fixture(scope="module")
def model_clip(trained: Path, road_store: Path) -> ModelClip:
    return load_model_clip(trained, road_store, ClipQuery("test", 4), CPU)


class TestModelInternals:
    def test_motion_matches_the_rollout(self, model_clip: ModelClip) -> None:
        shown = motion.view_motion(model_clip)
        predicted = rollout_uint8(model_clip.model, model_clip.seen[None], model_clip.actions[None])[0]
        assert np.array_equal(shown.predicted, predicted.permute(0, 2, 3, 1).numpy())
        assert shown.motion.shape == (4, 2, 64, 64) and shown.new.shape == shown.retained.shape == (4, 64, 64)
        np.testing.assert_allclose(shown.retained[0], 1 - shown.new[0], atol=1e-5)
        assert (shown.retained[1:].mean((1, 2)) < shown.retained[:-1].mean((1, 2))).all()
        decode_video(motion.video(shown, model_clip.name, HZ), 4)
        assert min(motion.sheet(shown, model_clip.name, HZ).shape[:2]) > 300

    def test_latents_of_an_exact_prediction(self, model_clip: ModelClip) -> None:
        shown = latents.latents(model_clip)
        grid = model_clip.model.encode(torch.zeros(1, 1, 3, 64, 64)).shape[-2:]
        assert shown.of_real.shape == shown.of_predicted.shape == (4, 3, *grid) and shown.memory.shape == (4, 1, *grid)
        assert shown.of_real.std((0, 2, 3)) == pytest.approx(1.0, abs=1e-3)
        assert shown.memory.std() == pytest.approx(1.0, abs=1e-3)
        predicted = torch.from_numpy(shown.predicted).movedim(-1, 1)
        true = latents.latents(model_clip._replace(real=predicted))
        gaps = [np.abs(x.of_real - x.of_predicted).mean() for x in (true, shown)]
        assert gaps[0] < 0.05 and gaps[0] < gaps[1] / 2, "images were rounded, nothing else"
        decode_video(latents.video(shown, model_clip.name, HZ), 4)
        assert min(latents.sheet(shown, model_clip.name, HZ).shape[:2]) > 300

    def test_principal_components(self) -> None:
        spread = torch.tensor([1.0, 5.0, 0.1, 2.0])[None, :, None, None]
        points = torch.randn(50, 4, 6, 6, generator=torch.Generator().manual_seed(0)) * spread + 3
        found = latents.principal_axes(points, 3)
        assert found.mean.tolist() == pytest.approx([3] * 4, abs=0.5)
        assert found.axes.argmax(1).tolist() == [1, 3, 0]
        assert found.axes.norm(dim=1).tolist() == pytest.approx([5, 2, 1], rel=0.1)
        assert found.explained == pytest.approx([25 / 30.01, 4 / 30.01, 1 / 30.01], abs=0.02)
        few = latents.principal_axes(points[:, :2], 3)
        assert (few.axes[2] == 0).all() and few.explained[2] == 0 and np.isfinite(few.along(points[:, :2])).all()


class TestColormaps:
    @pytest.mark.parametrize("colours", [colormaps.ERRORS, colormaps.SHARES, colormaps.VALUES])
    def test_colormaps_are_monotonic_in_greyscale(self, colours: int) -> None:
        ramp = colormaps.apply_colormap(np.linspace(0, 1, 32)[None], 0, 1, colours)[0]
        assert (np.diff(ramp @ [0.299, 0.587, 0.114]) > 0).all()

    def test_faster_motion_is_darker_and_directions_differ(self) -> None:
        speeds = np.stack([np.linspace(0, 3, 7), np.zeros(7)])[:, None]
        grey = colormaps.flow_to_colours(speeds, 3.0)[0] @ [0.299, 0.587, 0.114]
        assert grey[0] > 240 and (np.diff(grey) < 0).all() and grey[-1] > 80
        left, right, up, down = colormaps.flow_to_colours(np.array([[[-1, 1, 0, 0]], [[0, 0, -1, 1]]]), 1.0)[0].astype(
            int
        )
        assert right[2] - left[2] > 80 and up[1] - down[1] > 40
        assert np.ptp([c @ [0.299, 0.587, 0.114] for c in (left, right, up, down)]) < 30, "equally fast, equally dark"

    def test_arrows_point_along_the_motion(self) -> None:
        tile = np.full((96, 96, 3), 128, np.uint8)
        ahead = np.zeros((2, 8, 8))
        assert np.array_equal(colormaps.with_arrows(tile, ahead, 1.0), tile)
        ahead[0] = 1.0
        drawn = (colormaps.with_arrows(tile, ahead, 1.0) != tile).any(-1)
        assert drawn.any() and drawn.any(1).sum() < drawn.any(0).sum(), "arrows are horizontal"

    def test_scales_end_at_round_numbers(self) -> None:
        assert [colormaps.round_up(x) for x in (0, 0.013, 1, 7, 61, 100.0)] == [1, 0.015, 1, 8, 80, 100]

    def test_nearest_neighbour_resizing_keeps_every_value(self) -> None:
        small = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        large = colormaps.resize_nearest(small, np.zeros((9, 7, 3), np.uint8))
        assert large.shape == (9, 7, 3) and {tuple(x) for x in large.reshape(-1, 3)} == {
            tuple(x) for x in small.reshape(-1, 3)
        }


def logged(folder: Path, losses: list[float], psnr: list[float], end: str = "") -> Path:
    folder.mkdir(parents=True)
    rows = [{"step": 10 * (i + 1), "train/loss": loss} for i, loss in enumerate(losses)]
    rows += [{"step": 1000 * (i + 1), "val/psnr": value, "val/copy_last_psnr": 20.0} for i, value in enumerate(psnr)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return folder


class TestCurves:
    def test_broken_lines_of_a_log_are_skipped(self, tmp_path: Path) -> None:
        first = logged(tmp_path / "first", [3.0, 2.0, 1.0], [21.0, 24.0], '{"step": 5000, "train/lo')
        with (first / "metrics.jsonl").open("r+") as file:
            lines = file.read()
            file.seek(0)
            file.write('{"step": 5, "train/loss": null}\n' + lines)
        (run,) = training_curves.read_runs([first])
        assert run.name == "first"
        assert run.loss.steps.tolist() == [10, 20, 30] and run.loss.values.tolist() == [3, 2, 1]
        assert run.psnr.values.tolist() == [21, 24] and run.margin.values.tolist() == [1, 4]

    def test_every_run_has_its_own_style(self, tmp_path: Path) -> None:
        count = 3
        folders = [logged(tmp_path / f"r{i}" / "run", [3.0, 2.0 + i, 1.0 + i], [21.0, 24.0 + i]) for i in range(count)]
        runs = training_curves.read_runs(folders)
        assert [run.name for run in runs] == [f"r{i}/run" for i in range(count)]
        chart, fewer = (training_curves.chart(x) for x in (runs, runs[:2]))
        for k, style in enumerate(line_styles(count)):
            colour = np.array([int(style.colour[i : i + 2], 16) for i in (1, 3, 5)])
            pixels = [int((np.abs(image.astype(int) - colour).max(-1) < 12).sum()) for image in (chart, fewer)]
            assert pixels[0] > 400 and (pixels[1] > 400) == (k < 2), style

    def test_curves_without_validation_or_loss(self, tmp_path: Path) -> None:
        for name, losses, psnr in (("train", [2.0, 1.0], []), ("val", [], [20.0])):
            (run,) = training_curves.read_runs([logged(tmp_path / name, losses, psnr)])
            assert min(training_curves.chart([run]).shape[:2]) > 400

    def test_smoothing_preserves_constants_and_the_mean(self) -> None:
        assert training_curves.smoothed(np.full(9, 4.0), 0.9).tolist() == pytest.approx([4.0] * 9)
        assert training_curves.smoothed(np.array([1.0, 3.0]), 0.0).tolist() == [1.0, 3.0]
        assert training_curves.smoothed(np.array([1.0, 3.0]), 0.5)[1] == pytest.approx((0.25 * 1 + 0.5 * 3) / 0.75)

    def test_lines_differ_in_three_ways(self) -> None:
        seven = line_styles(7)
        assert len({line.colour for line in seven}) == len({line.marker for line in seven}) == 7
        assert len({str(line) for line in line_styles(40)}) == 40
