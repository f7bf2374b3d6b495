"""Weights & Biases, online or offline.

W&B writes behind: a killed process loses what it logged last, and each process writes a file of its own. Reading these
back is the only way to know what is held already.
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
"""Of W&B's files: 7 bytes of header and then LevelDB's log format, whose records are protobufs."""


class WandbLog(Backend):
    """One W&B run for all processes of a run folder, by the id kept there. W&B's files are in the run folder, or where
    WANDB_DIR says.

    W&B can't forget: a step that it holds stays as it was logged first, and is left out when a resumed run comes by it
    again. Scalars that it lacks, because a process was killed or ran without W&B, are filled in from `rows`. Should its
    service fail in the middle, training goes on without it. Raises UserError where W&B is missing or refuses the login.
    """

    def __init__(self, run: Path, config: Config, rows: Iterable[Row]) -> None:
        self._run: wandb.Run | None = _start(run, config)
        self._id = self._run.id
        write_text(run / ID_FILE, self._id + "\n")
        self._files = Path(self._run.dir).parents[1]
        self._held = last_step(self._files, self._id) if self._run.offline else self._run.starting_step - 1
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
        """A version of the artifact `model-ID`, unless W&B has the same files already."""

        def send(run: wandb.Run) -> None:
            import wandb

            artifact = wandb.Artifact(f"model-{self._id}", type="model", metadata={"step": step})
            with _staged_in(self._files):
                artifact.add_dir(str(folder), skip_cache=True)
                run.log_artifact(artifact, aliases=aliases)

        self._send(send)

    def note(self, step: int, text: str) -> None:
        if step > self._held:
            self._send(lambda run: run.alert(f"Step {step}", text, level="WARN", wait_duration=0))

    def state(self) -> dict[str, str | int]:
        return {"wandb_id": self._id}

    def where(self) -> list[str]:
        if self._run is None or self._run.disabled:
            return []
        upload = f"offline; `wandb sync {self._files}/*run-*` uploads it"
        return [f"W&B: {upload if self._run.offline else self._run.url}"]

    def close(self) -> None:
        """On the way of an exception the run counts as failed."""
        import wandb

        failed = sys.exception() is not None
        self._send(lambda run: run.finish(exit_code=int(failed)))
        self._run = None
        with suppress(OSError):  # that of a service that died
            wandb.teardown()  # W&B's files are whole only then

    def _log(self, step: int, values: Callable[[Any], dict[str, Any]]) -> None:
        """values: made with the W&B module, where the step is new."""
        if step > self._held:
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
            print(f"W&B failed ({error}); training goes on without it, --resume connects again", file=sys.stderr)


def _start(run: Path, config: Config) -> wandb.Run:
    try:
        import wandb
    except ImportError:
        raise UserError('logging.use_wandb needs W&B, which is not installed: pip install "daydrive[wandb]"') from None
    id_file, logging = run / ID_FILE, config.logging
    known = id_file.read_text(encoding="utf-8").strip() if id_file.is_file() else ""
    folder = Path(os.environ.get("WANDB_DIR") or run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # without messages W&B doesn't ask for a key in the middle of a run either, but raises
        wandb.setup(wandb.Settings(show_info=False))
        return wandb.init(
            project=logging.wandb_project,
            name=logging.wandb_name,
            mode=logging.wandb_mode,
            id=known or None,
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
            f"W&B doesn't take the run ({reason}); log in with `wandb login`, or train with --wandb-mode offline"
        ) from None


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let W&B keep its copies of a checkpoint until they are uploaded in `folder`, not in the user's home."""
    name = "WANDB_DATA_DIR"
    chosen = os.environ.get(name)
    os.environ.setdefault(name, str(folder.resolve()))
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[name]


def last_step(folder: Path, run_id: str) -> int:
    """The last step in the `.wandb` files of a run below `folder`; -1 where there is none."""
    files = [file for file in folder.glob("*run-*/*.wandb") if file.name == f"run-{run_id}.wandb"]
    return max((step for file in files for step in _steps(file)), default=-1)


def read_records(file: Path) -> Iterator[Any]:
    """The records (`wandb_internal_pb2.Record`) of a `.wandb` file, up to where its writer was killed."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # chosen at run time

    data, place, body = file.read_bytes(), _HEADER, b""
    while place + _CHUNK.size <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _CHUNK.size:
            place += left
            continue
        _, length, kind = _CHUNK.unpack_from(data, place)
        place += _CHUNK.size
        chunk = data[place : place + length]
        if kind == 0 or len(chunk) < length:
            return
        place += length
        body = chunk if kind in (_FULL, _FIRST) else body + chunk
        if kind in (_FULL, _LAST):
            yield Record.FromString(body)


def _steps(file: Path) -> Iterator[int]:
    for record in read_records(file):
        if record.HasField("history"):
            yield record.history.step.num
