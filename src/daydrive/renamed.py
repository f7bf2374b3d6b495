"""Renamed commands and flags: the old name works for this version, with a warning that names the new one."""

from __future__ import annotations

from collections.abc import Sequence

COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {("visualize", "fan"): ("visualize", "steering-sweep")}
FLAGS: dict[str, dict[str, str]] = {"evaluate": {"--card": "--controllability"}}
"""Old → new name of flags, by command."""


def current_names(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line with current names, and a warning for each replaced name.

    >>> current_names(["evaluate", "--card"])
    (['evaluate', '--controllability'], ['--card is now called --controllability'])
    """
    words, warnings = list(arguments), []
    for old, new in COMMANDS.items():
        if tuple(words[: len(old)]) == old:
            words[: len(old)] = new
            warnings.append(f"'{' '.join(old)}' is now called '{' '.join(new)}'")
    flags = FLAGS.get(words[0], {}) if words else {}
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in flags:
            words[i] = flags[name] + equals + value
            warnings.append(f"{name} is now called {flags[name]}")
    return words, warnings
