"""Pages of one file that need no network: Jinja2 templates, and images and videos that are their own address."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def environment(package: str) -> Environment:
    """Of the `templates` of a package and of this one; what is put into a template is escaped."""
    loaders = ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, "daydrive.viz"))])
    made = Environment(loader=loaders, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    made.filters["data_uri"] = data_uri
    return made


def render(package: str, template: str, **values: Any) -> str:
    """The whole text of a page, or of a part of one."""
    return environment(package).get_template(template).render(**values)


def data_uri(data: bytes, media_type: str) -> Markup:
    """A file itself as an address."""
    return Markup(f"data:{media_type};base64,{base64.b64encode(data).decode()}")
