"""The configs that are part of daydrive, and finding config files by path or name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from daydrive.errors import UserError, did_you_mean
from daydrive.files import write_text

FOLDER = Path(str(files("daydrive"))) / "configs"
PREFIX, SUFFIX = "configs", ".yaml"


def config_names() -> list[str]:
    """The names of daydrive's own configs, such as `training/base`, sorted."""
    return sorted(str(file.relative_to(FOLDER).with_suffix("").as_posix()) for file in FOLDER.rglob(f"*{SUFFIX}"))


def find_config(config: str | Path) -> Path:
    """The config file with a path or name.

    An existing path is used directly. Otherwise it is a name as in `config_names`, by itself or written as
    `configs/NAME.yaml`; `training/` may be left out.

    >>> find_config("demo").name
    'demo.yaml'

    Raises UserError with the nearest name where there is no such file.
    """
    path = Path(config)
    if path.is_file():
        return path
    named = path.relative_to(PREFIX).with_suffix("") if path.parts[:1] == (PREFIX,) else path
    if not path.is_absolute() and ".." not in path.parts:
        for name in (named, Path("training") / named):
            file = FOLDER / f"{name}{SUFFIX}"
            if file.is_file():
                return file
    if path.is_dir():
        raise UserError(f"{path} cannot be read: it is a folder")
    raise UserError(f"there is no config file {path}{_nearest(path, named)}")


def describe(name: str) -> str:
    """The first line of a config's comment, its description."""
    first = (FOLDER / f"{name}{SUFFIX}").read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip().rstrip(":.") if first.startswith("#") else ""


def copy_config(name: str, destination: Path | None = None) -> Path:
    """Copy a config and return the copy's path: its own name in this folder, or `destination`, a `.yaml` file or a
    folder.

    Configs that it extends are written by name, so that the copy works anywhere. Raises UserError for an unknown
    name, and where the file exists.
    """
    source = FOLDER / f"{name}{SUFFIX}"
    source = source if source.is_file() else find_config(name)
    target = destination or Path(source.name)
    target = target if target.suffix == SUFFIX else target / source.name
    if target.exists():
        raise UserError(f"{target} already exists; choose another destination")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, "".join(_with_names(source)))
    return target


def _with_names(source: Path) -> Iterator[str]:
    """The lines of a config, with the relative paths that it extends replaced by names."""
    for line in source.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("extends:"):
            yield re.sub(r"[\w./-]+\.yaml", lambda found: _name_of(source.parent / found[0]), line)
        else:
            yield line


def _name_of(file: Path) -> str:
    resolved = file.resolve()
    own = resolved.is_relative_to(FOLDER.resolve())
    return resolved.relative_to(FOLDER.resolve()).with_suffix("").as_posix() if own else str(resolved)


def _nearest(path: Path, named: Path) -> str:
    if path.suffix and path.parent.is_dir() and any(path.parent.glob(f"*{SUFFIX}")):
        return did_you_mean(path.name, (file.name for file in path.parent.glob(f"*{SUFFIX}")))
    names = config_names()
    short = {name.removeprefix("training/") for name in names}
    near = did_you_mean(str(named), {*names, *short})
    return near if "did you mean" in near else "; `daydrive configs` lists daydrive's own"
