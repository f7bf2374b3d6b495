"""Preparation on a Ray cluster gives the same store as on one machine, even if a node is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import TESTS

pytest.importorskip("ray", reason="ray is not installed")

from daydrive.data import sources
from daydrive.data.prepare import ray_engine
from daydrive.data.prepare.prepare import prepare
from daydrive.data.sources import Options
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.types import Drive, Frame
from helpers.drives import CountedFrames, CountedSource
from helpers.refusals import refuses

DRIVES = 12

pytestmark = pytest.mark.filterwarnings("ignore:lance is not fork-safe")


class _Slow(CountedFrames):
    def __call__(self) -> Iterator[Frame]:
        time.sleep(0.4)
        yield from super().__call__()


class _Bad(CountedFrames):
    def __call__(self) -> Iterator[Frame]:
        raise UserError("rec.csv, row 7: the steering is left")


class SlowSource(CountedSource):
    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        return [Drive(f"c{i}", 10.0, _Slow(20 * i, 10 + i), length=10 + i) for i in range(options["drives"])]


class BadSource(CountedSource):
    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        good = super().drives(root, options, image_size)
        return [*good[:2], Drive("bad", 10.0, _Bad(0, 10), length=None), *good[2:]]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(Path(__file__).parent)]))  # for the nodes
    monkeypatch.setitem(sources.SOURCES, "counted", SlowSource())


@pytest.fixture
def plain(tmp_path: Path) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "counted", CountedSource())
        return Store.open(prepare("counted", None, tmp_path / "plain", (24, 32), workers=1, drives=DRIVES))


@pytest.mark.slow
def test_lost_node(plain: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    finished: list[int] = []
    try:
        node = cluster.add_node(num_cpus=1)

        def lose_it() -> None:
            def count() -> int:
                return len(list((tmp_path / "store.partial").glob("??????.arrow")))

            while count() < DRIVES // 3:
                time.sleep(0.05)
            os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
            finished.append(count())

        threading.Thread(target=lose_it, daemon=True).start()
        capfd.readouterr()
        prepare("counted", None, tmp_path / "store", (24, 32), drives=DRIVES, engine="ray", ray_address=cluster.address)
        output = capfd.readouterr()
    finally:
        cluster.shutdown()
    store = Store.open(tmp_path / "store")
    assert finished and finished[0] < DRIVES - 2, "it was lost on the way"
    assert store.fingerprint == plain.fingerprint and store.drives == plain.drives
    assert "usage" not in output.err.lower() and "ashboard" not in output.out + output.err
    assert sorted(os.listdir(tmp_path)) == ["plain", "store"]


@pytest.mark.slow
def test_local_cluster(plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "counted", BadSource())
    with pytest.raises(UserError, match=r"^rec\.csv, row 7: the steering is left$"):
        prepare("counted", None, tmp_path / "store", (24, 32), drives=4, engine="ray", workers=1)
    assert os.listdir(tmp_path) == ["plain"]


def test_user_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "store"
    call = lambda **options: lambda: prepare("counted", None, target, (24, 32), drives=3, **options)  # noqa: E731
    assert "--engine rays: no such engine; did you mean 'ray'" in refuses(call(engine="rays"), tmp_path)
    assert "--ray-address requires --engine ray" in refuses(call(ray_address="127.0.0.1:1"), tmp_path)
    message = refuses(call(engine="ray", ray_address="127.0.0.1:1"), tmp_path)
    assert "--ray-address 127.0.0.1:1: cannot connect to a Ray cluster" in message
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'daydrive[ray]'" in refuses(call(engine="ray"), tmp_path)


def test_task_of_a_node(plain: Store, tmp_path: Path) -> None:
    """The tasks without a cluster: a shard is transferred through the staging folder and arrives complete."""
    from daydrive.data.prepare.shards import Job, read_shard

    (tmp_path / "here").mkdir()
    (tmp_path / "passage").mkdir()
    drive = CountedSource().drives(Path(), {"drives": 1}, (24, 32))[0]
    job = Job(drive, (24, 32), ("number",), tmp_path / "here" / "000000.arrow")
    for staged in (None, tmp_path / "passage" / "000000.arrow"):
        assert ray_engine._run_job(job, staged) == 10
        assert (staged or job.file).exists() and job.file.exists() == (staged is None)
        ray_engine._receive(job, staged)
        assert read_shard(job.file) == (10, (40, 60)) and os.listdir(tmp_path / "here") == ["000000.arrow"]
        job.file.unlink()
    with pytest.raises(UserError, match="to a location that this machine cannot see"):
        ray_engine._receive(job, None)
