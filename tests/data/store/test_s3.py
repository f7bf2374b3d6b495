"""Stores on an object store, against a real S3 server on this machine."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import TESTS
from helpers.refusals import Refuse

pytest.importorskip("moto.server", reason="moto[server] is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")

from moto.server import ThreadedMotoServer

from daydrive import cli
from daydrive.data import sources
from daydrive.data.prepare import prepare as module
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.scores import MOTION, add_score, motion
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.locations import UnreachableError, is_remote, location
from helpers.drives import CountedSource

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-west-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    yield "http://{}:{}".format(*started.get_host_and_port())
    started.stop()


@pytest.fixture
def bucket(server: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, and a working directory for local files."""
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(here / "none"))
    monkeypatch.setitem(sources.SOURCES, "counted", CountedSource())
    name = f"bucket-{here.parent.name[:40].strip('-').replace('_', '-')}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return f"s3://{name}"


def rows_of(store: Store) -> tuple[list[bytes], bytes, list[str]]:
    every = np.arange(store.rows)
    jpegs, actions = store.read(every)
    return jpegs, actions.tobytes(), store.read_values(every, ["drive"])["drive"].tolist()


def test_store_equals_a_local_store(bucket: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = Store.open(prepare("counted", None, tmp_path / "local", (24, 32), workers=1, drives=6))
    remote = Store.open(prepare("counted", None, f"{bucket}/some/store", (24, 32), workers=1, drives=4))
    assert is_remote(remote.path) and str(remote.path) == f"{bucket}/some/store" and not list(here.iterdir())

    # a store whose table was appended to, but not its metadata, stays what it was
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "daydrive.data.prepare.writer.write_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        prepare("counted", None, f"{bucket}/some/store", (24, 32), workers=1, drives=6, add=True)
    assert rows_of(Store.open(remote.path)) == rows_of(remote) and len(list(here.rglob("*.arrow"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(module.shards, "write_shard", lambda *_: pytest.fail("a finished drive is read again"))
        prepare("counted", None, f"{bucket}/some/store", (24, 32), workers=1, drives=6, add=True)
    grown = Store.open(f"{bucket}/some/store")
    assert sorted(zip(*rows_of(grown)[::2], strict=True)) == sorted(zip(*rows_of(local)[::2], strict=True))
    assert list(grown.drives)[:4] == list(remote.drives) and not list(here.rglob("*.partial"))

    add_score(grown, "motion", MOTION, lambda drive: motion(grown, drive))
    assert np.isfinite(pickle.loads(pickle.dumps(grown)).read_values([1, 2], ["motion"])["motion"]).all()
    replaced = Store.open(
        prepare("counted", None, f"{bucket}/some/store", (24, 32), workers=1, drives=6, overwrite=True)
    )
    assert replaced.fingerprint == local.fingerprint and rows_of(replaced) == rows_of(local)
    prepare("counted", None, f"{bucket}/some/store", (24, 32), workers=1, drives=6)


def copied(small_store: Path, bucket: str) -> str:
    """The same drives prepared again, to the bucket."""
    request = Store.open(small_store).metadata["request"]
    prepare("folder", Path(request["data_root"]), f"{bucket}/drives", (32, 32), workers=1)
    assert Store.open(f"{bucket}/drives").fingerprint == Store.open(small_store).fingerprint
    return f"{bucket}/drives"


@pytest.mark.slow
def test_loader_with_a_worker_process(bucket: str, small_store: Path) -> None:
    forkserver._forkserver._stop()  # else the worker has the environment of whoever started it
    ours, theirs = (
        next(iter(ClipLoader(ClipIndex(Store.open(path), "train", 6), batch_size=2, num_workers=workers)))
        for path, workers in ((copied(small_store, bucket), 1), (small_store, 0))
    )
    forkserver._forkserver._stop()
    assert np.array_equal(ours.images, theirs.images) and np.array_equal(ours.actions, theirs.actions)


def test_train_two_steps(
    bucket: str, small_store: Path, tmp_path: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = copied(small_store, bucket)
    arguments = ["train", "--config", tiny_config, "--run-dir", tmp_path / "run", "--device", "cpu"]
    settings = ["training.max_steps=2", f"data.root={target}", "model.image_size=[32,32]"]
    monkeypatch.setattr("sys.argv", ["daydrive", *map(str, arguments), *settings])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and f"root: {target}\n" in (tmp_path / "run" / "config.yaml").read_text()


def test_errors_are_reported_quickly(bucket: str, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = ["prepare-dataset", "--dataset", "road", "--drives", "3", "--frames", "4"]
    refuse("find-nan", f"{bucket}/none", message=f"there is no store at {bucket}/none")
    refuse("find-nan", "s3://no-such-bucket/x", message="no-such-bucket/x: the bucket 'no-such-bucket' does not exist")
    refuse(*prepared, "--output", "s3://no-such-bucket/x", message="the bucket 'no-such-bucket' does not exist")
    refuse(*prepared, "--output", "s3://bucket-alone", message="needs a name inside its bucket")
    refuse(*prepared, "--output", "http://host/x", message="a store is a folder, s3://BUCKET/NAME")
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setattr("s3fs.S3FileSystem.cachable", False)
    refuse("find-nan", f"{bucket}/none", message="there are no credentials for it; set AWS_ACCESS_KEY_ID")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    began = time.monotonic()
    refuse(*prepared, "--output", f"{bucket}/x", message="its server does not answer")
    assert time.monotonic() - began < 15


def test_finished_drives_survive_a_lost_server(bucket: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise UnreachableError("s3://x: its server does not answer")

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"resumes with the finished drives .*\.partial"),
    ):
        patch.setattr(module, "write_store", unreachable)
        prepare("counted", None, f"{bucket}/store", (24, 32), workers=1, drives=3)
    assert len(list(here.rglob("*.arrow"))) == 3
    assert Store.open(prepare("counted", None, f"{bucket}/store", (24, 32), workers=1, drives=3)).rows == 33
    assert not list(here.rglob("*.arrow"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
def test_ray_transfers_shards(bucket: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # for the nodes
    local = Store.open(prepare("counted", None, tmp_path / "local", (24, 32), workers=1, drives=4))
    path = prepare("counted", None, f"{bucket}/store", (24, 32), workers=1, drives=4, engine="ray")
    assert Store.open(path).fingerprint == local.fingerprint and not list(here.rglob("*.partial"))
    assert [entry.name for entry in path.parent.iterdir()] == ["store"]


def test_locations() -> None:
    assert location("a//b") == Path("a/b") and location("file:///a/b") == Path("/a/b")
    assert str(location(Path("s3://bucket/a"))) == "s3://bucket/a" == str(location("s3://bucket/a/"))
    assert location(Path("/data/s3:/x")) == Path("/data/s3:/x")
    with pytest.raises(UserError, match=r"pip install 'daydrive\[gs\]'"):
        location("gs://bucket/x")
