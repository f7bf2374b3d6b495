"""The exported page: its files, the browser's runtime by version, and driving in headless Chromium."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from daydrive.checkpoint import load
from daydrive.cli import app
from daydrive.errors import UserError
from daydrive.export import web, web_runtime
from daydrive.export.clips import read
from daydrive.models.rollout import rollout_uint8
from helpers.chromium import BINARY, Chromium
from helpers.paths import REPO
from helpers.refusals import Refuse

RUNTIME = Path(os.environ.get("DAYDRIVE_ONNXRUNTIME_WEB", REPO / web_runtime.ARCHIVE))
"""The archive that `web_runtime.COMMAND` writes, in the repository or named by this variable."""

needs_runtime = pytest.mark.skipif(not RUNTIME.exists(), reason=f"run `{web_runtime.COMMAND}` in the repository")
needs_chromium = pytest.mark.skipif(BINARY is None, reason="Chromium is not installed")


def archive(file: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as packed:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return file


@pytest.fixture
def own_runtime(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Contents that are taken for the pinned version."""
    contents = {file.packed_name: file.name.encode() for file in web_runtime.FILES}
    files = [file._replace(sha256=hashlib.sha256(contents[file.packed_name]).hexdigest()) for file in web_runtime.FILES]
    monkeypatch.setattr(web_runtime, "FILES", tuple(files))
    return contents


def test_runtime_is_read_from_archive_and_folders(own_runtime: dict[str, bytes], here: Path) -> None:
    expected = {file.name: file.name.encode() for file in web_runtime.FILES}
    archive(here / web_runtime.ARCHIVE, own_runtime)
    assert web_runtime.read_runtime(None) == web_runtime.read_runtime(here / web_runtime.ARCHIVE) == expected
    for place in ("unpacked/package/dist", "node_modules/onnxruntime-web/dist"):
        (here / place).mkdir(parents=True)
        for name, data in own_runtime.items():
            (here / place / name).write_bytes(data)
    for folder in ("unpacked", "unpacked/package", "unpacked/package/dist", "node_modules/onnxruntime-web"):
        assert web_runtime.read_runtime(here / folder) == expected


def test_runtime_of_another_version(own_runtime: dict[str, bytes], here: Path) -> None:
    first = web_runtime.FILES[0].packed_name
    file = archive(here / "other.tgz", {**own_runtime, first: b"newer"})
    with pytest.raises(UserError, match=rf"dist/{first} in .* is not that of version .*`npm pack onnxruntime-web@"):
        web_runtime.read_runtime(file)
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(UserError, match="cannot be read as a package of npm"):
        web_runtime.read_runtime(file)


def test_start_moments_are_exact(trained: Path, road_store: Path, tmp_path: Path) -> None:
    clips = read(load(trained), road_store, "test", count=8, steps=3)
    starts = web.write_page(tmp_path, {"runtime.js": b"x"}, clips, context=4)
    assert len(starts) == web.STARTS and (tmp_path / "runtime.js").read_bytes() == b"x"
    for k, start in enumerate(starts):
        shown = np.asarray(Image.open(tmp_path / start["image"]))
        frames = np.split(shown, 4, axis=1)
        assert all(np.array_equal(frames[t], clips.images[k, t].movedim(0, -1)) for t in range(4))
        np.testing.assert_allclose(start["actions"], clips.actions[k, :3])
    page = {file.name for file in web.STATIC.iterdir()} | set(web.WINDOW_FILES)
    assert page <= {file.name for file in tmp_path.iterdir()}


def test_page_without_a_network_consists_of_all_its_files() -> None:
    listed = re.findall(r'"([a-z]+\.\w+)"', (web.STATIC / "offline.js").read_text().split("];")[0])
    own = {file.name for file in web.STATIC.iterdir()} - {"index.html", "offline.js"}
    assert set(listed) == own | set(web.WINDOW_FILES)


def test_page_loads_nothing_from_other_hosts() -> None:
    for file in web.STATIC.iterdir():
        assert "//" not in file.read_text().replace("// ", "").replace("https and", ""), file.name


def test_road_world_moments(trained: Path) -> None:
    clips = read(load(trained), None, "test", count=2, steps=5)
    assert clips.images.shape == (2, 9, 3, 64, 64) and clips.actions.shape == (2, 8, 4)
    assert (clips.hz, clips.source) == (10.0, "road world")
    assert not clips.images[0].equal(clips.images[1]) and clips.actions[:, :, 3].eq(1).any()


def test_a_single_clip(trained: Path, road_store: Path) -> None:
    one, two = (read(load(trained), road_store, "test", count=count, steps=3) for count in (1, 2))
    assert len(one.images) == 1 and one.images[0].equal(two.images[0])


def test_page_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(3000))
    web.check_size(tmp_path, "float32")
    monkeypatch.setattr(web, "MAX_BYTES", 2000)
    with pytest.raises(UserError, match=r"the page would have .* MB, more than .*; use --precision float16"):
        web.check_size(tmp_path, "float32")


def test_missing_runtime_in_the_current_folder(trained: Path, refuse: Refuse) -> None:
    given = ["export", "--checkpoint", trained, "--format", "web", "--output", "page"]
    refuse(*given, message="no onnxruntime-web in this folder.*`npm pack onnxruntime-web@")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a static host of the folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


class Source(NamedTuple):
    """checkpoint: a folder, or the name of packaged weights. store: of the start moments, None for the road world."""

    checkpoint: Path
    store: Path | None


@pytest.fixture(scope="module", params=["small model", pytest.param("packaged weights", marks=pytest.mark.slow)])
def source(request: pytest.FixtureRequest, trained: Path, road_store: Path) -> Source:
    return Source(trained, road_store) if request.param == "small model" else Source(Path("road"), None)


@pytest.fixture(scope="module")
def page(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "page"
    arguments = ["export", "--checkpoint", source.checkpoint, "--format", "web", "--output", folder]
    arguments += ["--runtime", RUNTIME, "--precision", "float16", "--clips", "1"]
    store = [] if source.store is None else ["--data-root", source.store]
    app([*map(str, arguments + store)], standalone_mode=False)
    return folder


@needs_runtime
def test_page_is_small_and_complete(page: Path, source: Source) -> None:
    assert sum(file.stat().st_size for file in page.iterdir()) < web.MAX_BYTES
    about = json.loads((page / "model.json").read_text())
    assert (
        tuple(about["image_size"]) == load(source.checkpoint).image_size
        and about["hz"] == 10
        and about["precision"] == "float16"
    )
    named = [about["step"], about["init"], about["weights"], *(start["image"] for start in about["starts"])]
    assert all((page / name).is_file() for name in named)


@needs_runtime
@needs_chromium
@pytest.mark.timeout(300)
def test_driving_in_a_browser(page: Path, tmp_path: Path) -> None:
    with Chromium(tmp_path / "profile") as browser:
        browser.look(1280)
        with served(page) as address:
            browser.visit(address)
            browser.wait("window.drive?.ready || window.drive?.error")
            assert browser.value("drive.error") is None
            browser.wait("drive.frames >= 5")

            browser.hold("d")
            browser.wait("drive.action.steering > 0.95")
            browser.release("d")
            browser.wait("drive.action.steering < 0.05")
            browser.hold("w")
            browser.wait("drive.action.gear === 1 && drive.action.throttle > 0.95")
            browser.release("w")
            browser.hold("s")
            browser.wait("drive.action.brake > 0.95 || (drive.action.gear === -1 && drive.action.throttle > 0.95)")
            browser.release("s")

            browser.press(".")
            browser.wait("drive.paused")
            before = browser.value("drive.frames")
            browser.press("e")
            browser.wait(f"drive.frames > {before}")
            browser.value("document.querySelectorAll('#thumbnails button')[1].click()")
            browser.wait("drive.start === 1 && drive.frames === 0")
            browser.press(".")
            browser.wait("drive.frames >= 2")

            browser.look(390, 800)
            assert browser.value("document.documentElement.scrollWidth <= innerWidth")
            browser.value(
                "navigator.serviceWorker.ready.then(() => caches.open('daydrive')).then(async (cache) => {"
                "  while ((await cache.keys()).length < 18) await new Promise((done) => setTimeout(done, 100)); })"
            )
            assert all(place.startswith((address, "data:", "blob:")) for place in browser.asked), browser.asked
            assert browser.complaints == []
        browser.visit(address)  # the host is gone
        browser.wait("window.drive?.ready && drive.frames >= 2")


@needs_runtime
@needs_chromium
@pytest.mark.timeout(300)
def test_browser_predicts_the_same(page: Path, source: Source, tmp_path: Path) -> None:
    loaded = load(source.checkpoint)
    model, size = loaded.model, loaded.image_size
    assert size is not None
    clips = read(loaded, source.store, "test", count=1, steps=3)
    script = """(async () => {
        const { WorldModel } = await import('./model.js');
        const about = await (await fetch('model.json')).json();
        const model = new WorldModel();
        await model.load(about);
        const bitmap = await createImageBitmap(await (await fetch(about.starts[0].image)).blob());
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
        context.drawImage(bitmap, 0, 0);
        await model.start(context.getImageData(0, 0, bitmap.width, bitmap.height), about.starts[0].actions);
        let result;
        for (let k = 0; k < 3; k++) result = await model.step([0.5, 1, 0, 1]);
        return Array.from(result.frame.data);
    })()"""
    with served(page) as address, Chromium(tmp_path / "profile") as browser:
        browser.visit(address + "style.css")
        pixels = np.array(browser.value(script)).reshape(*size, 4)[..., :3]
    actions = torch.cat([clips.actions[:, :3], torch.tensor([0.5, 1, 0, 1]).expand(1, 3, 4)], 1)
    expected = rollout_uint8(model, clips.images[:, :4], actions)[0, -1].movedim(0, -1).numpy().astype(int)
    assert np.abs(pixels - expected).max() <= 2


def test_static_files_are_part_of_the_package() -> None:
    suffixes = {file.suffix for file in web.STATIC.iterdir()}
    text = (REPO / "pyproject.toml").read_text()
    assert all(f'"**/*{suffix}"' in text for suffix in suffixes)
