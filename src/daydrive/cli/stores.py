"""`daydrive data …`: inspect and diagnose stores, split, merge and export them, estimate actions of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import ManyNumbers, app, numbers
from daydrive.errors import UserError

stores = typer.Typer(no_args_is_help=True, help="Inspect, diagnose, split, merge and export stores.")
app.add_typer(stores, name="data")

Place = Annotated[str, typer.Argument(metavar="STORE", help="store: a path, s3:// or gs://")]


@stores.command("sources")
def list_sources() -> None:
    """List all datasets with their formats and options.

    Built-in ones and those of other packages.
    """
    from rich.console import Console

    from daydrive.cli.store_tables import print_sources

    print_sources(Console(highlight=False))


@stores.command()
def info(
    store: Place,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Summarize a store.

    Frames, drives, splits, origin of the actions, and the range of every column.
    """
    import json

    from rich.console import Console

    from daydrive.cli.store_tables import print_summary
    from daydrive.data.quality.summary import summarize
    from daydrive.data.store.store import Store

    summary = summarize(Store.open(store))
    if as_json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        print_summary(Console(highlight=False), summary)


@stores.command()
def show(
    store: Place,
    drive: Annotated[list[str] | None, typer.Option(help="only this drive; repeatable")] = None,
    limit: Annotated[int, typer.Option(min=1, help="number of drives, spread evenly over the store")] = 12,
    images: Annotated[int, typer.Option(min=1, max=512, help="images per drive")] = 24,
    output: Annotated[Path | None, typer.Option(help="folder; default: show/STORE")] = None,
) -> None:
    """Draw images and actions of drives on a timeline.

    Writes a PNG per drive, and an HTML page with all of them.
    """
    from daydrive.data.store.store import Store
    from daydrive.viz.gallery import choose_drives
    from daydrive.viz.gallery import show as write

    opened = Store.open(store)
    drives = choose_drives(opened, drive or [], limit)
    folder = output if output is not None else Path("show") / opened.path.absolute().name
    page, *_ = write(opened, drives, folder, images)
    print(f"{page}: {len(drives)} of {len(opened.drives)} drives, a PNG of each beside it")


@stores.command()
def split(
    store: Place,
    by: Annotated[str, typer.Option(help="drive: assign whole drives; time: cut each into contiguous parts")],
    seed: Annotated[int, typer.Option(help="for shuffling drives")] = 0,
    val: Annotated[float, typer.Option(help="fraction of the frames for validation")] = 0.1,
    test: Annotated[float, typer.Option(help="fraction of the frames for test")] = 0.1,
    output: Annotated[Path | None, typer.Option(help="new store that shares files; default: in place")] = None,
) -> None:
    """Split a store anew without rewriting images.

    Drives that belong together stay in one split.
    """
    from daydrive.data.store.resplit import resplit, split_counts

    made = resplit(store, by, seed=seed, val=val, test=test, output=output)
    counts = ", ".join(f"{drives} {name} ({frames} frames)" for name, drives, frames in split_counts(made))
    print(f"{made.path}: drives: {counts}")


@stores.command()
def export(
    store: Place,
    output: Annotated[Path, typer.Option(help="folder of the dataset, which must not exist")],
    split: Annotated[str | None, typer.Option(help="only train, val or test; default: all")] = None,
) -> None:
    """Export a store as a LeRobot dataset.

    Version 3.0: Parquet and H.264.
    """
    from daydrive.data.export import export_lerobot

    print(f"dataset: {export_lerobot(store, output, split)}")


@stores.command(cls=ManyNumbers)
def merge(
    members: Annotated[list[str], typer.Argument(metavar="STORE...", help="stores: paths, s3:// or gs://")],
    output: Annotated[Path, typer.Option(help="folder of the mix, which must not exist; it refers to the stores")],
    weights: Annotated[
        str | None, typer.Option(metavar="W...", help="sampling weight of each store in training; default: 1 each")
    ] = None,
) -> None:
    """Combine several stores into a mix to train from.

    No data is copied.
    """
    from daydrive.data.store.concat import merge as run

    mix = run(members, output, None if weights is None else numbers(weights, "--weights"))
    for name, store, weight in zip(mix.names, mix.members, mix.weights, strict=True):
        print(f"{name}: {store.rows} frames of {len(store.drives)} drives, weight {weight:g}")
    print(f"store: {output}")


@stores.command()
def doctor(
    store: Place,
    output: Annotated[Path | None, typer.Option(help="folder of the report; default: the store")] = None,
) -> None:
    """Diagnose a store.

    Writes problems with evidence and fixes as an HTML report and doctor.json. Exit code 0 if there are only notes,
    1 with warnings, 3 with findings that are fatal for training.
    """
    from daydrive.data.quality.doctor import finding as findings
    from daydrive.data.quality.doctor.cache import diagnosis, save_diagnosis
    from daydrive.data.quality.doctor.examine import examine
    from daydrive.data.store.store import Store
    from daydrive.files import check_folder, write_text
    from daydrive.progress import DriveProgress
    from daydrive.viz.gallery.diagnosis import diagnosis_page

    opened = Store.open(store)
    opened.require_single_store("cannot be examined as a whole; examine its stores one by one")
    folder = opened.path if output is None else output
    if isinstance(folder, Path):
        check_folder(folder, "folder of the report")
    lengths = [drive.frames for drive in opened.drives]
    with DriveProgress(lengths, lengths) as progress:
        found = examine(opened, progress)
    for fault in found:
        print(f"{fault.severity}  {fault.code}: {fault.message}\n    fix: {fault.fix}")
    report = diagnosis(opened, found)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        save_diagnosis(output, report)
    try:
        save_diagnosis(opened.path, report)
    except OSError as error:
        if output is None:
            raise UserError(f"the store {store} cannot be written ({error.strerror}); name another --output") from error
        print(f"{store} cannot be written ({error.strerror}), so training will not warn about these findings")
    write_text(folder / "doctor.html", diagnosis_page(opened, found))
    result = f"{len(found)} findings, most severe: {report['worst']}" if found else "nothing was found"
    print(f"{store}: {opened.rows} frames of {len(opened.drives)} drives, {result}; see {folder / 'doctor.html'}")
    raise typer.Exit(findings.EXIT_CODES[report["worst"]] if found else 0)


@stores.command("import-table")
def import_table(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, Parquet or HDF5 beside images or a video")],
    images: Annotated[
        Path | None, typer.Option(help="folder of images or video; default: the only one beside the table")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="default: guessed")] = None,
    steering: Annotated[str | None, typer.Option(metavar="COLUMN", help="default: guessed")] = None,
    throttle: Annotated[str | None, typer.Option(metavar="COLUMN", help="default: guessed")] = None,
    brake: Annotated[str | None, typer.Option(metavar="COLUMN", help="default: guessed")] = None,
    gear: Annotated[str | None, typer.Option(metavar="COLUMN", help="default: guessed")] = None,
    speed: Annotated[str | None, typer.Option(metavar="COLUMN", help="default: guessed")] = None,
    output: Annotated[Path | None, typer.Option(help="default: mapping.yaml beside the table")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an existing mapping")] = False,
) -> None:
    """Guess which columns of a table are the actions.

    Prints columns, units and how the steering agrees with the images, draws a chart, and writes the mapping that
    `prepare-dataset --dataset table` reads.
    """
    from rich.console import Console

    from daydrive.cli.table_import import print_imported, write_chart
    from daydrive.data.table_import import import_table as run

    named = {"time": time, "steering": steering, "throttle": throttle, "brake": brake, "gear": gear, "speed": speed}
    imported = run(table, images, {name: column for name, column in named.items() if column}, output, overwrite)
    print_imported(Console(highlight=False), imported)
    chart = imported.file.with_suffix(".svg")
    write_chart(chart, imported)
    print(f"mapping: {imported.file}, chart: {chart}")
    print(f"next: daydrive prepare-dataset --dataset table --data-root {imported.file.parent}")


@stores.command()
def actions(
    folder: Annotated[Path, typer.Argument(help="folder of a drive with its video, or a folder of such folders")],
    fov: Annotated[float, typer.Option(min=20, max=170, help="horizontal field of view of the camera, degrees")] = 70.0,
    offset: Annotated[
        float | None,
        typer.Option(help="GPS time of the first frame, seconds; default: from the video's creation time"),
    ] = None,
) -> None:
    """Estimate the actions of videos without actions.csv.

    Writes an actions.csv with steering from the image motion and pedals from a *.gpx track.
    """
    from daydrive.data.kinematics.dashcam import videos_without_actions, write_actions

    for file in videos_without_actions(folder):
        print(write_actions(file, fov, offset))
