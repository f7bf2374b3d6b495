"""Parsing of JSON in raw data sets."""

from __future__ import annotations

import json
from typing import Any

from daydrive.errors import UserError


def json_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object in `text`; raises UserError, naming `where`, for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: a {type(found).__name__}, expected a JSON object")
    return found
