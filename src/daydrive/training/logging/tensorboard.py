"""TensorBoard's event files, in the run folder."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image as Pillow
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.histogram_pb2 import HistogramProto
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import text as text_summary

from daydrive.training.logging.backend import Backend
from daydrive.training.logging.histograms import Histogram
from daydrive.types import Image

FLUSH_SECONDS = 10
PNG_COMPRESSION = 1
"""zlib compression level: the default takes four times as long for a sixth less."""


class TensorBoardLog(Backend):
    """Opened at `step`, it makes TensorBoard discard what an earlier process logged after it."""

    def __init__(self, run: Path, step: int) -> None:
        self._run = run
        self._writer = FileWriter(str(run), flush_secs=FLUSH_SECONDS)
        self._writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step + 1)
        self._notes: tuple[int, list[str]] = (step, [])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def image(self, step: int, name: str, image: Image) -> None:
        png = io.BytesIO()
        Pillow.fromarray(image).save(png, "PNG", compress_level=PNG_COMPRESSION)
        self._image(step, name, png.getvalue(), image.shape[:2])

    def video(self, step: int, name: str, gif: bytes, size: tuple[int, int]) -> None:
        self._image(step, name, gif, size)

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        self._write(step, [Summary.Value(tag=name, histo=_proto(h)) for name, h in histograms.items()])

    def note(self, step: int, text: str) -> None:
        texts = self._notes[1] if self._notes[0] == step else []
        self._notes = (step, [*texts, text])
        # TensorBoard keeps only the last text of a step
        self._writer.add_summary(text_summary("alarms", "\n\n".join(self._notes[1])), step)

    def state(self) -> dict[str, str | int]:
        self._writer.flush()
        return {}

    def where(self) -> list[str]:
        return [f"TensorBoard: tensorboard --logdir {self._run.parent}"]

    def close(self) -> None:
        self._writer.close()

    def _image(self, step: int, name: str, encoded: bytes, size: tuple[int, ...]) -> None:
        height, width = size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._write(step, [Summary.Value(tag=name, image=image)])

    def _write(self, step: int, values: list[Summary.Value]) -> None:
        self._writer.add_summary(Summary(value=values), step)


def _proto(histogram: Histogram) -> HistogramProto:
    counts, edges = histogram.counts, histogram.edges
    return HistogramProto(
        min=edges[0],
        max=edges[-1],
        num=counts.sum(),
        sum=histogram.total,
        sum_squares=histogram.squares,
        bucket_limit=edges[1:],
        bucket=counts,
    )
