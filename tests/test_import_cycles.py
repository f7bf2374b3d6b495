"""No import cycles between modules, including imports inside functions and for type checking only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import pytest


def cycle_in(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """A cycle in a graph of modules and what they import, as a list of modules; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_cycles() -> None:
    grimp = pytest.importorskip("grimp", reason="comes with import-linter, see the extra `dev`")
    graph = grimp.build_graph("daydrive", cache_dir=None)
    assert len(graph.modules) > 200
    assert cycle_in({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []


def test_cycle_is_detected() -> None:
    assert cycle_in({"a": ["b"], "b": ["c"], "c": []}) == []
    assert set(cycle_in({"a": ["b"], "b": ["c"], "c": ["a"]})) == {"a", "b", "c"}
