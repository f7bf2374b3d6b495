"""Showing batches and finding invalid rows of a store."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image as Pillow

from daydrive import cli
from daydrive.config import Config, load_config
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import BadRows, find_bad_rows
from daydrive.data.sampling.augment import DrivingAugmentation
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.store.store import METADATA_FILE, TABLE, Store
from daydrive.errors import UserError
from daydrive.progress import DriveProgress
from daydrive.types import Batch, to_signed
from daydrive.viz.images import show_batch
from helpers.paths import REPO, SHARED

UDACITY = SHARED / "udacity_track"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 4, 3, 16, 32), dtype=torch.uint8, generator=generator)
    actions = torch.tensor([0.7, 0.5, 0.0, 1.0]).repeat(2, 3, 1)
    return Batch(images, actions)


def written(path: Path) -> np.ndarray:
    return np.asarray(Pillow.open(path))


class TestSheet:
    def test_snippets_of_the_guide(self, road_store: Path) -> None:
        dataloader = ClipLoader(ClipIndex(Store.open(road_store), "train", 4), batch_size=2)

        batch = next(iter(dataloader))
        sheet = show_batch(batch["images"])

        assert sheet.dtype == np.uint8 and sheet.ndim == 3
        assert not torch.isnan(batch["images"]).any()
        assert batch["images"] is batch.images and batch["actions"] is batch.actions
        with pytest.raises(KeyError, match="speed"):
            batch["speed"]

    def test_floats_and_bytes_are_drawn_alike(self, batch: Batch, tmp_path: Path) -> None:
        sheet = show_batch(batch.images, path=tmp_path / "new" / "sheet.png")
        assert np.array_equal(sheet, written(tmp_path / "new" / "sheet.png"))
        assert np.array_equal(sheet, show_batch(to_signed(batch.images)))
        bottom, top = torch.full((1, 3, 8, 8), -1.0), torch.full((1, 3, 8, 8), 1.0, dtype=torch.bfloat16)
        black = show_batch(bottom) == show_batch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        white = show_batch(top) == show_batch(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))
        assert black.all() and white.all()

    def test_one_row_per_clip_and_one_column_per_frame(self) -> None:
        levels = torch.tensor([[40, 80, 120], [160, 200, 240]], dtype=torch.uint8)
        sheet = show_batch(levels[:, :, None, None, None].expand(2, 3, 3, 16, 16))
        corners = {}
        for level in levels.flatten().tolist():
            ys, xs = np.where((sheet == level).all(-1))
            assert len(ys) >= 128 * 128
            corners[level] = (ys.min(), xs.min())
        assert corners[40][0] == corners[80][0] == corners[120][0] < corners[160][0] == corners[240][0]
        assert corners[40][1] == corners[160][1] < corners[80][1] == corners[200][1] < corners[120][1]

    def test_pixel_aspect_is_respected(self, batch: Batch) -> None:
        square, wide = show_batch(batch.images), show_batch(batch.images, pixel_aspect=2.0)
        assert wide.shape[0] == square.shape[0] and wide.shape[1] > square.shape[1] + 4 * 200

    def test_actions_are_drawn_at_their_first_frame(self, batch: Batch) -> None:
        plain, drawn = show_batch(batch.images), show_batch(batch.images, batch.actions)
        columns = np.flatnonzero((plain != drawn).any((0, 2)))
        width = 256 + 3
        left = plain.shape[1] - 4 * width - 16 + 3
        assert set((columns - left) // width) == {0, 1, 2}
        other = batch.actions.clone()
        other[1, 2, 0] = -0.7
        rows, columns, _ = np.where(show_batch(batch.images, other) != drawn)
        assert rows.min() > plain.shape[0] / 2 and set((columns - left) // width) == {2}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x.float(), r"in \[-1, 1\], these range from 0 to 255; use uint8 for 0 to 255"),
            (lambda x: to_signed(x) * 1.01, r"range from -1\.01 to 1\.01"),
            (lambda x: to_signed(x).index_fill(1, torch.tensor(2), float("inf")), r"range from -1 to inf"),
            (lambda x: to_signed(x).index_fill(1, torch.tensor(2), float("nan")), r"NaN, first in clip 0, frame 2"),
            (lambda x: x.long(), r"uint8 \[0, 255\] or floating point \[-1, 1\], not torch\.int64"),
            (lambda x: x[:, :, :1], r"\(B, T, 3, H, W\) or \(B, 3, H, W\), not \(2, 4, 1, 16, 32\)"),
            (lambda x: x[0, 0], r"not \(3, 16, 32\)"),
            (lambda x: x[:0], r"not \(0, 4, 3, 16, 32\)"),
        ],
    )
    def test_invalid_images_are_rejected(
        self, batch: Batch, change: Callable[[torch.Tensor], torch.Tensor], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            show_batch(change(batch.images))

    def test_invalid_actions_are_rejected(self, batch: Batch) -> None:
        with pytest.raises(UserError, match=r"2 clips of 4 frames have the shape \(2, 3, 4\), not \(2, 4, 4\)"):
            show_batch(batch.images, torch.zeros(2, 4, 4))
        batch.actions[1, 2, 3] = float("nan")
        with pytest.raises(UserError, match="actions contain NaN, first in clip 1, frame 2"):
            show_batch(batch.images, batch.actions)


AUGMENTED = (
    "data.augmentation.mirror=0.5",
    "data.augmentation.crop_scale=[0.5,0.8]",
    "data.augmentation.brightness=0.3",
)


def as_trained(config: Config, store: Path, clips: int, first: int) -> Batch:
    index = ClipIndex(Store.open(store), "train", config.data.sequence_length, config.data.frame_skip)
    loader = ClipLoader(index, batch_size=clips, seed=config.training.seed, first_sample=first)
    return DrivingAugmentation.from_config(config.data.augmentation, config.training.seed)(next(iter(loader)))


class TestCommand:
    @pytest.mark.parametrize("overrides", [(), (*AUGMENTED, "data.frame_skip=2")])
    def test_shows_what_the_trainer_sees(
        self, run: Run, road_store: Path, tiny_config: Path, tmp_path: Path, overrides: tuple[str, ...]
    ) -> None:
        code, out, _ = run(
            "show-batch", "--config", tiny_config, "--data-root", road_store, "--clips", 4, "--length", 5, "--seed", 3,
            "--first-sample", 2, "--output", "look/a.png", *overrides,
        )  # fmt: skip
        assert code == 0 and out.endswith("look/a.png\n")
        config = load_config(tiny_config, ["training.seed=3", *overrides])
        batch = as_trained(config, road_store, 4, 2)
        tiles = show_batch(batch.images[:, :5], batch.actions[:, :4])[:, -5 * 131 - 13 :]
        sheet = written(tmp_path / "look" / "a.png")
        assert np.array_equal(sheet[-4 * 131 - 13 :, -5 * 131 - 13 :], tiles[-4 * 131 - 13 :])
        store = Store.open(road_store)
        for sample, clip in zip(range(2, 6), batch.clips, strict=True):
            assert f"sample {sample}: drive '{clip.drive}' from frame {store.locate(clip.start)[1]}" in out
        assert ("mirrored" in out) == bool(overrides)

    def test_script_with_defaults(self, run: Run, road_store: Path, tiny_config: Path) -> None:
        code, out, _ = run("show-batch", "--config", tiny_config, "--data-root", road_store)
        assert code == 0 and out.count("sample ") == 8 and Path("batch.png").is_file()
        for name in ("show_batch", "find_nan"):
            text = (REPO / "scripts" / f"{name}.py").read_text()
            assert f'main("{name.replace("_", "-")}")' in text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--clips", "0"], "'--clips'"),
            (["--length", "7"], "--length 7: the clips have data.sequence_length = 6 frames"),
            (["--length", "0"], "'--length'"),
            (["--first-sample", "-1"], "'--first-sample'"),
            (["--split", "trian"], "no split 'trian'; did you mean 'train'"),
            (["--seed", "-5"], "training.seed"),
            (["--output", "sheet.jpg"], r"--output sheet\.jpg: the sheet is a PNG"),
            (["--output", "taken/sheet.png"], "folder of --output taken is a file"),
            (["--data-root", "nowhere"], "no store at nowhere"),
            (["--config", "nowhere.yaml"], "no config file nowhere.yaml"),
            (["data.sequence_length=40"], "no drive long enough for clips of 40 frames"),
            (["data.augmentation.mirrors=1"], "unknown key 'data.augmentation.mirrors'; did you mean"),
            (["data.augmentation.mirror=2"], "data.augmentation.mirror"),
            (["data.augmentation.crop_scale=[0.9,0.5]"], "0 < smallest <= largest <= 1"),
        ],
    )
    def test_invalid_input_gives_one_sentence(
        self, run: Run, road_store: Path, tiny_config: Path, tmp_path: Path, arguments: list[str], message: str
    ) -> None:
        (tmp_path / "taken").touch()
        before = set(tmp_path.rglob("*"))
        code, out, err = run("show-batch", "--config", tiny_config, "--data-root", road_store, *arguments)
        assert code == 2 and out == "" and err.count("\n") == 1 and re.search(message, err), err
        assert set(tmp_path.rglob("*")) == before

    def test_missing_store(self, run: Run, tiny_config: Path) -> None:
        code, _, err = run("show-batch", "--config", tiny_config)
        assert code == 2 and "no drives are given" in err and "--data-root" in err


def spoil(store: Path, target: Path, changes: dict[str, dict[int, object]], **metadata: object) -> Path:
    """A copy of a store with other values in some rows of some columns."""
    table = Store.open(store).dataset.to_table()
    for name, rows in changes.items():
        place = table.schema.get_field_index(name)
        values = table.column(name).to_pylist()
        for row, value in rows.items():
            values[row] = value
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    target.mkdir()
    lance.write_dataset(table, str(target / TABLE))
    known = json.loads((store / METADATA_FILE).read_text())
    (target / METADATA_FILE).write_text(json.dumps(known | metadata))
    return target


class TestFindNan:
    def test_sound_store(self, run: Run, road_store: Path) -> None:
        code, out, _ = run("find-nan", road_store)
        assert code == 0 and out == f"{road_store}: 192 frames of 8 drives, nothing damaged, NaN or out of range\n"

    def test_planted_faults_are_found_with_drive_and_frame(self, run: Run, road_store: Path, tmp_path: Path) -> None:
        store = Store.open(road_store)
        jpegs, _ = store.read([24, 25])
        nan, inf = float("nan"), float("inf")
        bad = spoil(
            road_store,
            tmp_path / "bad",
            {
                "image": {24: jpegs[0][:300], 25: None, 26: b"", 28: jpegs[0].replace(b"\xff\xd8", b"\x00\x00", 1)},
                "action": {
                    3: [nan, 0, 0, 1],
                    4: [nan, 2, 0, 1],
                    50: [-1.5, 0, -0.1, 0.5],
                    51: [0, inf, 0, 1],
                    52: None,
                },
                "speed": {100: nan, 101: nan, 102: nan, 110: -inf},
                "time": {191: nan},
            },
        )
        names = [drive.name for drive in store.drives]
        found = find_bad_rows(Store.open(bad))
        numbers = [each for each in found if "image" not in each.problem]
        assert numbers == [
            BadRows(names[0], 3, 4, "steering is NaN"),
            BadRows(names[0], 4, 4, "throttle is outside [0, 1]"),
            BadRows(names[2], 2, 2, "steering is outside [-1, 1]"),
            BadRows(names[2], 2, 2, "brake is outside [0, 1]"),
            BadRows(names[2], 2, 2, "gear is not -1, 0 or 1"),
            BadRows(names[2], 3, 3, "throttle is outside [0, 1]"),
            *(BadRows(names[2], 4, 4, f"{what} is NaN") for what in ("steering", "throttle", "brake", "gear")),
            BadRows(names[4], 4, 6, "speed is NaN"),
            BadRows(names[4], 14, 14, "speed is infinite"),
            BadRows(names[7], 23, 23, "time is NaN"),
        ]
        images = {frame for each in found if "image" in each.problem for frame in range(each.first, each.last + 1)}
        assert images == {0, 1, 2, 4} and {each.drive for each in found if "image" in each.problem} == {names[1]}
        assert [names.index(each.drive) for each in found] == sorted(names.index(each.drive) for each in found)

        code, out, _ = run("find-nan", bad)
        lines = out.splitlines()
        assert code == 1 and len(lines) == len(found) + 1
        assert f"drive '{names[4]}', frames 4 to 6: speed is NaN" in lines
        assert lines[-1].endswith(f"{len(found)} faults")

    def test_missing_values_are_not_reported(self, road_store: Path, tmp_path: Path) -> None:
        """Score columns may contain NaN, and a drive may lack a column of values."""
        nan = float("nan")
        first_frames = {drive.start: nan for drive in Store.open(road_store).drives}
        scored = spoil(road_store, tmp_path / "scored", {"curvature": first_frames}, scores={"curvature": "…"})
        assert find_bad_rows(Store.open(scored)) == []
        without = spoil(road_store, tmp_path / "without", {"speed": dict.fromkeys(range(24, 48), nan)})
        assert find_bad_rows(Store.open(without)) == []
        partly = spoil(road_store, tmp_path / "partly", {"speed": dict.fromkeys(range(24, 47), nan)})
        assert [(each.first, each.last) for each in find_bad_rows(Store.open(partly))] == [(0, 22)]

    def test_long_drives_are_read_in_batches(
        self, road_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("daydrive.data.quality.check.CHUNK", 5)
        bad = spoil(road_store, tmp_path / "bad", {"speed": dict.fromkeys(range(3, 13), float("nan"))})
        store, sizes = Store.open(bad), []
        read = store.read_values
        monkeypatch.setattr(store, "read_values", lambda rows, names: sizes.append(len(rows)) or read(rows, names))
        found = find_bad_rows(store)
        assert found == [BadRows(store.drives[0].name, 3, 12, "speed is NaN")]
        assert max(sizes) == 5 and sum(sizes) == store.rows

    def test_progress_shows_rate_and_remaining_time(
        self, road_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("daydrive.progress.PLAIN_INTERVAL", 0.0)
        store = Store.open(road_store)
        lengths = [drive.frames for drive in store.drives]
        with DriveProgress(lengths, lengths) as progress:
            find_bad_rows(store, progress)
        last = capsys.readouterr().err.splitlines()[-1]
        assert re.fullmatch(r"drives 8/8, \d+ frames/s, 0:00 left", last), last

    def test_malformed(self, run: Run, road_store: Path, tmp_path: Path) -> None:
        cut = spoil(road_store, tmp_path / "cut", {})
        shutil.rmtree(cut / TABLE / "data")
        for store, message in (
            (tmp_path / "none", "no store at"),
            (cut, "is damaged"),
            (tmp_path, "not a prepared store"),
        ):
            code, _, err = run("find-nan", store)
            assert code == 2 and err.count("\n") == 1 and re.search(message, err), err


@pytest.mark.slow
@pytest.mark.skipif(not UDACITY.is_dir(), reason=f"no recording at {UDACITY}")
def test_real_recording(run: Run, tmp_path: Path) -> None:
    store = prepare("udacity", UDACITY, tmp_path / "store", (64, 64), workers=1)
    assert find_bad_rows(Store.open(store)) == []
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"data": {"root": str(store), "augmentation": {"mirror": 1.0}}}))
    code, _, _ = run("show-batch", "--config", config, "--clips", 2)
    assert code == 0 and written(tmp_path / "batch.png").shape[1] > 8 * 128 * 2
