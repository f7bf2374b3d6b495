"""Probes of settings: the same observation for several values of one key, which must differ.

Every probe starts from the settings of `TINY_TRAINING` and `data.root`, the small store of road drives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daydrive.config import Config, ModelConfig, model_config_class
from daydrive.models.texture.config import TextureConfig

See = Callable[[Config], object]


class Probe(NamedTuple):
    """see: what to look at. values: of the key, as overrides are written; expected: what is seen at each, in the same
    order, None where no one can say beforehand. given: overrides that the probe needs besides. of: the key that is
    set, where that is a list of sections which the probed key lies in."""

    see: See
    values: Sequence[str]
    expected: Sequence[object] | None
    given: Sequence[str]
    of: str | None = None

    def check(self, key: str, load: Callable[[Sequence[str]], Config]) -> None:
        seen = [self.see(load([*self.given, f"{self.of or key}={value}"])) for value in self.values]
        assert len(seen) > 1
        for i, one in enumerate(seen):
            for other in seen[:i]:
                assert one != other, f"{key} changes nothing"
        if self.expected is not None:
            assert seen == list(self.expected)


def gives(see: See, expected: dict[str, object], *given: str, of: str | None = None) -> Probe:
    """Each value of the key gives exactly the expected observation."""
    return Probe(see, list(expected), list(expected.values()), given, of)


def differs(see: See, values: Sequence[str], *given: str) -> Probe:
    """Each value of the key gives a different observation."""
    return Probe(see, values, None, given)


def near(number: float) -> object:
    """Equal within a thousandth."""
    return pytest.approx(number, rel=1e-3)


def settings(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All keys, including those in lists of sections; of `model` those of the default architecture."""
    for name, field in model.model_fields.items():
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        sections = [TextureConfig if t is ModelConfig else t for t in inner if issubclass(t, BaseModel)]
        if sections:
            yield from settings(sections[0], f"{prefix}{name}.")
        else:
            yield prefix + name, field


def own_settings(architecture: str) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of `model` specific to this architecture, and `type`."""
    common = {name for name in ModelConfig.model_fields if name != "type"}
    for name, field in settings(model_config_class(architecture), "model."):
        if name.removeprefix("model.") not in common:
            yield name, field
