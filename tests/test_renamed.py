"""Old names of commands and flags work, with a warning that names the new one."""

from __future__ import annotations

import sys

import pytest

from daydrive import cli
from daydrive.renamed import COMMANDS, FLAGS, current_names

OLD = [([*old], [*new]) for old, new in COMMANDS.items()]
OLD += [([*command, old], [*command, new]) for command, flags in FLAGS.items() for old, new in flags.items()]


@pytest.mark.parametrize(("old", "new"), OLD, ids=lambda words: " ".join(words))
def test_old_names_are_accepted(
    old: list[str], new: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words, warnings = current_names([*old, "--output", "x"])
    assert words == [*new, "--output", "x"] and len(warnings) == 1 and new[-1] in warnings[0]
    monkeypatch.setattr(sys, "argv", ["daydrive", *old, "8", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert ended.value.code == 0 and err.startswith("warning: ") and new[-1] in err and out.strip()


def test_new_names_give_no_warning() -> None:
    for _, new in OLD:
        assert current_names(new) == (new, [])
    assert current_names([]) == ([], [])
    assert current_names(["train", "--card"]) == (["train", "--card"], [])
