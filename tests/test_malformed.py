"""Bad input at the command line: one sentence on stderr, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import yaml
from conftest import TINY_TRAINING
from test_data_makers import HEADER, picture, write_drive, write_udacity

from daydrive import cli
from daydrive.data.prepare import prepare
from daydrive.data.store import METADATA_FILE, TABLE

REPO = Path(__file__).parent.parent
GOOD = "0.1,0.5,0,1"

Listing = dict[str, bytes | None]


def listing(*folders: Path) -> Listing:
    """Every file with its bytes, and every folder."""
    found = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def check_sentence(code: object, stderr: str, said: str) -> None:
    assert code == cli.BAD_INPUT, stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and stderr.endswith("\n"), stderr
    sentence = stderr.removeprefix("error: ").strip()
    assert re.search(said, sentence), sentence
    assert "Traceback" not in sentence and sentence[-1] not in ".!"
    assert not re.match(r"(The|There|A|An|Another|No|Missing|Invalid|Got) ", sentence), sentence


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that defaults such as runs/ and data/ fall into it."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


Refuse = Callable[..., None]


@pytest.fixture
def refuse(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refuse:
    """Runs the command line in this process and checks how it refuses."""

    def run(*arguments: object, said: str) -> None:
        before = listing(tmp_path)
        monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
        monkeypatch.setattr("daydrive.data.progress.PLAIN_INTERVAL", 1e9)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        check_sentence(ended.value.code, err, said)
        assert not out.strip(), out
        assert listing(tmp_path) == before

    return run


@pytest.fixture(scope="session")
def trained(road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after two steps."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {**TINY_TRAINING, "training": {**TINY_TRAINING["training"], "max_steps": 2}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["train", "--config", folder / "tiny.yaml", "--data-root", road_store, "--run-dir", folder / "run"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["daydrive", *map(str, arguments), "--device", "cpu"])
        cli.main()
    assert ended.value.code == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoiled."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def store(road_store: Path, tmp_path: Path) -> Path:
    """A copy of the store that may be spoiled."""
    return shutil.copytree(road_store, tmp_path / "store")


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives of 16 frames at 32x32; train, val and test have one each."""
    folder = tmp_path_factory.mktemp("small")
    for k in range(3):
        write_drive(folder / "raw" / f"d{k}", 16)
    return prepare("folder", folder / "raw", folder / "store", (32, 32), workers=1)


def checkpoint_of(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()


def damage_pictures(store: Path, split: str) -> None:
    """Cut the JPEGs of a split short, in the table itself."""
    metadata = json.loads((store / METADATA_FILE).read_text())
    bad = [range(d["start"], d["start"] + d["frames"]) for d in metadata["drives"] if d["split"] == split]
    table = lance.dataset(str(store / TABLE)).to_table()
    images = table.column("image").to_pylist()
    for row in (row for rows in bad for row in rows):
        images[row] = images[row][: len(images[row]) // 2]
    column = table.schema.get_field_index("image")
    table = table.set_column(column, table.schema.field(column), pa.array(images, pa.binary()))
    lance.write_dataset(table, str(store / TABLE), mode="overwrite")


# --- the command line itself


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "trian"),
        (["--fast"], "--fast"),
        (["train"], "--config"),
        (["train", "--config"], "--config"),
        (["train", "--config", "a.yaml", "--resum"], "--resum"),
        (["evaluate", "--checkpoint", "run"], "missing option '--data-root'"),
        (
            ["evaluate", "--checkpoint", "a", "--data-root", "b", "--output", "c", "--horizon", "far"],
            "invalid value for '--horizon'",
        ),
        (["prepare-dataset", "--dataset", "road", "--image-size", "64"], "--image-size"),
        (["prepare-dataset", "--dataset", "road", "--drives", "2.5"], "invalid value for '--drives'"),
        (["prepare-dataset", "--dataset", "rod"], "there is no dataset 'rod'; did you mean 'road'"),
        (["prepare-dataset", "--dataset", "road", "--env", "x"], "does not take --env; it takes --drives"),
        (["prepare-dataset", "--dataset", "road", "--hz", "5"], "does not take --hz"),
        (["prepare-dataset", "--dataset", "road", "--drives", "0"], "--drives has to be at least 1"),
        (["prepare-dataset", "--dataset", "road", "--seed", "-1"], "--seed has to be at least 0"),
        (["prepare-dataset", "--dataset", "road", "--image-size", "64", "65"], r"\(64, 65\)"),
        (["prepare-dataset", "--dataset", "gym"], "needs --env"),
        (["prepare-dataset", "--dataset", "gym", "--env", "CarRacin-v3"], "did you mean 'CarRacing-v3'"),
        (["prepare-dataset", "--dataset", "gym", "--env", "!!"], "cannot be made"),
        (["prepare-dataset", "--dataset", "gym", "--env", "nowhere:Car-v0"], "nowhere"),
        (["prepare-dataset", "--dataset", "udacity"], "needs --data-root"),
        (["prepare-dataset", "--dataset", "folder", "--data-root", "nowhere"], "data root nowhere does not exist"),
        (["train", "--config", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["train", "--config", "."], r"\. can't be read as text"),
        (["demo", "--config", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["demo", "--config", str(REPO / "configs/training/demo.yaml"), "--folder", __file__], "is a file"),
        (["fetch-weights", "vgg19"], "did you mean 'vgg16'"),
        (["dream-speed", "--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        (["dream-speed", "--checkpoint", "nowhere", "--frames", "1"], "--frames has to be at least 2"),
        (["dream-speed", "--checkpoint", "nowhere", "--device", "gpu"], "--device gpu"),
        (["dream-speed", "--checkpoint", "nowhere", "--device", "cuda:99"], "--device cuda:99: this machine has"),
        (["dream-speed", "--checkpoint", "x" * 300], "name too long"),
    ],
)
def test_arguments(arguments: list[str], said: str, refuse: Refuse) -> None:
    refuse(*arguments, said=f"(?i){said}")


# --- settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer:\n  lrr: 1e-4\n", r"bad\.yaml:2: unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'\?"),
        ("trainin:\n  batch_size: 4\n", r"bad\.yaml:1: unknown key 'trainin'; did you mean 'training'\?"),
        ("training:\n\n  batch_size: four\n", r"bad\.yaml:3: 'training.batch_size'.*integer.*'four'"),
        ("data:\n  sequence_length: 2\n", r"bad\.yaml:2: 'data.sequence_length'"),
        ("training: {seed: 99999999999999999999}\n", r"bad\.yaml:1: 'training.seed'"),
        ("optimizer: {lr: .nan}\n", r"bad\.yaml:1: 'optimizer.lr'.*finite"),
        ("training: [\n", r"bad\.yaml:\d: not valid YAML"),
        ("training: {seed: 2020-13-45}\n", r"bad\.yaml: not valid YAML"),
        ("training: \x00\n", r"bad\.yaml.*not valid YAML"),
        ("- a\n- b\n", r"bad\.yaml:1: a config holds sections"),
        ("3: 4\n", r"bad\.yaml"),
        ("extends: other.yaml\n", r"goes round in a circle: bad\.yaml → other\.yaml → bad\.yaml"),
        ("extends: missing.yaml\n", r"'extends' names missing\.yaml"),
    ],
)
def test_settings(text: str, said: str, refuse: Refuse, road_store: Path, here: Path) -> None:
    (here / "bad.yaml").write_text(text)
    (here / "other.yaml").write_text("extends: bad.yaml\n")
    refuse("train", "--config", "bad.yaml", "--data-root", road_store, said=said)


def test_a_config_that_is_not_text(refuse: Refuse, here: Path) -> None:
    (here / "bad.yaml").write_bytes(os.urandom(200) + b"\xff")
    refuse("train", "--config", "bad.yaml", said="bad.yaml")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lrr=1", "unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'"),
        ("fast", "override 'fast' must look like section.key=value"),
        ("optimizer.lr=[", "is not a YAML value"),
        ("training.seed=2020-13-45", "is not a YAML value"),
        ("training.batch_size=0", "override training.batch_size=0: .*greater than 0"),
        ("model.encoder.stages.0=3", "'model.encoder.stages'"),
        ("training=3", "'training'"),
        # what only the store can tell
        ("data.sequence_length=400", "no drive long enough for clips of 400 frames"),
        ("training.batch_size=5000", "batch of 5000 clips is more than the"),
        ("model.image_size=[32,64]", r"model\.image_size = \[32, 64\]"),
        ("model.action_dim=3", "model.action_dim = 3"),
        ("model.decoder.init_size=7", "init_size = 7"),
        ("loss.perceptual=vgg19", "'vgg16'"),
        ("loss.perceptual_weights=nowhere.safetensors loss.perceptual=vgg16", "there is no nowhere.safetensors"),
    ],
)
def test_overrides(override: str, said: str, refuse: Refuse, road_store: Path, tiny_config: Path) -> None:
    refuse("train", "--config", tiny_config, "--data-root", road_store, *override.split(" "), said=said)


# --- training


def test_training_without_a_store(refuse: Refuse, tiny_config: Path, here: Path, road_store: Path) -> None:
    command = ("train", "--config", tiny_config)
    refuse(*command, said="which drives.*--data-root")
    refuse(*command, "data.root=nowhere", said="there is no store at nowhere")
    refuse(*command, "--data-root", REPO / "configs", said="is not a prepared store")
    refuse(*command, "--data-root", tiny_config, said="is not a prepared store")
    refuse(*command, "--data-root", road_store, "--device", "cud", said="--device cud")
    refuse(*command, "--data-root", road_store, "--resume", said="no run .* has a checkpoint yet")


def test_run_folders_that_cannot_be(refuse: Refuse, tiny_config: Path, here: Path, road_store: Path, run: Path) -> None:
    (here / "file").write_text("in the way")
    command = ("train", "--config", tiny_config, "--data-root", road_store, "--run-dir")
    refuse(*command, "file", said="the run folder file is a file")
    refuse(*command, "file/run", said="the run folder file/run can't be written")
    refuse(*command, run, said="holds a training already")
    refuse(*command, run, "--resume", "optimizer.lr=1e-3", "training.max_steps=2", said=r"optimizer\.lr was 0\.003")


def spoil(name: str, text: str | bytes | None) -> Callable[[Path], None]:
    """Replace a checkpoint's file; None cuts it short."""

    def apply(folder: Path) -> None:
        data = text.encode() if isinstance(text, str) else text
        (folder / name).write_bytes((folder / name).read_bytes()[:500] if data is None else data)

    return apply


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (spoil("model.safetensors", None), "model.safetensors: not a whole safetensors file"),
        (spoil("optimizer.safetensors", b"\x00" * 20), "optimizer.safetensors: not a whole safetensors file"),
        (spoil("state.json", "{"), "state.json:1: the checkpoint's state is not valid JSON"),
        (spoil("state.json", '{"format": 1, "step": 2}'), "state.json: not the state of a training"),
        (spoil("state.json", '{"format": "x", "step": 2}'), "state.json: written by another daydrive"),
        (spoil("config.json", "[]"), "config.json: the checkpoint's config must be"),
        (spoil("../last", "../../elsewhere"), "last names no checkpoint"),
    ],
)
def test_resuming_from_a_broken_checkpoint(
    harm: Callable[[Path], None], said: str, refuse: Refuse, run: Path, road_store: Path, tiny_config: Path
) -> None:
    harm(checkpoint_of(run))
    command = ("train", "--config", tiny_config, "--data-root", road_store, "--run-dir", run, "--resume")
    refuse(*command, "training.max_steps=2", said=said)


def test_training_on_damaged_pictures(
    store: Path, tmp_path: Path, tiny_config: Path, here: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    damage_pictures(store, "train")
    before = listing(tmp_path)
    command = ["daydrive", "train", "--config", tiny_config, "--data-root", store, "--run-dir", "new/run"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    check_sentence(ended.value.code, capfd.readouterr().err, "damaged picture: drive 'road_.*', frame")
    assert listing(tmp_path) == before


def test_an_empty_validation_split(refuse: Refuse, tmp_path: Path, tiny_config: Path) -> None:
    for k in range(2):
        write_drive(tmp_path / "raw" / "train" / f"d{k}", 16)
    lonely = prepare("folder", tmp_path / "raw", tmp_path / "store", (64, 64), workers=1)
    refuse("train", "--config", tiny_config, "--data-root", lonely, said="the split 'val' of .* has no drives")


# --- evaluation


def test_what_evaluation_is_asked(
    refuse: Refuse, trained: Path, road_store: Path, small_store: Path, here: Path
) -> None:
    (here / "file").write_text("in the way")
    command = ("evaluate", "--checkpoint", trained, "--output", "out/figures")
    of_road = (*command, "--data-root", road_store)
    refuse(*of_road, "--horizon", 0, said="--horizon has to be at least 1, not 0")
    refuse(*of_road, "--clips", 1, said="--clips has to be at least 2, not 1")
    refuse(*of_road, "--batch-size", 0, said="--batch-size has to be at least 1")
    refuse(*of_road, "--seed", -1, said="--seed has to be at least 0")
    refuse(*of_road, "--split", "tset", said="there is no split 'tset'; did you mean 'test'")
    refuse(*of_road, "--device", "cuda:99", said="--device cuda:99")
    refuse(*of_road[:3], "--data-root", road_store, "--output", "file", said="the output file is a file")
    refuse(*of_road[:3], "--data-root", road_store, "--output", "file/out", said="the output file/out can't be written")
    refuse(*command, "--data-root", small_store, said="sees pictures of 64x64 and the store .* has 32x32")
    refuse(*command, "--data-root", "nowhere", said="there is no store at nowhere")
    refuse(*command, "--data-root", trained, said="is not a prepared store")


def test_checkpoints_that_are_none(refuse: Refuse, road_store: Path, here: Path) -> None:
    (here / "noise.bin").write_bytes(os.urandom(1000))
    (here / "noise.safetensors").write_bytes(os.urandom(1000))
    (here / "empty").mkdir()
    for path in ("noise.bin", "noise.safetensors", "empty", road_store):
        arguments = ("--checkpoint", path, "--data-root", road_store, "--output", "out")
        refuse("evaluate", *arguments, said="is no checkpoint")
    refuse(
        "evaluate", "--checkpoint", "x", "--data-root", road_store, "--output", "out", said="there is no checkpoint x"
    )


def resized(folder: Path) -> None:
    tree = json.loads((folder / "config.json").read_text())
    tree["model"]["hidden_dim"] = 32
    (folder / "config.json").write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (spoil("model.safetensors", None), "model.safetensors: not a whole safetensors file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "config.json can't be read"),
        (resized, "model.safetensors: weights of another model: '.*' has shape"),
        (spoil("config.json", '{"model": {"latent_dm": 3}}'), "config.json: unknown key 'model.latent_dm'"),
        (spoil("config.json", b"\xff\xfe\xff"), "config.json can't be read"),
        (spoil("state.json", "[1"), "state.json:1: the checkpoint's state is not valid JSON"),
        (spoil("state.json", "{}"), "state.json: no whole number 'step'"),
    ],
)
def test_broken_checkpoints(
    harm: Callable[[Path], None], said: str, refuse: Refuse, run: Path, road_store: Path
) -> None:
    harm(checkpoint_of(run))
    refuse("evaluate", "--checkpoint", run, "--data-root", road_store, "--output", "new/out", said=said)


def of_metadata(**changes: object) -> Callable[[Path], None]:
    def apply(store: Path) -> None:
        metadata = json.loads((store / METADATA_FILE).read_text())
        (store / METADATA_FILE).write_text(json.dumps({**metadata, **changes}))

    return apply


def only_training(store: Path) -> None:
    drives = json.loads((store / METADATA_FILE).read_text())["drives"]
    of_metadata(drives=[{**drive, "split": "train"} for drive in drives])(store)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda store: damage_pictures(store, "test"), "damaged picture: drive 'road_.*', frame 0"),
        (only_training, "the split 'test' of .* is empty; it has drives in: train"),
        (lambda store: shutil.rmtree(store / TABLE), "has lost its table"),
        (lambda store: (store / METADATA_FILE).write_text("{"), "cannot be read as a store's metadata"),
        (of_metadata(format_version=99), "has format version 99"),
        (of_metadata(hz=0), "not a store's metadata.*positive"),
        (of_metadata(drives=[{"name": "a", "split": "test", "start": 0, "frames": -3}]), "not a store's metadata"),
        (of_metadata(drives=[{"name": "a", "split": "test", "start": 0, "frames": 900}]), "is truncated"),
    ],
)
def test_broken_stores(harm: Callable[[Path], None], said: str, refuse: Refuse, trained: Path, store: Path) -> None:
    harm(store)
    refuse("evaluate", "--checkpoint", trained, "--data-root", store, "--output", "new/out", said=said)


# --- preparation


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GOOD] * 3, "has 3 rows for the 4 pictures"),
        ([GOOD, "left,0,0,1", GOOD, GOOD], "actions.csv, row 3: steering is 'left' where a number belongs"),
        ([GOOD, GOOD, "0,nan,0,1", GOOD], "actions.csv, row 4: throttle is nan"),
        ([GOOD, "0,0,1", GOOD, GOOD], "actions.csv, row 3: there are 3 cells"),
        ([GOOD, f"{'1' * 200_000},0,0,1", GOOD, GOOD], "actions.csv, row 3: not CSV"),
        ([], "has 0 rows below its header"),
    ],
)
def test_tables(rows: list[str], said: str, refuse: Refuse, tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 4, rows, HEADER)
    command = ("prepare-dataset", "--dataset", "folder", "--workers", 1, "--output", "new/store", "--data-root")
    refuse(*command, tmp_path / "raw", said=said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (simplejpeg.encode_jpeg(np.ascontiguousarray(picture(3)))[:300], "row 4: .*f2.jpg is a damaged JPEG"),
        (b"", r"row 4: .*f2.jpg is empty \(0 bytes\)"),
        (b"hello", "row 4: .*f2.jpg is not a picture"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_pictures(content: bytes, said: str, workers: int, refuse: Refuse, tmp_path: Path) -> None:
    for k in range(2):
        write_drive(tmp_path / "raw" / f"d{k}", 4)
    (tmp_path / "raw" / "d1" / "images" / "f2.jpg").write_bytes(content)
    command = ("prepare-dataset", "--dataset", "folder", "--workers", workers, "--output", "new/store", "--data-root")
    refuse(*command, tmp_path / "raw", said=said)


def test_recordings_and_outputs(refuse: Refuse, tmp_path: Path, here: Path, road_store: Path) -> None:
    root = write_udacity(tmp_path / "raw", [100 * k for k in range(20)])
    log = (root / "driving_log.csv").read_text()
    (here / "file").write_text("in the way")
    command = ("prepare-dataset", "--dataset", "udacity", "--workers", 1, "--data-root")
    refuse(*command, here / "file", said="is a file")
    refuse(*command, here, said="is not a recording of the Udacity simulator")
    refuse(*command, root, "--hz", 50, said="too few for --hz 50")
    refuse(*command, root, "--output", "file", said="the output file is a file")
    refuse(*command, root, "--output", "file/store", said="cannot be written")
    refuse(*command, root, "--output", root, said="something else")
    refuse(*command, root, "--output", road_store, said="there is another store at")
    for old, new, said in (("0.5", "fast", "row 1: throttle is 'fast'"), ("_100.jpg", ".jpg", "row 2: ")):
        (root / "driving_log.csv").write_text(log.replace(old, new))
        refuse(*command, root, said=said)


# --- the same as programs of their own


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (["scripts/train.py", "--config", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["scripts/prepare_dataset.py", "--dataset", "udacty"], "did you mean 'udacity'"),
        (["-m", "daydrive", "trian"], "trian"),
    ],
)
def test_as_a_program(program: list[str], said: str, here: Path) -> None:
    first, *rest = program
    command = [sys.executable, str(REPO / first) if first.endswith(".py") else first, *rest]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    check_sentence(ended.returncode, ended.stderr, said)
    assert not ended.stdout and not any(here.iterdir())


def test_evaluation_of_a_truncated_table_as_a_program(trained: Path, store: Path, here: Path) -> None:
    for file in (store / TABLE / "data").glob("*.lance"):
        file.write_bytes(file.read_bytes()[:1000])
    arguments = ["--checkpoint", trained, "--data-root", store, "--output", "new/out", "--device", "cpu"]
    command = [sys.executable, str(REPO / "scripts" / "evaluate.py"), *map(str, arguments)]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    check_sentence(ended.returncode, ended.stderr, "the table of the store .* is damaged")
    assert not ended.stdout and not any(here.iterdir())
