"""Plugins: named objects that daydrive has itself or that other packages register as entry points of a group.

    [project.entry-points."daydrive.models"]
    painter = "painter_model:Painter"           the name = module:object

Nothing is imported before it is requested by name; errors name the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from daydrive.errors import UserError, did_you_mean, errors_attributed_to


class Found(NamedTuple):
    """label: kind, name and package, for error messages. target: the object."""

    label: str
    target: Any


@dataclass(frozen=True)
class Plugins:
    """group: of the entry points. kind: what they are, for messages. built_in: daydrive's own, as `module:object`."""

    group: str
    kind: str
    built_in: Mapping[str, str]

    def names(self) -> list[str]:
        """All names, daydrive's own first; the installed packages are read at each call."""
        return [*self.built_in, *sorted({entry.name for entry in self._registered()} - self.built_in.keys())]

    def find(self, name: str) -> Found:
        """The object with a name. Raises UserError with the nearest name where there is none, where two packages
        register it, and where it cannot be loaded."""
        entries = [entry for entry in self._registered() if entry.name == name]
        if entries and name in self.built_in:
            raise UserError(
                f"the package '{_package(entries[0])}' registers a {self.kind} '{name}', which is the name of one "
                "of daydrive's own; rename its entry point or uninstall it"
            )
        if len(entries) > 1:
            raise UserError(
                f"the packages '{_package(entries[0])}' and '{_package(entries[1])}' both register a {self.kind} "
                f"'{name}'; uninstall one of them"
            )
        if entries:
            label = f"the {self.kind} '{name}' of the package '{_package(entries[0])}'"
            with errors_attributed_to(label):
                return Found(label, entries[0].load())
        if name not in self.built_in:
            raise UserError(f"there is no {self.kind} '{name}'{did_you_mean(name, self.names())}")
        module, _, attribute = self.built_in[name].partition(":")
        return Found(f"the {self.kind} '{name}'", getattr(import_module(module), attribute))

    def _registered(self) -> list[EntryPoint]:
        found: list[EntryPoint] = []
        for entry in entry_points(group=self.group):
            if entry not in found:
                found.append(entry)
        return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
