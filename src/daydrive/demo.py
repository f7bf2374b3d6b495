"""The demo: generate drives, prepare a store, train a model and evaluate it on unseen roads."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from daydrive import checkpoint
from daydrive.config import load_config
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.evaluation import EvaluateConfig, evaluate
from daydrive.files import check_folder, read_json, write_text
from daydrive.report.sentences import long_sentence, usable_sentence, verdict_sentence
from daydrive.report.text import margins_markdown, margins_table
from daydrive.training.context import TrainOptions
from daydrive.training.run import train_run

DRIVES, CLIPS = 72, 64


def run_demo(
    run: Path,
    data_root: Path,
    config_file: Path,
    overrides: Sequence[str] = (),
    drives: int = DRIVES,
    clips: int = CLIPS,
    processes: str = "1",
) -> int:
    """Run the demo and return the exit code; finished steps are skipped, interrupted ones continue.

    overrides: of the config. drives: number to generate; clips: number to evaluate. processes: see `count_processes`.
    """
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    settings = load_config(config_file, overrides)
    check_folder(run, "run folder")
    console.print("[bold]1/3 drives[/bold]")
    prepare("road", None, data_root, (64, 64), drives=drives)

    console.print("[bold]2/3 training[/bold]")
    if _finished(run):
        console.print(f"{run} is already trained, nothing to do.")
    else:
        options = TrainOptions(resume=True)
        code = train_run(settings, config_file, data_root, run, torch.device("cpu"), options, processes)
        if code:
            return code

    console.print("[bold]3/3 evaluation on unseen roads[/bold]")
    output = run / "evaluation"
    result = _evaluation_of(output, run, data_root)
    if result is None:
        config = EvaluateConfig(clips=clips, counterfactual=True, controllability=True, long=True)
        result = evaluate(run, data_root, output, config, processes=processes)
        write_text(output / "margins.md", margins_markdown(result))
    console.print(margins_table(result))
    console.print(usable_sentence(result))
    console.print(verdict_sentence(result))
    console.print(long_sentence(result))
    console.print(f"report (HTML):           {output / 'report.html'}")
    console.print(f"real, predicted, copied: {output / 'strip.png'}")
    console.print(f"the same as a video:     {output / 'rollouts.mp4'}")
    console.print(f"curves with baselines:   {output / 'horizon.png'}")
    console.print(f"left, straight, right:   {output / 'counterfactual.png'}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    console.print(f"{(time.monotonic() - started) / 60:.1f} minutes, peak memory {peak / 2**20:.1f} GiB")
    return 0


def _finished(run: Path) -> bool:
    if not (run / "checkpoints" / "last").is_file():
        return False
    state = checkpoint.read_state(checkpoint.find(run, "last"))
    return bool(state["step"] == state.get("total_steps"))


def _evaluation_of(output: Path, run: Path, data_root: Path) -> dict | None:
    """The existing evaluation if it is of this checkpoint and this store, else None."""
    file = output / "evaluation.json"
    if not file.is_file():
        return None
    result = read_json(file, "evaluation")
    same = (
        result.get("checkpoint") == str(checkpoint.find(run))
        and result.get("store_fingerprint") == Store.open(data_root).fingerprint
        and {"controllability", "long_dreams"} <= result.keys()
    )
    return result if same else None
