"""From a folder of raw drives to a store.

Drives are read in parallel and written to one file each in `<output>.partial`; then they become one store in a
single pass, which is renamed to its place, or rows behind those of a store that is there. A preparation that was ended
goes on with the drives that were finished.
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
from daydrive.data.prepare import append, shards
from daydrive.data.prepare.disk_space import check_space
from daydrive.data.prepare.engines import Engine, build_engine
from daydrive.data.prepare.split_assignment import pieces
from daydrive.data.prepare.writer import append_to_store, write_store
from daydrive.data.sources import Options, Source, get, read_options
from daydrive.data.sources.base import flag
from daydrive.data.sources.lerobot import local_copy
from daydrive.data.store.store import FORMAT_VERSION, METADATA_FILE, SPLITS, Store, read_metadata
from daydrive.errors import UserError, did_you_mean
from daydrive.locations import Location, UnreachableError, check_writable, exists, is_remote, location
from daydrive.progress import DriveProgress
from daydrive.types import Drive
from daydrive.version import __version__
from daydrive.workspace import exclusive_lock, publish, workspace

SMALLEST, LARGEST = 8, 4096
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
    """Prepares the drives of `dataset` under `data_root` as a store and returns its path.

    output: a folder, or a place on s3:// or gs://. image_size: (H, W). Both are by default what `configs/data` says of
    the dataset, see `defaults_of`; with `add` the size is that of the store that is there.
    fit: how pictures of other proportions are brought to it, 'stretch', 'crop' or 'letterbox'.
    limit: the first so many drives only.
    workers: processes, one for each processor by default; the store is the same for any number. jpeg_quality: of the
    pictures that are not taken as they are. engine: 'local', or 'ray' for a cluster, see `engines`.
    options: those that the dataset declares.
    Where the same store is there already nothing is done; another one is replaced with `overwrite` only. add: drives
    that the store does not have are put behind those that are there, which stay as they are.
    UserError for bad input, and nothing is left behind then.
    """
    source = get(dataset)
    chosen = read_options(source, options)
    default = defaults_of(source.name)
    shape = _fit(fit)
    processes = _workers(workers)
    if limit is not None and limit < 1:
        raise UserError(f"--limit has to be at least 1, not {limit}")
    quality = _quality(jpeg_quality)
    if add and overwrite:
        raise UserError("--add keeps the store that is there and --overwrite replaces it; give one of them")
    target = location(output or str(default.root))
    there = Store.open(target) if add and holds_store(target) else None
    if image_size is None:
        image_size = default.image_size if there is None else there.image_size
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
    if there is not None:
        there.refuse_mix("takes no drives; add them to one of its stores")
        append.check_request(there, request)
    elif is_prepared(target, request, overwrite):
        shutil.rmtree(partial(target), ignore_errors=True)
        print(f"{target} is prepared already, nothing to do.")
        return target
    if is_remote(target):
        check_writable(target)
    if source.needs_root:
        _check_root(source, root)
    drives = source.drives(root or Path(), chosen, size)[:limit]
    _check_drives(source, drives)
    if there is not None:
        drives = append.new_drives(there, drives, append.origin_of(request))
        if not drives:
            print(f"{target} has these drives already, nothing to do.")
            return target
    work = _Work(source, chosen, drives, request, size, shape, quality, target, there)
    try:
        _prepare(work, build_engine(engine, processes, ray_address, target))
    except UnreachableError as error:
        raise UnreachableError(f"{error}{_goes_on(target)}") from error
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0][:200]
        raise UserError(f"the store {target} cannot be written ({reason}){_goes_on(target)}") from error
    except KeyboardInterrupt:
        print(f"Stopped{_goes_on(target)}.")
        raise
    return target


@dataclass(frozen=True)
class _Work:
    """What is to be prepared: drives of a source, for `target` or, where a store is `there`, behind its drives."""

    source: Source
    options: Options
    drives: Sequence[Drive]
    request: dict[str, Any]
    size: tuple[int, int]
    fit: Fit
    quality: int
    target: Location
    there: Store | None


def _prepare(work: _Work, engine: Engine) -> None:
    began = time.monotonic()
    drives, there = work.drives, work.there
    description = work.source.describe(work.options)
    if there is not None:
        append.check_description(there, drives[0].hz, description)
    values = tuple(description["values"])
    planned = [[drive.name, drive.split, drive.hz, drive.length, drive.made_from] for drive in drives]
    plan = {"request": work.request, "drives": planned, "added_to": there.fingerprint if there else None}
    preparing = workspace(
        partial(work.target),
        plan,
        results="*.arrow",
        busy=lambda holder: f"{holder} is preparing {work.target} at this moment",
        resumable=_may_work_later,
    )
    with preparing as folder:
        jobs = [
            shards.Job(drive, work.size, values, folder / f"{i:06d}.arrow", work.fit, work.quality)
            for i, drive in enumerate(drives)
        ]
        to_do = [job for job in jobs if not job.file.exists()]
        check_space(jobs, to_do, folder, table_here=not is_remote(work.target))
        with DriveProgress([drive.length for drive in drives], [job.drive.length for job in to_do]) as progress:
            engine.write_parts(to_do, progress)
        read = [shards.read_part(job.file) for job in jobs]
        seed = int(work.options.get("seed") or 0)
        origins, origin = append.with_origin(there, append.origin_of(work.request)) if there else ([], 0)
        rows = pieces(work.source, jobs, [frames for frames, _ in read], seed, there, origin)
        if there is not None:
            with exclusive_lock(there.path, lambda holder: f"{holder} is writing {work.target} at this moment"):
                written = append_to_store(there, rows, {"origins": origins})
        else:
            recorded = Counter(size for _, size in read).most_common(1)[0][0]
            metadata = _metadata(work, recorded, description)
            remote = is_remote(work.target)
            written = write_store(work.target if remote else folder / FINISHED, rows, values, metadata)
            if not remote:
                publish(folder / FINISHED, work.target, folder / "replaced")
    if there is not None and there.metadata.get("scores"):
        lacking = ", ".join(f"'{name}'" for name in there.metadata["scores"])
        print(f"The new drives have no numbers in the columns {lacking}; `daydrive score` fills them.")
    print(_summary(work.target, written, time.monotonic() - began))


def is_prepared(target: Location, request: dict[str, Any], overwrite: bool) -> bool:
    """Whether the store that `request` describes is at `target` already; with `overwrite` it never counts.

    UserError where something else is there and may not be replaced.
    """
    if not holds_store(target) or overwrite:
        return False
    there, wanted = _flat({"fit": "stretch", **read_metadata(target).get("request", {})}), _flat(request)
    differing = [
        f"its {key} is {_short(there.get(key))}, not {_short(wanted[key])}"
        for key in wanted
        if there.get(key) != wanted[key]
    ]
    if differing:
        raise UserError(
            f"there is another store at {target}: {'; '.join(differing)}; give another --output or --overwrite"
        )
    return True


def holds_store(target: Location) -> bool:
    """Whether a store is at `target`; UserError where something else is."""
    if is_remote(target):
        return exists(target) and exists(target / METADATA_FILE)
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_dir():
        raise UserError(f"the output {target} is a file; give a folder")
    if not any(target.iterdir()):
        return False
    if not (target / METADATA_FILE).is_file():
        raise UserError(f"the output {target} is a folder of something else; give one that is empty or not there yet")
    return True


def partial(target: Location) -> Path:
    """Beside a folder; for an object store below `data/processed`, named after it."""
    if is_remote(target):
        digest = hashlib.sha256(str(target).encode()).hexdigest()[:8]
        return Path("data") / "processed" / f"{target.name}-{digest}.partial"
    return target.with_name(target.name + ".partial")


def _may_work_later(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(error, (KeyboardInterrupt, shards.UnfinishedError, UnreachableError))


def _flat(request: dict[str, Any]) -> dict[str, Any]:
    options = {flag(name): value for name, value in request.get("options", {}).items()}
    return {key.replace("_", " "): value for key, value in request.items() if key != "options"} | options


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _metadata(work: _Work, recorded: tuple[int, int], description: dict[str, Any]) -> dict[str, Any]:
    """What `store.json` says of the whole store. recorded: (H, W) of most drives' pictures."""
    shown = geometry(recorded, work.size, work.fit)
    return {
        "source": work.source.name,
        "daydrive": __version__,
        "request": work.request,
        "hz": work.drives[0].hz,
        "image_size": list(work.size),
        "jpeg_quality": work.quality,
        "recorded_image_size": list(recorded),
        "fit": work.fit,
        "geometry": shown._asdict(),
        "pixel_aspect": round(shown.pixel_aspect, 6),
        **description,
    }


def _root(source: Source, data_root: str | Path) -> Path:
    """The folder of the recordings; a dataset of LeRobot may be named as it is on the Hub where LeRobot keeps it."""
    root = Path(data_root)
    kept = local_copy(str(data_root)) if source.name == "lerobot" and not root.exists() else None
    return kept or root


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
    assert size is not None
    height, width = size
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


def _quality(quality: int) -> int:
    if not 1 <= quality <= 100:
        raise UserError(f"--jpeg-quality {quality} is impossible; it goes from 1 to 100")
    return quality


def _goes_on(target: Location) -> str:
    """For the end of a sentence that says why a preparation failed."""
    finished = partial(target)
    return f"; the next run goes on with the drives that are finished in {finished}" if finished.exists() else ""


def _workers(workers: int | None) -> int:
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 0:
        raise UserError(f"--workers has to be at least 0, not {workers}")
    return workers


def _summary(target: Location, metadata: dict[str, Any], seconds: float) -> str:
    counts = Counter(drive["split"] for drive in metadata["drives"])
    splits = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    height, width = metadata["image_size"]
    repeated = 100.0 * metadata["repeated_frames"] / metadata["frames"]
    return (
        f"{target}: {metadata['frames']} frames of {height}x{width} at {metadata['hz']:g} Hz; drives: {splits}; "
        f"{repeated:.1f} % of the pictures repeat the one before; {seconds:.1f} s."
    )
