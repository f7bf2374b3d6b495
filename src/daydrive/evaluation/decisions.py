"""The results of `daydrive plan`, `learn-policy` and `rank` in the report of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from daydrive.errors import UserError
from daydrive.files import read_json

Share = Annotated[float, Field(ge=0, le=1)]
Coefficient = Annotated[float, Field(ge=-1, le=1)]
Amount = Annotated[float, Field(ge=0)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)] | None
"""95 % over roads; None for a single road."""


def _with(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(entries: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in names if name not in entries]
        if missing:
            raise ValueError(f"there is no '{missing[0]}'")
        return entries

    return check


class Results(BaseModel):
    """checkpoint: name or path of the model, at a training step."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
    checkpoint: str
    training_step: int | None = None


class PlannedDriver(BaseModel):
    """lane_error: m; speed_error: m/s."""

    model_config = ConfigDict(allow_inf_nan=False)
    lane_share: Share
    lane_share_interval: Interval
    off_road_share: Share
    lane_error: Amount
    speed_error: Amount
    ms_per_decision: Amount


Planned = Annotated[dict[str, PlannedDriver], AfterValidator(_with("world_model", "simulator"))]


class PlanResults(Results):
    """roads: their number; seconds: on each; by_target_speed: m/s → the drivers at it."""

    roads: int
    seconds: float
    drivers: Planned
    by_target_speed: dict[str, Planned]


class Recovered(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    share: Share
    interval: Interval


class Minutes(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    cpu: Amount


class LearnedPolicy(BaseModel):
    """recovered_share: of all displaced starts; recovered: by displacement; speed: m/s."""

    model_config = ConfigDict(allow_inf_nan=False)
    lane_share: Share
    lane_share_interval: Interval
    speed: float
    recovered_share: Share
    recovered_share_interval: Interval
    recovered: dict[str, Recovered]
    minutes: Minutes


class PolicyResults(Results):
    """roads, seeds: those that were driven on, and learned with."""

    roads: list[int]
    seeds: list[int]
    policies: Annotated[dict[str, LearnedPolicy], AfterValidator(_with("world_model", "cloning"))]


class Scores(BaseModel):
    """Mean distance from the middle of the lane, m: read from predicted frames, and the true one."""

    model_config = ConfigDict(allow_inf_nan=False)
    model: Amount
    simulator: Amount


class Seed(BaseModel):
    seed: int
    spearman: Coefficient


class Ranking(BaseModel):
    """cheat_spearman: of the model with other actions than the drivers'; lane_error: of each driver."""

    model_config = ConfigDict(allow_inf_nan=False)
    spearman: Coefficient
    spearman_interval: Interval
    kendall: Coefficient
    kendall_interval: Interval
    cheat_spearman: Coefficient
    by_seed: list[Seed]
    lane_error: Annotated[dict[str, Scores], Field(min_length=2)]


class RankResults(Results):
    """roads: their number; horizons: seconds → the ranking over them; main_horizon: one of them."""

    roads: int
    main_horizon: str
    horizons: dict[str, Ranking]

    @model_validator(mode="after")
    def _check_horizon(self) -> RankResults:
        if self.main_horizon not in self.horizons:
            raise ValueError(f"there is no horizon '{self.main_horizon}'")
        return self


COMMANDS: dict[str, type[Results]] = {"plan": PlanResults, "learn-policy": PolicyResults, "rank": RankResults}
FILES = {"plan.json": "plan", "policy.json": "learn-policy", "rank.json": "rank"}
"""The command that writes each file."""


def read_decisions(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The results in folders that the commands wrote: `command`, `folder` and `results` of each.

    Raises UserError if a folder has none of `FILES`, or one that is something else.
    """
    return [entry for folder in folders for entry in _read_folder(folder)]


def _read_folder(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        raise UserError(f"--decisions {folder}: there is no such folder; give one of plan, learn-policy or rank")
    found = [
        {"command": command, "folder": str(folder), "results": _read(folder, folder / name, command)}
        for name, command in FILES.items()
        if (folder / name).is_file()
    ]
    if not found:
        names = ", ".join(FILES)
        raise UserError(f"--decisions {folder}: none of {names} is there; give a folder of plan, learn-policy or rank")
    return found


def _read(folder: Path, file: Path, command: str) -> dict[str, Any]:
    try:
        results = COMMANDS[command].model_validate(read_json(file, f"result of `daydrive {command}`"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".!")
        raise UserError(
            f"--decisions {folder}: {file.name} is not the result of `daydrive {command}` ({where}: "
            f"{reason[0].lower()}{reason[1:]})"
        ) from None
    return results.model_dump(mode="json")
