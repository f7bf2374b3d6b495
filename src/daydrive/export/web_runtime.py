"""onnxruntime-web, which runs a model in a browser: two files of its npm package, in a pinned version.

daydrive downloads nothing: `npm pack` does, into the current folder.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from daydrive.errors import UserError

VERSION = "1.30.0"
COMMAND = f"npm pack onnxruntime-web@{VERSION}"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"


class RuntimeFile(NamedTuple):
    """name: in the exported folder, with a suffix that every static host serves as JavaScript or WebAssembly."""

    packed_name: str
    name: str
    sha256: str


FILES = (
    RuntimeFile(
        "ort.wasm.bundle.min.mjs",
        "onnxruntime-web.js",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    RuntimeFile(
        "ort-wasm-simd-threaded.wasm",
        "ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
)


def read_runtime(path: Path | None) -> dict[str, bytes]:
    """The runtime's files by their name in the exported folder.

    path: the archive that `COMMAND` writes, by default in the current folder, or the folder of the unpacked or
    installed package. Raises UserError with the command if it is missing or of another version.
    """
    source = path or Path(ARCHIVE)
    if not source.exists():
        where = "in this folder" if path is None else f"at {path}"
        raise UserError(
            f"there is no onnxruntime-web {where}, which runs the model in a browser; `{COMMAND}` downloads {ARCHIVE} "
            "into the current folder, --runtime names another place"
        )
    try:
        return _from_folder(source) if source.is_dir() else _from_archive(source)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f"{source} cannot be read as a package of npm ({error}); make it with `{COMMAND}`") from error


def _from_folder(folder: Path) -> dict[str, bytes]:
    return _checked(folder, lambda name: _read_first(folder, name))


def _read_first(folder: Path, name: str) -> bytes | None:
    places = (folder / part / name for part in ("dist", "package/dist", ""))
    return next((candidate.read_bytes() for candidate in places if candidate.is_file()), None)


def _from_archive(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        members = set(archive.getnames())

        def read(name: str) -> bytes | None:
            member = f"package/dist/{name}"
            opened = archive.extractfile(member) if member in members else None
            return None if opened is None else opened.read()

        return _checked(file, read)


def _checked(source: Path, read: Callable[[str], bytes | None]) -> dict[str, bytes]:
    found = {}
    for file in FILES:
        data = read(file.packed_name)
        if data is None:
            raise UserError(f"{source} has no dist/{file.packed_name}; make it with `{COMMAND}`")
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise UserError(
                f"dist/{file.packed_name} in {source} is not that of version {VERSION}; make it with `{COMMAND}`"
            )
        found[file.name] = data
    return found
