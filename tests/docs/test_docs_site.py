"""The documentation site is built without warnings, loads no external resources, and is rendered correctly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

from helpers.guide import PAGES
from helpers.paths import REPO

LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src", "use": "href"}
"""Attributes with resources that browsers load automatically, by element."""


class Seen(HTMLParser):
    """The resources that a page loads, and the text of its paragraphs."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.paragraphs: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in LOADS and attributes.get("rel") != "canonical":
            self.loads.append(attributes.get(LOADS[tag]) or "")
        if tag == "p":
            self._inside = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strict mode: invalid links and anchors, and pages without a menu entry, fail the build."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(REPO / "mkdocs.yml"), site_dir=str(folder)))
    return folder


def seen(page: Path) -> Seen:
    parser = Seen()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_every_page_exists_and_loads_no_external_resources(site: Path) -> None:
    pages = {page.stem for page in (REPO / "docs").rglob("*.md")}
    assert pages <= {page.stem for page in site.rglob("*.html")}
    for page in site.rglob("*.html"):
        loads = seen(page).loads
        assert loads and not [place for place in loads if re.match(r"(\w+:)?//", place)], page.name
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\"']*", sheet.read_text(encoding="utf-8"))


def test_lists_and_tables_are_rendered(site: Path) -> None:
    """Without a blank line before them, Python-Markdown treats lists and tables as text."""
    for page in site.rglob("*.html"):
        loose = [text for text in seen(page).paragraphs if re.search(r"^(\||[-*] |\d+\. |```)", text, re.M)]
        assert not loose, f"{page.name}: {loose[0][:80]}"


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return (found[1] for found in re.finditer(r"\]\(([^)\s]+)\)", text))


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_are_valid_in_the_repository(page: Path) -> None:
    for target in links(page):
        file, _, anchor = target.partition("#")
        if not file.startswith(("https://", "http://")):
            place = page.parent / file if file else page
            assert place.exists(), target
            assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("file", sorted((REPO / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.name)
def test_issue_templates_are_valid_for_github(file: Path) -> None:
    template = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.name == "config.yml":
        assert template.keys() <= {"blank_issues_enabled", "contact_links"}
        return
    assert {"name", "description", "body"} <= template.keys()
    fields = template["body"]
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["type"] in ("textarea", "input", "checkboxes", "dropdown") and field["attributes"]["label"]
