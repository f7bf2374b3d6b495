"""JSON that others wrote."""

from __future__ import annotations

import json
from typing import Any

from daydrive.errors import UserError


def json_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object in `text`; UserError naming `where` for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: a {type(found).__name__} where a JSON object belongs")
    return found
