"""Loading settings from YAML: `extends`, dotted overrides, and errors that name file, line and key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from daydrive.config.files import find_config
from daydrive.config.schema import (
    DEFAULT_ARCHITECTURE,
    Config,
    model_config_class,
)
from daydrive.errors import UserError, did_you_mean


class _Loader(yaml.SafeLoader):
    """Reads numbers as in YAML 1.2, such as `1e-4`."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)

OVERRIDE = "override "

Origin = dict[tuple[str, ...], str]
"""Origin of each key: `file:line`, or the override."""


def load_config(config: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and everything it `extends`, then apply overrides such as `optimizer.lr=3e-4`.

    config: a path, or the name of one of daydrive's own configs, see `find_config`. Raises UserError with file, line
    and key.
    """
    origin: Origin = {}
    path = find_config(config)
    values = _read(path, origin, ())
    for override in overrides:
        _override(values, override, origin)
    return parse_config(values, origin, str(path))


def parse_config(values: dict[str, Any], origin: Origin | None = None, source: str = "config") -> Config:
    """Validate a tree of plain values. source: named in errors for keys that are not in `origin`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(_error_message(error, values, origin or {}, source)) from None


def as_tree(config: Config) -> dict[str, Any]:
    """The resolved settings as plain values, which `parse_config` can read."""
    tree: dict[str, Any] = config.model_dump(mode="json")
    return tree


def _read(path: Path, origin: Origin, chain: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in chain:
        loop = " → ".join(str(p.name) for p in (*chain[chain.index(resolved) :], resolved))
        raise UserError(f"{path}: 'extends' is circular: {loop}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError) as error:  # an invalid date; too many brackets
        raise UserError(f"{path}: not valid YAML: {error}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(f"{path}:1: a config holds sections such as 'training:', not a {type(values).__name__}")

    parents = values.pop("extends", [])
    if isinstance(parents, str):
        parents = [parents]
    if not (isinstance(parents, list) and all(isinstance(p, str) for p in parents)):
        raise UserError(f"{path}: 'extends' must be a file, the name of a config, or a list of them")
    merged: dict[str, Any] = {}
    for parent in parents:
        merged = _merge(merged, _read(_extended(path, parent), origin, (*chain, resolved)))
    _record_lines(node, (), path, origin)
    return _merge(merged, values)


def _extended(path: Path, parent: str) -> Path:
    """The file that `path` extends: relative to its folder, or one that `find_config` finds."""
    beside = path.parent / parent
    if beside.is_file():
        return beside
    try:
        return find_config(parent)
    except UserError as error:
        raise UserError(f"{path}: 'extends' names {parent}, but there is no {beside}, and {error}") from None


def _merge(base: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Merge `new` into `base`, section by section."""
    merged = dict(base)
    for key, value in new.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _record_lines(node: yaml.Node | None, prefix: tuple[str, ...], path: Path, origin: Origin) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        full_key = (*prefix, str(key.value))
        if full_key in seen:
            raise UserError(f"{path}:{key.start_mark.line + 1}: '{'.'.join(full_key)}' is set twice")
        seen.add(full_key)
        origin[full_key] = f"{path}:{key.start_mark.line + 1}"
        _record_lines(value, full_key, path, origin)


def _override(values: dict[str, Any], override: str, origin: Origin) -> None:
    key, equals, text = override.partition("=")
    keys = tuple(key.split("."))
    if not equals or not all(keys):
        raise UserError(f"override '{override}' must look like section.key=value, as in optimizer.lr=3e-4")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"override '{override}': '{text}' is not a YAML value") from None
    section, where = values, f"{OVERRIDE}{override}"
    for depth, part in enumerate(keys[:-1], start=1):
        inner = section.get(part)
        if not isinstance(inner, dict):
            origin[keys[:depth]] = where
        section[part] = dict(inner) if isinstance(inner, dict) else {}
        section = section[part]
    section[keys[-1]] = value
    origin[keys] = where


def _error_message(error: ValidationError, values: dict[str, Any], origin: Origin, source: str) -> str:
    """The first problem, in one sentence."""
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    keys = tuple(str(part) for part in problem["loc"] if not isinstance(part, int))
    indexed = ".".join(str(part) for part in problem["loc"])
    where = next((origin[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in origin), source)
    if problem["type"] == "extra_forbidden":
        siblings = _known_keys(keys[:-1], values)
        prefix = ".".join(keys[:-1])
        known = [f"{prefix}.{name}" if prefix else name for name in siblings]
        hint = _other_model(keys, where, origin) or did_you_mean(".".join(keys), known)
        return f"{where}: unknown key '{indexed}'{hint}"
    if problem["type"] == "value_error":
        text = str(problem["msg"]).removeprefix("Value error, ")
        overrides = [made for key, made in origin.items() if made.startswith(OVERRIDE) and ".".join(key) in text]
        return f"{overrides[-1] if overrides else where}: {text}"
    given = problem["input"]
    shown = f" (given: {given!r})" if not isinstance(given, dict) else ""
    message = str(problem["msg"])
    if problem["type"] == "model_type":
        message = "must be a section with keys"
    return f"{where}: '{indexed}': {message[0].lower()}{message[1:]}{shown}"


def _other_model(keys: Sequence[str], where: str, origin: Origin) -> str:
    """The end of a message about a key of a file that is unknown because an override chose another architecture."""
    chosen = origin.get(("model", "type"), "")
    if keys[:1] != ("model",) or not chosen.startswith(OVERRIDE) or where.startswith(OVERRIDE):
        return ""
    return f"; {chosen} chose an architecture without it, which needs a config of its own"


def _known_keys(path: Sequence[str], values: dict[str, Any]) -> list[str]:
    """The keys of the section at `path`; `values` determine the model's architecture."""
    section: type[BaseModel] = Config
    if path[:1] == ("model",):
        section, path = model_config_class(values["model"].get("type", DEFAULT_ARCHITECTURE)), path[1:]
    for part in path:
        field = section.model_fields.get(part)
        if field is None:
            return []
        found = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        models = [t for t in found if issubclass(t, BaseModel)]
        if not models:
            return []
        section = models[0]
    return list(section.model_fields)
