"""Weights & Biases, online or offline.

W&B writes asynchronously: a killed process loses what it logged last, and every process writes a file of its own.
Reading these files is the only way to know what has been logged.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daydrive.config import Config, as_tree
from daydrive.errors import UserError
from daydrive.files import write_text
from daydrive.training.logging.backend import Backend
from daydrive.training.logging.histograms import Histogram
from daydrive.training.logging.jsonl import Row
from daydrive.types import Image

if TYPE_CHECKING:
    import wandb

ID_FILE = "wandb_id"
INIT_SECONDS, FINISH_SECONDS = 60, 300

_HEADER, _BLOCK = 7, 32768
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4
"""W&B's files: a header of 7 bytes, then LevelDB's log format with protobuf records."""


class WandbLog(Backend):
    """One W&B run for all processes of a run folder, identified by the id stored in it. W&B's files are in the run
    folder, or in WANDB_DIR.

    W&B cannot remove data: a step that it has stays as logged first, and is skipped when a resumed run reaches it
    again. Scalars that it lacks, because a process was killed or ran without W&B, are added from `rows`. If its
    service fails, training continues without it. Raises UserError where W&B is not installed or refuses the login.
    """

    def __init__(self, run: Path, config: Config, rows: Iterable[Row]) -> None:
        self._run: wandb.Run | None = _start(run, config)
        self._id = self._run.id
        write_text(run / ID_FILE, self._id + "\n")
        self._files = Path(self._run.dir).parents[1]
        self._last_step = last_step(self._files, self._id) if self._run.offline else self._run.starting_step - 1
        for step, values in rows:
            self.scalars(step, values)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, lambda _: dict(values))

    def image(self, step: int, name: str, image: Image) -> None:
        self._log(step, lambda wandb: {name: wandb.Image(image)})

    def video(self, step: int, name: str, gif: bytes, size: tuple[int, int]) -> None:
        self._log(step, lambda wandb: {name: wandb.Video(io.BytesIO(gif), format="gif")})

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        self._log(
            step,
            lambda wandb: {
                name: wandb.Histogram(np_histogram=(h.counts.tolist(), h.edges.tolist()))
                for name, h in histograms.items()
            },
        )

    def checkpoint(self, step: int, folder: Path, aliases: list[str]) -> None:
        """Upload a version of the artifact `model-ID`, unless W&B already has the same files."""

        def send(run: wandb.Run) -> None:
            import wandb

            artifact = wandb.Artifact(f"model-{self._id}", type="model", metadata={"step": step})
            with _staged_in(self._files):
                artifact.add_dir(str(folder), skip_cache=True)
                run.log_artifact(artifact, aliases=aliases)

        self._send(send)

    def note(self, step: int, text: str) -> None:
        if step > self._last_step:
            self._send(lambda run: run.alert(f"Step {step}", text, level="WARN", wait_duration=0))

    def state(self) -> dict[str, str | int]:
        return {"wandb_id": self._id}

    def where(self) -> list[str]:
        if self._run is None or self._run.disabled:
            return []
        offline = f"offline; `wandb sync {self._files}/*run-*` uploads it"
        return [f"W&B: {offline if self._run.offline else self._run.url}"]

    def close(self) -> None:
        """A run that ends with an exception is marked as failed."""
        import wandb

        failed = sys.exception() is not None
        self._send(lambda run: run.finish(exit_code=int(failed)))
        self._run = None
        with suppress(OSError):  # the service may have died
            wandb.teardown()  # completes W&B's files

    def _log(self, step: int, values: Callable[[Any], dict[str, Any]]) -> None:
        """values: called with the W&B module where the step is new."""
        if step > self._last_step:
            import wandb

            self._send(lambda run: run.log(values(wandb), step=step))

    def _send(self, send: Callable[[wandb.Run], object]) -> None:
        import wandb

        if self._run is None:
            return
        try:
            send(self._run)
        except (OSError, wandb.Error) as error:
            self._run = None
            print(f"W&B failed ({error}); training continues without it, --resume reconnects", file=sys.stderr)


def _start(run: Path, config: Config) -> wandb.Run:
    try:
        import wandb
    except ImportError:
        raise UserError('logging.use_wandb needs W&B, which is not installed: pip install "daydrive[wandb]"') from None
    id_file, logging = run / ID_FILE, config.logging
    run_id = id_file.read_text(encoding="utf-8").strip() if id_file.is_file() else ""
    folder = Path(os.environ.get("WANDB_DIR") or run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # without messages, W&B raises instead of asking for a key during a run
        wandb.setup(wandb.Settings(show_info=False))
        return wandb.init(
            project=logging.wandb_project,
            name=logging.wandb_name,
            mode=logging.wandb_mode,
            id=run_id or None,
            resume="allow",
            dir=str(folder),
            config=as_tree(config),
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )
    except (OSError, wandb.Error) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"W&B rejects the run ({reason}); log in with `wandb login`, or train with --wandb-mode offline"
        ) from None


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let W&B stage its copies of a checkpoint in `folder` until they are uploaded, not in the user's home."""
    name = "WANDB_DATA_DIR"
    previous = os.environ.get(name)
    os.environ.setdefault(name, str(folder.resolve()))
    try:
        yield
    finally:
        if previous is None:
            del os.environ[name]


def last_step(folder: Path, run_id: str) -> int:
    """The last step in the `.wandb` files of a run below `folder`; -1 without any."""
    files = [file for file in folder.glob("*run-*/*.wandb") if file.name == f"run-{run_id}.wandb"]
    return max((step for file in files for step in _steps(file)), default=-1)


def read_records(file: Path) -> Iterator[Any]:
    """The records (`wandb_internal_pb2.Record`) of a `.wandb` file, up to where its writer was interrupted."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # previous at run time

    data, position, body = file.read_bytes(), _HEADER, b""
    while position + _CHUNK.size <= len(data):
        remaining = _BLOCK - position % _BLOCK
        if remaining < _CHUNK.size:
            position += remaining
            continue
        _, length, kind = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        chunk = data[position : position + length]
        if kind == 0 or len(chunk) < length:
            return
        position += length
        body = chunk if kind in (_FULL, _FIRST) else body + chunk
        if kind in (_FULL, _LAST):
            yield Record.FromString(body)


def _steps(file: Path) -> Iterator[int]:
    for record in read_records(file):
        if record.HasField("history"):
            yield record.history.step.num
