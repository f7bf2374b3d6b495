"""From a folder of raw drives to a store.

Drives are read in parallel and written to one file each in `<output>.partial`; then they become one store in a
single pass, which is renamed to its place. A preparation that was ended goes on with the drives that were finished.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from daydrive import __version__
from daydrive.data import parts, split
from daydrive.data.images import JPEG_QUALITY, Fit, geometry
from daydrive.data.progress import PrepareProgress
from daydrive.data.sources import Options, Source, get, read_options
from daydrive.data.store import FORMAT_VERSION, SPLITS
from daydrive.data.workspace import FINISHED, is_prepared, partial, publish, workspace
from daydrive.data.writer import Piece, write_store
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive

DEFAULT_IMAGE_SIZE = (64, 64)
SMALLEST, LARGEST = 8, 4096


def prepare(
    dataset: str,
    data_root: Path | None,
    output: Path | None = None,
    image_size: tuple[int, int] | None = None,
    *,
    fit: str = "stretch",
    limit: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Prepares the drives of `dataset` under `data_root` as a store and returns its path.

    output: `data/processed/<dataset>` by default. image_size: (H, W), 64x64 by default. fit: how pictures of
    other proportions are brought to it, 'stretch', 'crop' or 'letterbox'. limit: the first so many drives only.
    workers: processes, one for each processor by default; the store is the same for any number.
    options: those that the dataset declares.
    Where the same store is there already nothing is done; another one is replaced with `overwrite` only.
    UserError for bad input, and nothing is left behind then.
    """
    source = get(dataset)
    chosen = read_options(source, options)
    size = _image_size(image_size)
    shape = _fit(fit)
    processes = _workers(workers)
    if limit is not None and limit < 1:
        raise UserError(f"--limit has to be at least 1, not {limit}")
    target = Path(output) if output is not None else Path("data") / "processed" / source.name
    root = Path(data_root) if source.needs_root and data_root is not None else None
    request = {
        "dataset": source.name,
        "data_root": str(root.resolve()) if root else None,
        "options": chosen,
        "image_size": list(size),
        "fit": shape,
        "limit": limit,
        "jpeg_quality": JPEG_QUALITY,
        "format_version": FORMAT_VERSION,
    }
    if is_prepared(target, request, overwrite):
        shutil.rmtree(partial(target), ignore_errors=True)
        print(f"{target} is prepared already, nothing to do.")
        return target
    if source.needs_root:
        _check_root(source, root)
    drives = source.drives(root or Path(), chosen, size)[:limit]
    _check_drives(source, drives)
    try:
        _prepare(source, chosen, drives, request, size, shape, processes, target)
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0][:200]
        raise UserError(f"the store {target} cannot be written ({reason})") from error
    except KeyboardInterrupt:
        print(f"Stopped; the next run goes on with the drives that are finished in {partial(target)}.")
        raise
    return target


def _prepare(
    source: Source,
    options: Options,
    drives: Sequence[Drive],
    request: dict[str, Any],
    size: tuple[int, int],
    fit: Fit,
    workers: int,
    target: Path,
) -> None:
    began = time.monotonic()
    description = source.describe(options)
    values = tuple(description["values"])
    planned = [[drive.name, drive.split, drive.hz, drive.length, drive.made_from] for drive in drives]
    plan = {"request": request, "drives": planned}
    with workspace(target, plan) as folder:
        jobs = [parts.Job(drive, size, values, folder / f"{i:06d}.arrow", fit) for i, drive in enumerate(drives)]
        to_do = [job for job in jobs if not job.file.exists()]
        with PrepareProgress([drive.length for drive in drives], [job.drive.length for job in to_do]) as progress:
            parts.write_parts(to_do, workers, progress)
        read = [parts.read_part(job.file) for job in jobs]
        pieces = _pieces(source, jobs, [frames for frames, _ in read], int(options.get("seed") or 0))
        recorded = Counter(size for _, size in read).most_common(1)[0][0]
        shown = geometry(recorded, size, fit)
        metadata = {
            "source": source.name,
            "daydrive": __version__,
            "request": request,
            "hz": drives[0].hz,
            "image_size": list(size),
            "recorded_image_size": list(recorded),
            "fit": fit,
            "geometry": shown._asdict(),
            "pixel_aspect": round(shown.pixel_aspect, 6),
            **description,
        }
        written = write_store(folder / FINISHED, pieces, values, metadata)
        publish(folder, target)
    print(_summary(target, written, time.monotonic() - began))


def _pieces(source: Source, jobs: Sequence[parts.Job], frames: Sequence[int], seed: int) -> list[Piece]:
    """Which rows of which part belong to which split; the source's own split comes first."""
    drives = [job.drive for job in jobs]
    groups = list(dict.fromkeys(drive.group or drive.name for drive in drives))
    if all(drive.split is not None for drive in drives):
        splits = [drive.split or "" for drive in drives]
    elif source.split == "drive" and len(groups) >= 3:
        drawn = dict(zip(groups, split.by_drive(len(groups), seed), strict=True))
        splits = [drawn[drive.group or drive.name] for drive in drives]
    else:
        cut = split.by_time(frames, drives[0].hz)
        return [
            Piece(job.file, f"{job.drive.name}.{part.split}", part.split, part.start, part.stop, job.drive.made_from)
            for part, job in ((part, jobs[part.drive]) for part in cut)
        ]
    return [
        Piece(job.file, job.drive.name, name, 0, count, job.drive.made_from)
        for name, job, count in sorted(zip(splits, jobs, frames, strict=True), key=lambda item: SPLITS.index(item[0]))
    ]


def _check_root(source: Source, root: Path | None) -> None:
    if root is None:
        raise UserError(f"the dataset '{source.name}' needs --data-root, the folder of its recordings")
    if not root.exists():
        raise UserError(f"the data root {root} does not exist")
    if not root.is_dir():
        raise UserError(f"the data root {root} is a file; give the folder of the recordings")
    if not any(root.iterdir()):
        raise UserError(f"the data root {root} is empty")


def _check_drives(source: Source, drives: Sequence[Drive]) -> None:
    rates = sorted({drive.hz for drive in drives})
    if len(rates) > 1:
        raise UserError(
            f"the drives of '{source.name}' have different rates ({', '.join(f'{hz:g}' for hz in rates)} Hz); "
            "give --hz to bring them to one"
        )
    assert drives and len({drive.name for drive in drives}) == len(drives)


def _image_size(size: tuple[int, int] | None) -> tuple[int, int]:
    height, width = size if size is not None else DEFAULT_IMAGE_SIZE
    if not (SMALLEST <= height <= LARGEST and SMALLEST <= width <= LARGEST):
        raise UserError(
            f"--image-size {height} {width} is impossible; height and width go from {SMALLEST} to {LARGEST}"
        )
    return int(height), int(width)


def _fit(fit: str) -> Fit:
    for known in get_args(Fit):
        if fit == known:
            return known
    raise UserError(f"--fit {fit}: there is no such fit{did_you_mean(fit, get_args(Fit))}")


def _workers(workers: int | None) -> int:
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 0:
        raise UserError(f"--workers has to be at least 0, not {workers}")
    return workers


def _summary(target: Path, metadata: dict[str, Any], seconds: float) -> str:
    counts = Counter(drive["split"] for drive in metadata["drives"])
    splits = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    height, width = metadata["image_size"]
    repeated = 100.0 * metadata["repeated_frames"] / metadata["frames"]
    return (
        f"{target}: {metadata['frames']} frames of {height}x{width} at {metadata['hz']:g} Hz; drives: {splits}; "
        f"{repeated:.1f} % of the pictures repeat the one before; {seconds:.1f} s."
    )
