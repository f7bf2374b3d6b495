"""Environment variables of W&B as overrides of the corresponding settings."""

from __future__ import annotations

import json
from collections.abc import Mapping

from daydrive.errors import UserError, did_you_mean

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "dryrun": "offline", "run": "online"}
"""Values of WANDB_MODE; the last two are older names."""

TRUE = {"1", "true", "yes", "on"}


def wandb_overrides(environment: Mapping[str, str]) -> list[str]:
    """Overrides such as `logging.wandb_mode="offline"` for WANDB_MODE=offline; an empty variable counts as unset.

    WANDB_DISABLED takes precedence over WANDB_MODE. Raises UserError for an unknown mode.
    """
    settings = {"wandb_project": environment.get("WANDB_PROJECT"), "wandb_name": environment.get("WANDB_NAME")}
    mode = environment.get("WANDB_MODE")
    if environment.get("WANDB_DISABLED", "").lower() in TRUE:
        settings["wandb_mode"] = "disabled"
    elif mode:
        if mode not in MODES:
            raise UserError(f"WANDB_MODE={mode} in the environment is not a W&B mode{did_you_mean(mode, MODES)}")
        settings["wandb_mode"] = MODES[mode]
    return [f"logging.{name}={json.dumps(value)}" for name, value in settings.items() if value]
