"""What pages of one file are made of: a template that is filled, and pictures and films that are their own address."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def filled(template: Path, parts: Mapping[str, str]) -> str:
    """The template with each @NAME@ replaced by the part of that name, which is HTML already."""
    return re.sub(f"@({'|'.join(parts)})@", lambda place: parts[place[1]], template.read_text(encoding="utf-8"))


def embedded_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def address(kind: str, data: bytes) -> str:
    """A file itself as an address; kind: its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
