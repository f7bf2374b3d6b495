"""Preparation of a store from recorded drives.

Drives are read in parallel and written to one shard each in `<output>.partial`. A single pass then writes the store,
which is renamed to its final path, or appends the rows to an existing store. An interrupted preparation resumes with
the finished drives.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from daydrive.data.defaults import defaults_of
from daydrive.data.images import JPEG_QUALITY, Fit, geometry
from daydrive.data.kinematics.clock import ImplausibleRateError, check_rate
from daydrive.data.prepare import append, shards
from daydrive.data.prepare.disk_space import check_disk_space
from daydrive.data.prepare.engines import Engine, build_engine
from daydrive.data.prepare.split_assignment import assign_splits, splits_text, with_other_cameras
from daydrive.data.prepare.writer import append_to_store, write_store
from daydrive.data.sources import Options, Source, get, read_options
from daydrive.data.sources.base import flag
from daydrive.data.sources.files import is_recorded
from daydrive.data.sources.frame_counts import FrameCounts, counts_of, frames_of
from daydrive.data.sources.lerobot import local_copy
from daydrive.data.store.store import FORMAT_VERSION, METADATA_FILE, SPLITS, Store, read_metadata
from daydrive.errors import UserError, did_you_mean
from daydrive.locations import Location, UnreachableError, check_writable, exists, is_remote, location
from daydrive.progress import DriveProgress
from daydrive.types import Drive
from daydrive.version import __version__
from daydrive.workspace import exclusive_lock, publish, workspace

MIN_SIZE, MAX_SIZE = 8, 4096
FINISHED = "store"


def prepare(
    dataset: str,
    data_root: Path | None,
    output: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    *,
    fit: str = "stretch",
    limit: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    add: bool = False,
    jpeg_quality: int = JPEG_QUALITY,
    engine: str = "local",
    ray_address: str | None = None,
    **options: Any,
) -> Location:
    """Prepare the drives of `dataset` under `data_root` as a store and return its path.

    output: a folder or a location on s3:// or gs://. image_size: (H, W). The defaults of both are those of the dataset,
    see `defaults_of`; with `add`, the image size defaults to that of the existing store. fit: how images of another
    aspect ratio are fitted, 'stretch', 'crop' or 'letterbox'. limit: maximum number of drives. workers: number of
    processes, default one per processor; it does not affect the store. jpeg_quality: of images that are re-encoded.
    engine: 'local', or 'ray' for a cluster, see `engines`. options: of the dataset.

    Nothing is done if the same store exists; a different one is only replaced with `overwrite`. add: append drives that
    the store lacks, leaving its rows unchanged. Raises UserError for invalid input, without leaving files behind.
    """
    source = get(dataset)
    chosen = read_options(source, options)
    default = defaults_of(source.name)
    shape = _fit(fit)
    processes = _workers(workers)
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    quality = _quality(jpeg_quality)
    if add and overwrite:
        raise UserError("--add extends the existing store and --overwrite replaces it; use one of them")
    target = location(output or str(default.root))
    existing = Store.open(target) if add and holds_store(target) else None
    if image_size is None:
        image_size = default.image_size if existing is None else existing.image_size
    size = _image_size(image_size)
    root = _root(source, data_root) if source.needs_root and data_root is not None else None
    request = {
        "dataset": source.name,
        "data_root": str(root.resolve()) if root else None,
        "options": chosen,
        "image_size": list(size),
        "fit": shape,
        "limit": limit,
        "jpeg_quality": quality,
        "format_version": FORMAT_VERSION,
    }
    if existing is not None:
        existing.require_single_store("cannot take drives; add them to one of its members")
        append.check_request(existing, request)
    elif is_prepared(target, request, overwrite):
        shutil.rmtree(partial(target), ignore_errors=True)
        print(f"{target} is already prepared, nothing to do.")
        return target
    if is_remote(target):
        check_writable(target)
    if source.needs_root:
        _check_root(source, root)
    found = _drives(source, root or Path(), chosen, size)
    drives, counts = found[:limit], counts_of(found)
    if counts is not None:
        counts.leave_out(frames_of(found[len(drives) :]), f"in drives beyond --limit {limit}")
    if existing is not None:
        new = append.new_drives(existing, drives, append.origin_of(request))
        if not new:
            print(f"{target} already has these drives, nothing to do.")
            return target
        if counts is not None:
            counts.leave_out(frames_of(drives) - frames_of(new), "in drives that the store already has")
        drives = new
    work = _Work(source, chosen, drives, counts, request, size, shape, quality, target, existing)
    try:
        _prepare(work, build_engine(engine, processes, ray_address, target))
    except UnreachableError as error:
        raise UnreachableError(f"{error}{_resume_text(target)}") from error
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0][:200]
        raise UserError(f"the store {target} cannot be written ({reason}){_resume_text(target)}") from error
    except KeyboardInterrupt:
        print(f"Stopped{_resume_text(target)}.")
        raise
    return target


@dataclass(frozen=True)
class _Work:
    """A preparation: drives of a source for `target`, or to be appended to the store `existing`.

    counts: None for a source that does not count its frames.
    """

    source: Source
    options: Options
    drives: Sequence[Drive]
    counts: FrameCounts | None
    request: dict[str, Any]
    size: tuple[int, int]
    fit: Fit
    quality: int
    target: Location
    existing: Store | None


def _prepare(work: _Work, engine: Engine) -> None:
    start_time = time.monotonic()
    drives, existing = work.drives, work.existing
    description = work.source.describe(work.options)
    if existing is not None:
        append.check_description(existing, drives[0].hz, description)
    values = tuple(description["values"])
    planned = [[drive.name, drive.split, drive.hz, drive.length, drive.made_from] for drive in drives]
    plan = {"request": work.request, "drives": planned, "added_to": existing.fingerprint if existing else None}
    preparing = workspace(
        partial(work.target),
        plan,
        results="*.arrow",
        busy=lambda holder: f"{holder} is preparing {work.target} at this moment",
        resumable=_is_resumable,
    )
    with preparing as folder:
        jobs = [
            shards.Job(drive, work.size, values, folder / f"{i:06d}.arrow", work.fit, work.quality)
            for i, drive in enumerate(drives)
        ]
        to_do = [job for job in jobs if not job.file.exists()]
        check_disk_space(jobs, to_do, folder, local_table=not is_remote(work.target))
        with DriveProgress([drive.length for drive in drives], [job.drive.length for job in to_do]) as progress:
            engine.write_shards(to_do, progress)
        read = [shards.read_shard(job.file) for job in jobs]
        seed = int(work.options.get("seed") or 0)
        origins, origin = append.with_origin(existing, append.origin_of(work.request)) if existing else ([], 0)
        primary = [k for k, job in enumerate(jobs) if job.drive.beside is None]
        lengths = [read[k][0] for k in primary]
        rows = assign_splits(work.source, [jobs[k] for k in primary], lengths, seed, existing, origin)
        rows = with_other_cameras(rows, jobs)
        total, stored = sum(frames for frames, _ in read), sum(row.stop - row.start for row in rows)
        counts = work.counts or FrameCounts(total)
        counts.leave_out(total - stored, "between the splits")
        counted = counts.metadata(stored)
        if existing is not None:
            with exclusive_lock(existing.path, lambda holder: f"{holder} is writing {work.target} at this moment"):
                written = append_to_store(existing, rows, append.changes(existing, origins, counted))
        else:
            recorded = Counter(size for _, size in read).most_common(1)[0][0]
            metadata = {**_metadata(work, recorded, description), "frame_counts": [counted]}
            remote = is_remote(work.target)
            written = write_store(work.target if remote else folder / FINISHED, rows, values, metadata)
            if not remote:
                publish(folder / FINISHED, work.target, folder / "replaced")
    if existing is not None and existing.metadata.get("scores"):
        missing = ", ".join(f"'{name}'" for name in existing.metadata["scores"])
        print(f"The new drives have no values in the columns {missing}; `daydrive score` computes them.")
    print(_summary(work.target, written, time.monotonic() - start_time))
    print("\n".join(counts.report(stored)))
    for note in splits_text(rows, len(primary)):
        print(note)


def is_prepared(target: Location, request: dict[str, Any], overwrite: bool) -> bool:
    """Whether `target` already is the store described by `request`; always False with `overwrite`.

    Raises UserError if something else exists there that must not be replaced.
    """
    if not holds_store(target) or overwrite:
        return False
    existing, requested = _flat({"fit": "stretch", **read_metadata(target).get("request", {})}), _flat(request)
    differences = [
        f"its {key} is {_short(existing.get(key))}, not {_short(requested[key])}"
        for key in requested
        if existing.get(key) != requested[key]
    ]
    if differences:
        raise UserError(
            f"there is another store at {target}: {'; '.join(differences)}; choose another --output or --overwrite"
        )
    return True


def holds_store(target: Location) -> bool:
    """Whether a store exists at `target`. Raises UserError if something else does."""
    if is_remote(target):
        return exists(target) and exists(target / METADATA_FILE)
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_dir():
        raise UserError(f"the output {target} is a file; choose a folder")
    if not any(target.iterdir()):
        return False
    if not (target / METADATA_FILE).is_file():
        raise UserError(f"the output {target} is not a store; choose an empty or new folder")
    return True


def partial(target: Location) -> Path:
    """The workspace of a target: next to a folder; for an object store, in `data/processed`."""
    if is_remote(target):
        digest = hashlib.sha256(str(target).encode()).hexdigest()[:8]
        return Path("data") / "processed" / f"{target.name}-{digest}.partial"
    return target.with_name(target.name + ".partial")


def _is_resumable(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(error, (KeyboardInterrupt, shards.UnfinishedError, UnreachableError))


def _flat(request: dict[str, Any]) -> dict[str, Any]:
    options = {flag(name): value for name, value in request.get("options", {}).items()}
    return {key.replace("_", " "): value for key, value in request.items() if key != "options"} | options


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _metadata(work: _Work, recorded: tuple[int, int], description: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the whole store. recorded: the most common recorded image size (H, W)."""
    fitting = geometry(recorded, work.size, work.fit)
    return {
        "source": work.source.name,
        "daydrive": __version__,
        "request": work.request,
        "hz": work.drives[0].hz,
        "image_size": list(work.size),
        "jpeg_quality": work.quality,
        "recorded_image_size": list(recorded),
        "fit": work.fit,
        "geometry": fitting._asdict(),
        "pixel_aspect": round(fitting.pixel_aspect, 6),
        **description,
    }


def _root(source: Source, data_root: str | Path) -> Path:
    """The folder of the recordings. A LeRobot dataset may be given by its Hub name if LeRobot has a local copy."""
    root = Path(data_root)
    cached = local_copy(str(data_root)) if source.name == "lerobot" and not root.exists() else None
    return cached or root


def _check_root(source: Source, root: Path | None) -> None:
    if root is None:
        raise UserError(f"the dataset '{source.name}' needs --data-root, the folder of its recordings")
    if not root.exists():
        raise UserError(f"the data root {root} does not exist")
    if not root.is_dir():
        raise UserError(f"the data root {root} is a file, not a folder of recordings")
    if not any(is_recorded(path.name) for path in root.iterdir()):
        raise UserError(f"the data root {root} is empty")


def _drives(source: Source, root: Path, options: Options, size: tuple[int, int]) -> list[Drive]:
    """The drives of a source, all at one plausible or stated rate."""
    try:
        drives = source.drives(root, options, size)
        rates = sorted({drive.hz for drive in drives})
        if not any(options.get(name) for name in ("hz", "recorded_hz")):
            for hz in rates:
                check_rate(f"the dataset '{source.name}'", hz)
    except ImplausibleRateError as error:
        raise UserError(f"{error}; {_rate_cure(source)}") from error
    if len(rates) > 1:
        raise UserError(
            f"the drives of '{source.name}' have different frame rates ({', '.join(f'{hz:g}' for hz in rates)} Hz); "
            "set --hz to resample them to one rate"
        )
    assert drives and len({drive.name for drive in drives}) == len(drives)
    return drives


def _rate_cure(source: Source) -> str:
    """What to do about an implausible rate, by the options that the source has."""
    cures = {
        "time_scale": "set the unit of the times, such as --set time_scale=0.001 for milliseconds",
        "recorded_hz": "if the times are not those of the recording, state its rate, such as --set recorded_hz=20",
    }
    known = [cures[option.name] for option in source.options if option.name in cures]
    return ", or ".join(known) or "correct the times of the recording"


def _image_size(size: tuple[int, int] | None) -> tuple[int, int]:
    assert size is not None
    height, width = size
    if not (MIN_SIZE <= height <= MAX_SIZE and MIN_SIZE <= width <= MAX_SIZE):
        raise UserError(
            f"--image-size {height} {width} is out of range; height and width must be from {MIN_SIZE} to {MAX_SIZE}"
        )
    return int(height), int(width)


def _fit(fit: str) -> Fit:
    for known in get_args(Fit):
        if fit == known:
            return known
    raise UserError(f"--fit {fit}: no such fit{did_you_mean(fit, get_args(Fit))}")


def _quality(quality: int) -> int:
    if not 1 <= quality <= 100:
        raise UserError(f"--jpeg-quality {quality} is out of range; it must be from 1 to 100")
    return quality


def _resume_text(target: Location) -> str:
    """The end of an error message: whether the next run can resume."""
    finished = partial(target)
    return f"; the next run resumes with the finished drives in {finished}" if finished.exists() else ""


def _workers(workers: int | None) -> int:
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 0:
        raise UserError(f"--workers must be at least 0, not {workers}")
    return workers


def _summary(target: Location, metadata: dict[str, Any], seconds: float) -> str:
    counts = Counter(drive["split"] for drive in metadata["drives"])
    splits = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    height, width = metadata["image_size"]
    repeated = 100.0 * metadata["repeated_frames"] / metadata["frames"]
    return (
        f"{target}: {metadata['frames']} frames of {height}x{width} at {metadata['hz']:g} Hz; drives: {splits}; "
        f"{repeated:.1f} % of the images repeat the previous one; {seconds:.1f} s."
    )
