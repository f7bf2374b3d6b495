"""Commands that prepare, score, show and check drives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from daydrive.cli.options import ConfigFile, ConfiguredStore, Device, Overrides, app
from daydrive.errors import UserError, did_you_mean


@app.command()
def prepare_dataset(
    dataset: Annotated[str, typer.Option(help="name of the dataset; `daydrive data sources` lists all")],
    data_root: Annotated[Path | None, typer.Option(help="folder of the recordings; not for road and gym")] = None,
    output: Annotated[
        str | None, typer.Option(metavar="PATH|URL", help="store to write, also s3://; default: data/processed/DATASET")
    ] = None,
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="default: data.image_size in configs/data/DATASET.yaml"),
    ] = None,
    drives: Annotated[int | None, typer.Option(help="road, gym: number of drives")] = None,
    frames: Annotated[int | None, typer.Option(help="road, gym: frames per drive")] = None,
    seed: Annotated[int | None, typer.Option(help="of generated drives and of the split")] = None,
    env: Annotated[str | None, typer.Option(help="gym: environment id")] = None,
    hz: Annotated[float | None, typer.Option(help="frame rate of the store")] = None,
    camera: Annotated[str | None, typer.Option(help="camera, if the dataset has several")] = None,
    version: Annotated[str | None, typer.Option(help="nuscenes: v1.0-mini, v1.0-trainval or v1.0-test")] = None,
    split: Annotated[str | None, typer.Option(help="official or by-drive, for datasets with an official split")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="any other option of the dataset; repeatable"),
    ] = None,
    fit: Annotated[str, typer.Option(help="for other aspect ratios: stretch, crop or letterbox")] = "stretch",
    limit: Annotated[int | None, typer.Option(help="only the first LIMIT drives")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; default: one per CPU")] = None,
    jpeg_quality: Annotated[int, typer.Option(help="of images that have to be resized")] = 95,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a different store at --output")] = False,
    add: Annotated[bool, typer.Option("--add", help="append new drives to the existing store")] = False,
    engine: Annotated[str, typer.Option(help="local, or ray: a Ray cluster")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="of a running cluster; default: start one")] = None,
) -> None:
    """Convert raw drives into a store to train from."""
    from daydrive.data.prepare.prepare import prepare

    options = _options(
        settings or [], drives=drives, frames=frames, seed=seed, env=env, hz=hz, camera=camera, version=version,
        split=split,
    )  # fmt: skip
    store = prepare(
        dataset, data_root, output, image_size, fit=fit, limit=limit, workers=workers, overwrite=overwrite, add=add,
        jpeg_quality=jpeg_quality, engine=engine, ray_address=ray_address, **options,
    )  # fmt: skip
    print(f"store: {store}")


def _options(settings: list[str], **named: float | str | None) -> dict[str, Any]:
    """The options of a dataset: from individual flags and from --set NAME=VALUE."""
    options: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise UserError(f"--set {setting}: give NAME=VALUE, such as --set hz=10")
        if name in options:
            raise UserError(f"the option '{name}' is given twice")
        options[name] = value
    return options


@app.command()
def score(
    store: Annotated[Path, typer.Argument(help="store")],
    by: Annotated[str, typer.Option(help="motion, or error: a checkpoint's error one frame ahead")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="error: run folder, checkpoint folder or model.safetensors")
    ] = None,
    device: Device = "auto",
) -> None:
    """Add a column with the difficulty of each frame.

    The setting data.curriculum.by refers to it.
    """
    from functools import partial

    from daydrive.data.quality import scores
    from daydrive.data.store.store import Store

    if by not in ("motion", "error"):
        raise UserError(f"--by {by}: there is no such score{did_you_mean(by, ('motion', 'error'))}")
    if (by == "error") != (checkpoint is not None):
        raise UserError("--checkpoint is needed for --by error, and for that alone")
    opened = Store.open(store)
    if checkpoint is None:
        print(scores.add_score(opened, by, scores.MOTION, partial(scores.motion, opened)))
        return
    from daydrive.checkpoint import check_fit, load
    from daydrive.devices import find_device
    from daydrive.evaluation.scoring import meaning, prediction_error

    loaded = load(checkpoint, find_device(device))
    check_fit(loaded, opened)
    print(scores.add_score(opened, by, meaning(loaded), partial(prediction_error, opened, loaded)))


@app.command()
def show_batch(
    config: ConfigFile = Path("configs/training/base.yaml"),
    data_root: ConfiguredStore = None,
    split: Annotated[str, typer.Option(help="train, val or test")] = "train",
    clips: Annotated[int, typer.Option(min=1, max=256, help="number of clips")] = 8,
    length: Annotated[int | None, typer.Option(min=1, help="frames to show per clip; default: up to 8")] = None,
    first_sample: Annotated[int, typer.Option(min=0, help="index of the first clip in training order")] = 0,
    seed: Annotated[int | None, typer.Option(help="default: training.seed of the config")] = None,
    output: Annotated[Path, typer.Option(help="PNG file")] = Path("batch.png"),
    overrides: Overrides = None,
) -> None:
    """Show clips as training sees them.

    In training order and augmented, with their actions.
    """
    from daydrive.config import load_config
    from daydrive.data.defaults import find_store
    from daydrive.data.sampling.augment import DrivingAugmentation
    from daydrive.data.sampling.loader import ClipLoader
    from daydrive.data.sampling.sample_order import build_sample_order
    from daydrive.data.store.store import Store
    from daydrive.files import check_folder
    from daydrive.training.context import clip_index
    from daydrive.viz import images as pixels

    if output.suffix.lower() != ".png":
        raise UserError(f"--output {output}: the sheet is a PNG, name a .png file")
    check_folder(output.parent, "folder of --output")
    settings = load_config(config, [*(overrides or []), *([] if seed is None else [f"training.seed={seed}"])])
    data, draw = settings.data, settings.training.seed
    root, sentence = find_store(data_root, data)
    if sentence:
        print(sentence)
    shown = min(8, data.sequence_length) if length is None else length
    if shown > data.sequence_length:
        raise UserError(f"--length {shown}: the clips have data.sequence_length = {data.sequence_length} frames")

    store = Store.open(root)
    index = clip_index(store, split, data)
    loader = ClipLoader(
        index,
        batch_size=min(clips, len(index)),
        order=build_sample_order(store, index, data, draw),
        first_sample=first_sample,
    )
    augment = DrivingAugmentation.from_config(data.augmentation, draw)
    batch = augment(next(iter(loader)))
    labels = []
    for sample, clip in zip(batch.samples, batch.clips, strict=True):
        _, frame = store.locate(clip.start)
        drawn = augment.sample_params(sample)
        labels.append(f"{sample}: {clip.drive}, {frame}" + (" ↔" if drawn.mirrored else ""))
        print(f"sample {sample}: drive '{clip.drive}' from frame {frame}" + (f", {drawn}" if data.augmentation else ""))
    title = f"{split}, {len(index)} clips of {data.sequence_length} frames, {1 / index.hz:.2g} s apart"
    pixels.show_batch(
        batch.images[:, :shown], batch.actions[:, : shown - 1], output,
        labels=labels, title=title, pixel_aspect=store.pixel_aspect,
    )  # fmt: skip
    print(output)


@app.command()
def find_nan(store: Annotated[Path, typer.Argument(help="store")]) -> None:
    """Find damaged images, NaN and values out of range.

    Reads every row and decodes every image of a store. Exit code 0 if nothing is found, else 1.
    """
    from daydrive.data.quality.check import find_bad_rows
    from daydrive.data.store.store import Store
    from daydrive.progress import DriveProgress

    opened = Store.open(store)
    lengths = [drive.frames for drive in opened.drives]
    with DriveProgress(lengths, lengths) as progress:
        found = find_bad_rows(opened, progress)
    for bad in found:
        print(bad)
    summary = f"{len(found)} faults" if found else "nothing damaged, NaN or out of range"
    print(f"{opened.path}: {opened.rows} frames of {len(opened.drives)} drives, {summary}")
    raise typer.Exit(1 if found else 0)
