"""Checks for errors caused by invalid input, and functions that produce such input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import METADATA_FILE, TABLE
from daydrive.errors import UserError

Refuse = Callable[..., None]

Listing = dict[str, bytes | None]


def listing(*folders: Path) -> Listing:
    """All files with their contents and all folders (None) below `folders`."""
    found = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def check_sentence(code: object, stderr: str, message: str) -> None:
    assert code == cli.BAD_INPUT, stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and stderr.endswith("\n"), stderr
    sentence = stderr.removeprefix("error: ").strip()
    assert re.search(message, sentence), sentence
    assert "Traceback" not in sentence and sentence[-1] not in ".!"
    assert not re.match(r"(The|There|A|An|Another|No|Missing|Invalid|Got) ", sentence), sentence


def checkpoint_of(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()


def damage_images(store: Path, split: str) -> None:
    """Truncates the JPEGs of a split in the store's table."""
    metadata = json.loads((store / METADATA_FILE).read_text())
    bad = [range(d["start"], d["start"] + d["frames"]) for d in metadata["drives"] if d["split"] == split]
    table = lance.dataset(str(store / TABLE)).to_table()
    images = table.column("image").to_pylist()
    for row in (row for rows in bad for row in rows):
        images[row] = images[row][: len(images[row]) // 2]
    column = table.schema.get_field_index("image")
    table = table.set_column(column, table.schema.field(column), pa.array(images, pa.binary()))
    replace_table(store, table)


def replace_table(store: Path, table: pa.Table) -> None:
    """Replaces the rows of a store; its other metadata is unchanged."""
    metadata = json.loads((store / METADATA_FILE).read_text())
    written = lance.write_dataset(table, str(store / TABLE), mode="overwrite")
    (store / METADATA_FILE).write_text(json.dumps({**metadata, "table_version": written.version}))


def spoil(name: str, text: str | bytes | None) -> Callable[[Path], None]:
    """A function that replaces a file of a checkpoint; None truncates it."""

    def apply(folder: Path) -> None:
        data = text.encode() if isinstance(text, str) else text
        (folder / name).write_bytes((folder / name).read_bytes()[:500] if data is None else data)

    return apply


def refuses(call: Callable[[], object], below: Path) -> str:
    """The message of the UserError that `call` raises; checks that no files below `below` were added or removed."""
    before = sorted(below.rglob("*"))
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message[-1] not in ".!" and len(message) < 600
    assert not message.startswith(("The ", "There ", "A ", "Another "))
    assert sorted(below.rglob("*")) == before
    return message


def refused(dataset: str, tmp_path: Path, **more: object) -> str:
    """The message of the UserError raised by preparing `tmp_path`/raw."""
    settings = {"data_root": tmp_path / "raw", "output": tmp_path / "out" / "store", "workers": 1, **more}
    return refuses(lambda: prepare(dataset, image_size=(16, 16), **settings), tmp_path)
