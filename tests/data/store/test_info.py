"""`daydrive data info` and `daydrive data show`: statistics and the images shown."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.summary import summarize
from daydrive.data.store.concat import merge
from daydrive.data.store.resplit import resplit
from daydrive.data.store.store import Store
from daydrive.viz.gallery.page import POINTS, _thinned
from helpers.drives import write_drive
from helpers.refusals import Refuse, damage_images

NAME = "ein <b>Tag & é|x @DATA@"


@pytest.fixture(scope="session")
def described_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drives of 40, 30 and 20 frames at 10 Hz with known actions and speeds, one with a name that needs escaping."""
    folder = tmp_path_factory.mktemp("described")
    for name, frames in (("a", 40), (NAME, 30), ("c", 20)):
        rows = [f"{k / 10},{0 if k < 10 else 12.5},{-0.5 if k % 2 else 0.25},0.5,{k % 2},1" for k in range(frames)]
        write_drive(folder / "raw" / name, frames, rows, "time,speed,steering,throttle,brake,gear")
    return prepare("folder", folder / "raw", folder / "store", (24, 32), workers=1)


def run(*arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
        patch.setenv("COLUMNS", "110")
        cli.main()
    assert not ended.value.code


def test_statistics(described_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("data", "info", described_store, "--json")
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == 90 and summary["hz"] == 10 and summary["hours"] == pytest.approx(9 / 3600)
    assert summary["source"] == "folder" and summary["image_size"] == [24, 32] and summary["fit"] == "stretch"
    assert summary["bytes"] == sum(f.stat().st_size for f in described_store.rglob("*") if f.is_file())
    lengths = {name: found["seconds"] for name, found in summary["splits"].items()}
    assert sorted(found["median"] for found in lengths.values()) == [2.0, 3.0, 4.0]
    assert summary["driving"]["standing"] == pytest.approx(30 / 90) and summary["driving"]["straight"] == 0.0
    assert summary["driving"]["left"] + summary["driving"]["right"] == pytest.approx(60 / 90)
    steering, speed = summary["columns"]["steering"], summary["columns"]["speed"]
    assert steering["min"] == -0.5 and steering["max"] == 0.25 and steering["mean"] == pytest.approx(-0.125)
    assert speed["max"] == 12.5 and speed["percentiles"]["5"] == 0.0 and speed["zero"] == pytest.approx(30 / 90)
    assert (
        summary["columns"]["brake"]["mean"] == 0.5 and summary["actions"]["steering"]["sign"] == "positive to the right"
    )
    run("data", "info", described_store)
    shown = capsys.readouterr().out
    for text in ("90 of 24x32", "10 Hz", "standing 33 %", "positive to the right", "steering", "-0.5", "12.5"):
        assert text in shown


def test_missing_values_and_origins_of_actions(small_store: Path, described_store: Path) -> None:
    summary = summarize(Store.open(small_store))
    assert summary["columns"]["speed"] == {
        "unit": "as given, times --set speed_scale where that is given",
        "missing": 1.0,
    }
    assert summary["driving"]["standing"] is None and summary["made_from"] == {}
    store = Store.open(described_store)
    for drive, origin in zip(store.metadata["drives"], ("pose", "can", "can"), strict=True):
        drive["made_from"] = {"steering": origin}
    assert summarize(store)["made_from"] == {"steering": {"pose": 1, "can": 2}}


class Page(HTMLParser):
    """Tags with their attributes, and the content of the data script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.data = ""
        self.within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag in ("h1", "h2"):
            self.headings.append("")
        self.within = tag if tag in ("h1", "h2") else "data" if dict(attributes).get("id") == "data" else ""

    def handle_data(self, data: str) -> None:
        if self.within == "data":
            self.data += data
        elif self.within:
            self.headings[-1] += data


def test_page_and_sheets(described_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("data", "show", described_store, "--output", tmp_path / "out", "--images", 5)
    assert "3 of 3 drives" in capsys.readouterr().out
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert len(files) == 4 and files[-1] == "index.html" and all(re.fullmatch(r"[\w.-]+", file) for file in files)
    text = (tmp_path / "out/index.html").read_text()
    page = Page(text)
    store = Store.open(described_store)
    assert [h.strip() for h in page.headings] == ["store", *(drive.name for drive in store.drives)]
    assert "<b>Tag" not in text and html.escape(NAME) in text
    links = [value for _, given in page.tags for name, value in given.items() if name in ("src", "href")]
    assert not links and "http" not in re.sub(r"data:[^\"]*", "", text), "nothing is fetched"
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    charts = [given for tag, given in page.tags if given.get("class") == "chart"]
    assert len(charts) == 3 and all(chart["role"] == "slider" and chart["tabindex"] == "0" for chart in charts)
    for drive, shown in zip(store.drives, json.loads(page.data), strict=True):
        rows = drive.start + np.array(shown["at"])
        assert len(rows) == 5 and np.ptp(np.diff(rows)) <= 1 and shown["frames"] == drive.frames
        assert np.allclose(shown["actions"], store.read_actions(rows), atol=1e-3)
        assert shown["speed"] == store.read_values(rows, ["speed"])["speed"].tolist()
        for source, jpeg in zip(shown["images"], store.read(rows)[0], strict=True):
            seen = simplejpeg.decode_jpeg(base64.b64decode(source.removeprefix("data:image/jpeg;base64,")))
            assert np.abs(seen.astype(int) - simplejpeg.decode_jpeg(jpeg)).max() <= 8
    sheet = np.asarray(Image.open(tmp_path / "out" / files[0]))
    assert sheet.shape[1:] == (1600, 3) and len(np.unique(sheet.reshape(-1, 3), axis=0)) > 100
    assert (sheet == (38, 92, 178)).all(-1).sum() > 300, "the curve of the steering"


def test_chosen_drives_damaged_images_and_segments_of_no_split(store: Path, here: Path) -> None:
    damage_images(store, "val")
    cut = resplit(store, "time", val=0.2, test=0.2)
    names = [drive.name for drive in cut.drives]
    run("data", "show", store, "--drive", names[-1], "--drive", names[1], "--images", 2)
    files = sorted(file.name for file in (here / "show/store").iterdir())
    assert len(files) == 3 and files[0].startswith("000_") and names[-1].replace("/", "_") in files[0]
    run("data", "show", store, "--limit", 2, "--output", "two")
    assert len(list((here / "two").iterdir())) == 3


def test_merged_store(small_store: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(small_store, here / "other")
    merge([small_store, here / "other"], here / "mix", [1.0, 3.0])
    run("data", "info", "mix")
    summary = capsys.readouterr().out
    assert "mix of" in summary and "(weight 3)" in summary and "96 of 32x32" in summary
    run("data", "show", "mix", "--limit", 2, "--images", 3)
    files = {file.name for file in (here / "show/mix").iterdir()}
    assert "index.html" in files and any("other_" in file for file in files)


def test_long_drives_keep_their_peaks_on_the_page() -> None:
    values = np.zeros(50 * POINTS)
    values[[7, 30_000]] = 0.8, -0.9
    thinned = _thinned(values)
    assert len(thinned) == POINTS and thinned.max() == 0.8 and thinned.min() == -0.9


def test_user_errors(described_store: Path, refuse: Refuse, tmp_path: Path) -> None:
    refuse("data", "show", described_store, "--drive", "b", message="has no drive 'b'")
    refuse("data", "info", tmp_path / "nowhere", message="there is no store at")
    (tmp_path / "file").write_text("")
    refuse("data", "show", described_store, "--output", tmp_path / "file", message="is a file; give a folder")
