"""`daydrive export`: a model for other programs, for a browser, or to share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.options import Checkpoint, Split, app


@app.command()
def export(
    checkpoint: Checkpoint,
    format: Annotated[str, typer.Option(help="onnx, torch, web or pretrained")],
    output: Annotated[Path, typer.Option(help="folder")],
    precision: Annotated[str, typer.Option(help="of the stored weights: float32, float16 or int8")] = "float32",
    data_root: Annotated[
        Path | None, typer.Option(help="store to compare on and for start moments; default: the road world")
    ] = None,
    split: Split = "test",
    clips: Annotated[int, typer.Option(help="number of clips to compare")] = 8,
    runtime: Annotated[Path | None, typer.Option(help="web: onnxruntime-web, see docs/EXPORT.md")] = None,
) -> None:
    """Export a model: as ONNX, as a program of PyTorch, as a web page, or to share.

    Compares the result with PyTorch (parity.json) and writes nothing if it differs too much.
    """
    from daydrive.export import ExportConfig
    from daydrive.export import export as run

    result = run(checkpoint, output, ExportConfig(format, precision, data_root, split, clips, runtime))
    if result is not None:
        last, times = result["rows"][-1], result["latency_ms"]
        print(f"largest difference from PyTorch after {last['step']} steps, of images in [-1, 1]: "
              f"{last['max_difference']:.2g}")  # fmt: skip
        for row in result["rows"]:
            if "psnr_torch" in row:
                print(f"PSNR at step {row['step']}: {row['psnr_torch']:.2f} dB in PyTorch, "
                      f"{row['psnr_exported']:.2f} dB exported")  # fmt: skip
        print(f"milliseconds per step with one thread: {times['torch']['p50']:.1f} in PyTorch, "
              f"{times['exported']['p50']:.1f} exported")  # fmt: skip
    for file in sorted(output.iterdir()):
        print(f"{file}")
