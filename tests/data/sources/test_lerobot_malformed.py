"""Malformed LeRobot datasets and impossible exports: a one-line error, and no files left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daydrive.data.export import export_lerobot
from daydrive.data.export.video import VideoFiles
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.drives import write_drive
from helpers.open_formats import write_lerobot
from helpers.refusals import Refuse, refuses

Spoil = Callable[[Path], object]
INFO, EPISODES, DATA = "meta/info.json", "meta/episodes.jsonl", "data/chunk-000/episode_000001.parquet"
VIDEO = "videos/chunk-000/observation.images.front/episode_000001.mp4"
EPISODES_3, DATA_3 = "meta/episodes/chunk-000/file-000.parquet", "data/chunk-000/file-000.parquet"
KEY = "videos/observation.images.front"


def info(**values: Any) -> Spoil:
    def apply(root: Path) -> None:
        found = json.loads((root / INFO).read_text())
        (root / INFO).write_text(json.dumps({**found, **values}))

    return apply


def feature(name: str, **values: Any) -> Spoil:
    def apply(root: Path) -> None:
        features = json.loads((root / INFO).read_text())["features"]
        info(features={**features, name: {**features[name], **values}})(root)

    return apply


def row(number: int, text: str) -> Spoil:
    def apply(root: Path) -> None:
        lines = (root / EPISODES).read_text().splitlines()
        lines[number - 1] = text
        (root / EPISODES).write_text("\n".join(lines) + "\n")

    return apply


def column(file: str, name: str, edit: Callable[[list[Any]], Any]) -> Spoil:
    """Replaces a column by the result of `edit` on its values, or removes it if that is None."""

    def apply(root: Path) -> None:
        table = pq.read_table(root / file)
        index, edited = table.schema.get_field_index(name), edit(table.column(name).to_pylist())
        table = table.remove_column(index)
        pq.write_table(table if edited is None else table.add_column(index, name, pa.array(edited)), root / file)

    return apply


def put(index: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [*values[:index], value, *values[index + 1 :]]


def cut(name: str, share: float) -> Spoil:
    return lambda root: (root / name).write_bytes(
        (root / name).read_bytes()[: int(share * (root / name).stat().st_size)]
    )


def moved_out(name: str) -> Spoil:
    def apply(root: Path) -> None:
        shutil.move(root / name, root.parent / "elsewhere")
        (root / name).symlink_to(root.parent / "elsewhere")

    return apply


def refused(root: Path, tmp_path: Path, **options: object) -> str:
    return refuses(
        lambda: prepare("lerobot", root, tmp_path / "out" / "store", (16, 16), workers=1, **options), tmp_path
    )


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: (root / INFO).unlink(), "is not a LeRobot dataset: it has no meta/info.json"),
        (lambda root: (root / INFO).write_text("{"), "meta/info.json: not JSON"),
        (info(codebase_version="v1.6"), "codebase_version is 'v1.6'; supported versions: 2 and 3"),
        (info(fps=0), "info.json: fps is 0, expected a positive number"),
        (info(fps="30"), "info.json: fps is '30', expected a positive number"),
        (info(features=[]), "info.json: it has no features"),
        (info(data_path=None), "info.json: data_path is None, expected a path template"),
        (info(data_path="data/{episode}.parquet"), "has the unknown field {episode}"),
        (info(data_path="../../{episode_index}"), "'../../{episode_index}' is not a path below the dataset"),
        (info(data_path="/etc/passwd"), "'/etc/passwd' is not a path below the dataset"),
        (info(data_path="{episode_index:999999999d}"), "is not a path below the dataset"),
        (info(data_path="{episode_index.__class__}"), "is not a path below the dataset"),
        (feature("action", shape="4"), "the feature 'action' has no shape"),
        (feature("action", names=["a", "b", "c"]), "its columns: action.a, action.b, action.c, action.0"),
        (feature("action", shape=[2], names=["steering", "gear"]), "action does not have 2 numbers"),
        (feature("observation.images.front", dtype="float32"), "--camera front: there is no such camera in"),
        (row(2, "half a li"), "episodes.jsonl, row 2: not JSON"),
        (row(2, '{"episode_index": 1}'), "episodes.jsonl, row 2: length is None, expected an integer of at least 1"),
        (row(2, '{"episode_index": 0, "length": 12}'), "the episode 0 occurs twice"),
        (row(2, '{"episode_index": 1, "length": 99}'), "has 12 rows of episode 1, but its length is 99"),
        (row(2, '{"episode_index": 7, "length": 12}'), "episode_000007.parquet cannot be read"),
        (lambda root: (root / EPISODES).unlink(), "meta/episodes.jsonl cannot be read"),
        (lambda root: (root / DATA).unlink(), "episode_000001.parquet cannot be read"),
        (cut(DATA, 0.7), "episode_000001.parquet cannot be read"),
        (lambda root: (root / DATA).write_text("version https://git-lfs.github.com/spec/v1"), "001.parquet cannot be"),
        (column(DATA, "action", lambda _: None), "episode_000001.parquet has no column 'action'"),
        (column(DATA, "action", put(3, [float("nan"), 0, 0])), "episode 1, frame 3: action is empty or not finite"),
        (column(DATA, "action", put(3, None)), "episode 1, frame 3: action does not have 3 numbers"),
        (column(DATA, "action", put(3, [2.0, 0, 0])), "episode 1, frame 3: action.steering is 2, outside [-1, 1]"),
        (column(DATA, "action", lambda values: ["left"] * len(values)), "action is string, expected 3 numbers"),
        (column(DATA, "timestamp", put(5, 0.1)), "episode 1, frame 5: its timestamp is 0.1000 s, expected 0.5000 at"),
        (column(DATA, "episode_index", put(5, 4)), "has 11 rows of episode 1, but its length is 12"),
        (lambda root: (root / VIDEO).unlink(), "episode_000001.mp4 cannot be read"),
        (lambda root: (root / VIDEO).write_bytes(b""), "episode_000001.mp4 cannot be read"),
        (cut(VIDEO, 0.5), "episode_000001.mp4 cannot be read"),
        (lambda root: shutil.copy(root / VIDEO.replace("000001", "000002").replace("chunk-000", "chunk-001"),
                                  root / VIDEO), None),
        (moved_out(DATA), "episode_000001.parquet is a link out of the data root"),
        (moved_out(VIDEO), "episode_000001.mp4 is a link out of the data root"),
        (moved_out("meta"), "is a link out of the data root"),
    ],
)  # fmt: skip
def test_version_2(spoil: Spoil, expected: str | None, tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "déjà vu", (12, 12, 12))
    spoil(root)
    if expected is None:
        assert prepare("lerobot", root, tmp_path / "store", (16, 16), workers=1).exists()
    else:
        message = refused(root, tmp_path, camera="front" if "images" not in expected else None)
        assert expected in message, message


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (put(3, {"bytes": b"", "path": None}), "frame 3: the image observation.images.front is empty (0 bytes)"),
        (put(3, {"bytes": b"GIF89a", "path": None}), "observation.images.front is not a supported image"),
        (put(3, {"bytes": b"\xff\xd8\xff\xe0 half", "path": None}), "observation.images.front is a damaged JPEG"),
        (put(3, {"bytes": None, "path": "images/3.png"}), "images/3.png cannot be read"),
        (put(3, {"bytes": None, "path": "../../secret.png"}), "is a link out of the data root"),
        (put(3, {"bytes": None, "path": None}), "frame 3: observation.images.front has no image"),
    ],
)
def test_images_in_parquet(edit: Callable[[list[Any]], Any], expected: str, tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "raw", (12, 12), image_dtype="image")
    column(DATA, "observation.images.front", edit)(root)
    assert expected in refused(root, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda root: shutil.rmtree(root / "meta/episodes"),
            "has no list of episodes (meta/episodes/chunk-000/file-000",
        ),
        (cut(EPISODES_3, 0.5), "file-000.parquet cannot be read"),
        (column(EPISODES_3, f"{KEY}/from_timestamp", lambda _: None), f"has no column '{KEY}/from_timestamp'"),
        (column(EPISODES_3, f"{KEY}/from_timestamp", put(1, 99.0)), "row 2: invalid time range in its video, 99.0 to"),
        (
            column(EPISODES_3, "data/file_index", put(1, -1)),
            "row 2: data/file_index is -1, expected an integer of at least 0",
        ),
        (column(EPISODES_3, "length", put(1, 3)), "rows of episode 1, but its length is 3"),
        (
            column(EPISODES_3, f"{KEY}/to_timestamp", put(0, None)),
            "row 1: invalid time range in its video, 0.0 to None s",
        ),
        (column(DATA_3, "index", lambda _: None), None),
        (cut(DATA_3, 0.5), "file-000.parquet cannot be read"),
        (cut(f"{KEY}/chunk-000/file-000.mp4", 0.5), "file-000.mp4 cannot be read"),
    ],
)
def test_version_3(spoil: Spoil, expected: str | None, small_store: Path, tmp_path: Path) -> None:
    root = export_lerobot(small_store, tmp_path / "raw")
    spoil(root)
    if expected is None:
        assert prepare("lerobot", root, tmp_path / "store", (16, 16), workers=1).exists()
    else:
        assert expected in refused(root, tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"camera": "rear"}, "--camera rear: there is no such camera in"),
        ({"hz": 20}, "has 10 frames per second, too few for --hz 20"),
        ({"split": "official"}, "has no train, val and test splits that cover all episodes"),
        ({"split": "random"}, "--split random: must be official or by-drive"),
        ({"steering": "action.9"}, "has no column 'action.9' for --set steering=action.9; did you mean 'action."),
        ({"brake_scale": float("inf")}, "--set brake_scale=inf must be finite and not 0"),
    ],
)
def test_options(options: dict[str, object], expected: str, tmp_path: Path) -> None:
    assert expected in refused(write_lerobot(tmp_path / "raw", (12, 12)), tmp_path, **options)


def test_exports(small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    for arguments, message in (
        ((small_store, "--output", tmp_path / "there"), "there already exists; choose an empty"),
        ((tmp_path / "none", "--output", tmp_path / "out"), "there is no store at"),
        (
            (small_store, "--output", tmp_path / "out", "--split", "vall"),
            "there is no split 'vall'; did you mean 'val'",
        ),
    ):
        refuse("data", "export", *arguments, message=message)
    write_drive(tmp_path / "raw" / "d", 40)
    odd = prepare("folder", tmp_path / "raw", tmp_path / "odd", (15, 16), workers=1)
    message = refuses(lambda: export_lerobot(odd, tmp_path / "out"), tmp_path)
    assert "has images of 15x16, and H.264 supports only even sizes; prepare a store with --image-size 16 16" in message
    with monkeypatch.context() as patch:
        read = Store.read
        patch.setattr(Store, "read", lambda self, rows: ([jpeg[:99] for jpeg in read(self, rows)[0]], None))
        message = refuses(lambda: export_lerobot(small_store, tmp_path / "more" / "out"), tmp_path)
    assert "is damaged: the image of drive" in message

    def full(self: VideoFiles, image: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoFiles, "add", full)
    assert "cannot be written (No space left" in refuses(
        lambda: export_lerobot(small_store, tmp_path / "out"), tmp_path
    )
