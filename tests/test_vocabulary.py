"""Names in the source are standard terms of the field."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import REPO

SOURCE = REPO / "src/daydrive"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS = _names("""
    picture pictures film films figures told said dreamt foretold foreseen wish wishes floors rooms kept lean
    entrant entrants rival rivals strangers upkeep orphans handover lent chances wander readback dreaming faults
""")
"""Not allowed in any part of a name, such as `read_pictures` or `FilmWriter`."""

NAMES = _names("""
    Recomputing Team Setup Start Report Feed Watch Speed Slots Mix Order Fork Spread Look Ladder Memory Dream Subject
    Foreign Entrant Ours forget_gradients try_out in_company race alone largest sampler begin explain place enter leave
    grow overview paint fresh move fan room floor card verdict
""")
"""Not allowed as a whole name."""

MODULES = _names("""
    ranks faults checklist handover parts pieces space orphans sampler order mix balance looks leak choosing keeping
    measuring measured subject extras results horizon card verdict entrants rivals upkeep paint fan pictures floors
    figures
""")
"""Not allowed as the name of a module."""

ONE_MEANING = ("memory", "tables", "run", "report", "signals")
"""Names of exactly one module or package each."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def defined(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names of classes, functions, arguments, variables and attributes that the code defines, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, getattr(node, "lineno", 0)


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(SOURCE)))
def test_names_are_standard_terms(file: Path) -> None:
    found = [
        f"line {line}: {name}"
        for name, line in defined(ast.parse(file.read_text(encoding="utf-8")))
        if name.lstrip("_") in NAMES or words(name) & WORDS
    ]
    assert not found, found
    assert file.stem not in MODULES


def test_module_names_are_unambiguous() -> None:
    count = Counter(file.stem if file.stem != "__init__" else file.parent.name for file in modules())
    assert {name: count[name] for name in ONE_MEANING if count[name] > 1} == {}


def test_private_names_are_detected() -> None:
    tree = ast.parse("def read_pictures(said): alone = 1\nclass FilmWriter: pass\nself.floor = 2\nimport x as told")
    assert {name for name, _ in defined(tree)} == {"read_pictures", "FilmWriter", "told", "said", "alone", "floor"}
    assert words("FilmWriter") & WORDS and words("_read_pictures") & WORDS and not words("figure") & WORDS
