"""Self-contained HTML pages: Jinja2 templates with images and videos embedded as data URIs."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def environment(package: str) -> Environment:
    """The Jinja2 environment for the `templates` folders of a package and of `daydrive.viz`, with autoescaping."""
    loaders = ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, "daydrive.viz"))])
    made = Environment(loader=loaders, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    made.filters["data_uri"] = data_uri
    return made


def render(package: str, template: str, **values: Any) -> str:
    """The text of a rendered template: a page or a part of one."""
    return environment(package).get_template(template).render(**values)


def data_uri(data: bytes, media_type: str) -> Markup:
    """The contents of a file as a `data:` URI."""
    return Markup(f"data:{media_type};base64,{base64.b64encode(data).decode()}")
