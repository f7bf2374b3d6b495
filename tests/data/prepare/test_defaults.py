"""The store a training uses by default, and the default image size of a dataset."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from daydrive.config import DataConfig, load_config
from daydrive.config.files import config_names
from daydrive.data.defaults import defaults_of, find_store
from daydrive.data.prepare.prepare import prepare
from daydrive.data.sources import SOURCES
from daydrive.data.store.store import METADATA_FILE, Store
from daydrive.errors import UserError
from helpers.drives import write_drive
from helpers.refusals import Refuse

SMALL = {"road", "gym", "udacity"}


def put(store: Path, name: str, seconds: int) -> Path:
    """A store of this folder, prepared at that time."""
    path = Path("data/processed") / name
    shutil.copytree(store, path)
    os.utime(path / METADATA_FILE, (seconds, seconds))
    return path


def test_newest_store_is_the_default(small_store: Path, here: Path) -> None:
    with pytest.raises(UserError, match=r"no drives are given, .*python scripts/prepare_dataset\.py --dataset NAME"):
        find_store(None, DataConfig())
    older = put(small_store, "zoo", 1000)
    assert find_store(None, DataConfig()) == (older, f"store: {older}; --data-root selects another")
    newer = put(small_store, "ant", 2000)
    (here / "data/processed/none").mkdir()
    found, message = find_store(None, DataConfig())
    assert found == newer and message == (
        f"store: {newer}, the most recently prepared of the 2 under data/processed; --data-root selects another"
    )
    assert find_store("elsewhere", DataConfig(root=older)) == (Path("elsewhere"), None)
    assert find_store(None, DataConfig(root=older)) == (older, None)


def test_every_dataset_has_a_config_that_says_how_it_is_prepared(here: Path) -> None:
    configured = {name.removeprefix("data/") for name in config_names() if name.startswith("data/")}
    assert configured == set(SOURCES)
    for name in configured:
        data = load_config(f"data/{name}").data
        size = 64 if name in SMALL else 256
        assert data.image_size == (size, size) and data.root == Path(f"data/processed/{name}"), name
        assert defaults_of(name) == data
    assert defaults_of("of-another-package").image_size == (256, 256)
    assert defaults_of("of-another-package").root == Path("data/processed/of-another-package")


def test_default_image_size_is_that_of_the_dataset(here: Path, refuse: Refuse) -> None:
    for k in range(3):
        write_drive(here / "raw" / f"d{k}", 6)
    assert Store.open(prepare("folder", here / "raw", workers=0)).image_size == (256, 256)
    assert Store.open(prepare("road", None, drives=3, frames=4, workers=0)).image_size == (64, 64)
    (here / "configs/data").mkdir(parents=True)
    (here / "configs/data/folder.yaml").write_text("data: {root: stores/own, image_size: [32, 48]}\n")
    own = prepare("folder", here / "raw", workers=0)
    assert own == Path("stores/own") and Store.open(own).image_size == (32, 48)
    assert Store.open(prepare("folder", here / "raw", "third", (64, 64), workers=0)).image_size == (64, 64)
    (here / "configs/data/folder.yaml").write_text("data: {image_siz: [32, 48]}\n")
    refuse("prepare-dataset", "--dataset", "folder", "--data-root", "raw", message="did you mean 'data.image_size'")


def test_added_drives_have_the_size_of_the_store(here: Path) -> None:
    for k in range(3):
        write_drive(here / "raw" / f"d{k}", 6)
    prepare("folder", here / "raw", "store", (32, 32), workers=0)
    write_drive(here / "raw" / "d3", 6)
    added = Store.open(prepare("folder", here / "raw", "store", add=True, workers=0))
    assert added.image_size == (32, 32) and len(added.drives) == 4
