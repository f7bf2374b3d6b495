"""`daydrive data …`: what is in a store, what is wrong with it, stores made from stores, actions for videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import ManyNumbers, app, numbers
from daydrive.errors import UserError

stores = typer.Typer(no_args_is_help=True, help="Look into stores, find what is wrong with them, divide and join them.")
app.add_typer(stores, name="data")

Place = Annotated[str, typer.Argument(metavar="STORE", help="the store: a path, s3:// or gs://")]


@stores.command("sources")
def list_sources() -> None:
    """All datasets, daydrive's own and those of other packages: what they read, and their options."""
    from rich.console import Console

    from daydrive.cli.tables import print_sources

    print_sources(Console(highlight=False))


@stores.command()
def info(
    store: Place,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON, for programs")] = False,
) -> None:
    """What is in a store: frames, drives, splits, how its actions were made, and the range of every column."""
    import json

    from rich.console import Console

    from daydrive.cli.tables import print_summary
    from daydrive.data.quality.summary import summarize
    from daydrive.data.store.store import Store

    told = summarize(Store.open(store))
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print_summary(Console(highlight=False), told)


@stores.command()
def show(
    store: Place,
    drive: Annotated[list[str] | None, typer.Option(help="this one only; repeatable")] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many drives, spread evenly over the store")] = 12,
    images: Annotated[int, typer.Option(min=1, max=512, help="of each drive")] = 24,
    output: Annotated[Path | None, typer.Option(help="folder for them; default: show/STORE")] = None,
) -> None:
    """Pictures and actions of drives on a timeline: a PNG of each, and one page with all of them."""
    from daydrive.data.store.store import Store
    from daydrive.viz.gallery import choose
    from daydrive.viz.gallery import show as write

    opened = Store.open(store)
    drives = choose(opened, drive or [], limit)
    folder = output if output is not None else Path("show") / opened.path.absolute().name
    page, *_ = write(opened, drives, folder, images)
    print(f"{page}: {len(drives)} of {len(opened.drives)} drives, a PNG of each beside it")


@stores.command()
def split(
    store: Place,
    by: Annotated[str, typer.Option(help="drive: whole drives; time: each is cut into contiguous parts")],
    seed: Annotated[int, typer.Option(help="of the shuffle of drives")] = 0,
    val: Annotated[float, typer.Option(help="share of the frames for validation")] = 0.1,
    test: Annotated[float, typer.Option(help="share of the frames for test")] = 0.1,
    output: Annotated[Path | None, typer.Option(help="another store, sharing files; default: in place")] = None,
) -> None:
    """New splits for a store, without touching its pictures; drives that belong together stay in one split."""
    from daydrive.data.store.resplit import resplit, split_counts

    made = resplit(store, by, seed=seed, val=val, test=test, output=output)
    told = ", ".join(f"{drives} {name} ({frames} frames)" for name, drives, frames in split_counts(made))
    print(f"{made.path}: drives: {told}")


@stores.command()
def export(
    store: Place,
    output: Annotated[Path, typer.Option(help="the folder of the dataset, not there yet")],
    split: Annotated[str | None, typer.Option(help="train, val or test alone; default: all")] = None,
) -> None:
    """A store → a dataset of LeRobot, version 3.0: Parquet and H.264."""
    from daydrive.data.export import export_lerobot

    print(f"dataset: {export_lerobot(store, output, split)}")


@stores.command(cls=ManyNumbers)
def merge(
    members: Annotated[list[str], typer.Argument(metavar="STORE...", help="the stores: paths, s3:// or gs://")],
    output: Annotated[Path, typer.Option(help="folder of the mix, not there yet; it only names the stores")],
    weights: Annotated[
        str | None, typer.Option(metavar="W...", help="how often each one's clips come in a training; default: 1 each")
    ] = None,
) -> None:
    """Several stores → one mix to train from; nothing is copied."""
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
    """What is wrong with a store, with the evidence and the fix: a report to open in a browser, and doctor.json.

    Exit code 0 where nothing is worse than a note, 1 with warnings, 3 where something is fatal to a training.
    """
    from daydrive.data.quality.doctor import finding as findings
    from daydrive.data.quality.doctor.cache import diagnosis, save_diagnosis
    from daydrive.data.quality.doctor.examine import examine
    from daydrive.data.store.store import Store
    from daydrive.files import check_folder, write_text
    from daydrive.progress import DriveProgress
    from daydrive.viz.gallery.diagnosis import diagnosis_page

    opened = Store.open(store)
    opened.require_single_store("can't be examined as a whole; examine its stores one by one")
    folder = opened.path if output is None else output
    if isinstance(folder, Path):
        check_folder(folder, "folder of the report")
    lengths = [drive.frames for drive in opened.drives]
    with DriveProgress(lengths, lengths) as progress:
        found = examine(opened, progress)
    for fault in found:
        print(f"{fault.severity}  {fault.code}: {fault.message}\n    fix: {fault.fix}")
    told = diagnosis(opened, found)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        save_diagnosis(output, told)
    try:
        save_diagnosis(opened.path, told)
    except OSError as error:
        if output is None:
            raise UserError(f"the store {store} can't be written ({error.strerror}); name another --output") from error
        print(f"{store} can't be written ({error.strerror}), so that a training doesn't hear of this")
    write_text(folder / "doctor.html", diagnosis_page(opened, found))
    verdict = f"{len(found)} findings, the gravest a {told['worst']}" if found else "nothing was found"
    print(f"{store}: {opened.rows} frames of {len(opened.drives)} drives, {verdict}; see {folder / 'doctor.html'}")
    raise typer.Exit(findings.EXIT_CODES[told["worst"]] if found else 0)


@stores.command()
def actions(
    folder: Annotated[Path, typer.Argument(help="a drive's folder with its video, or a folder of such")],
    fov: Annotated[float, typer.Option(min=20, max=170, help="degrees that the camera sees across")] = 70.0,
    offset: Annotated[
        float | None, typer.Option(help="s on the track's clock at the first frame; default: when the video was made")
    ] = None,
) -> None:
    """Videos without an actions.csv → one beside each: the wheel from how the picture turns, pedals from a *.gpx."""
    from daydrive.data.kinematics.dashcam import videos_without_actions, write_actions

    for file in videos_without_actions(folder):
        print(write_actions(file, fov, offset))
