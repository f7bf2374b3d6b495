"""The HTML report: its content, and its behaviour in a browser."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from daydrive.evaluation.controllability import egomotion
from daydrive.viz.svg import Chart, Curve, chart_html
from helpers.chromium import BINARY, Chromium
from helpers.planted_predictions import evaluated, scene_store, steerer

WIDTHS = (390, 1280)
THEMES = ("light", "dark")


class Page(HTMLParser):
    """tags: with their attributes; text: contents by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        self.text.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text[self._open[-1]][-1] += data

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def given(self, *tags: str) -> list[dict[str, str | None]]:
        return [given for tag, given in self.tags if tag in tags]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """An evaluation with all optional suites that the store supports, and its folder."""
    folder = tmp_path_factory.mktemp("page")
    about = {"name": "a <steerer> & co"}
    store, output = scene_store(folder), folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(egomotion, "CLIPS", 20)
        options = {"controllability": True, "long": True, "samples": 2, "sample_fn": noisy_steerer, "about": about}
        return evaluated(steerer, store, output, **options), output


def noisy_steerer(context: Tensor, actions: Tensor, seeds: Sequence[int] | None) -> Tensor:
    """Adds brightness by seed."""
    frames = steerer(context, actions)
    return frames if seeds is None else frames + torch.tensor(seeds).remainder(9).view(-1, 1, 1, 1, 1).byte()


@pytest.fixture(scope="module")
def file(evaluation: tuple[dict[str, Any], Path]) -> Path:
    return evaluation[1] / "report.html"


@pytest.fixture(scope="module")
def page(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def test_page_is_self_contained(file: Path, page: Page) -> None:
    assert "http://" not in file.read_text() and "https://" not in file.read_text()
    addresses = [value for _, given in page.tags for name, value in given.items() if name in ("src", "href", "poster")]
    assert len(addresses) > 8 and all((address or "").startswith(("data:", "#")) for address in addresses)
    assert "<steerer>" not in file.read_text()


def test_page_is_accessible_to_screen_readers(page: Page) -> None:
    assert all(given.get("alt") for given in page.given("img")) and len(page.given("img")) >= 4
    assert all(given.get("aria-label") for given in page.given("video"))
    assert all(given.get("scope") in ("col", "row") for given in page.given("th"))
    scrolled = [given for given in page.given("div") if given.get("class") == "scroll"]
    assert all(given.get("tabindex") == "0" and given.get("aria-label") for given in scrolled)
    names = Counter(given["id"] for _, given in page.tags if "id" in given)
    assert max(names.values()) == 1
    links = [str(given["href"])[1:] for given in page.given("a")]
    assert links == [given["id"] for given in page.given("section")] and set(links) <= names.keys()
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert page.given("html")[0]["lang"] == "en" and page.text["title"] == ["a <steerer> & co"]


def test_page_shows_the_measured_values(page: Page, evaluation: tuple[dict[str, Any], Path]) -> None:
    metrics = evaluation[0]
    titles = page.text["h2"]
    for title in (
        "Prediction accuracy", "Real, predicted, difference", "Worst clips", "Controllability", "Memorization",
        "Sampled futures", "Long rollouts", "Metrics by kind of clip", "Provenance",
    ):  # fmt: skip
        assert title in titles
    ends = metrics["long_dreams"]["lengths"][-1]["verdict"]
    seconds = [f"{metrics[name]:.2f}" for name in ("usable_seconds", "realistic_seconds")]
    assert page.text["strong"][:4] == [*seconds, metrics["controllability"]["verdict"], ends]
    kinds = {cell.partition(":")[0] for cell in page.text["th"] if ": " in cell}
    assert kinds == {"steering", "speed", "light", "source", "drive"}
    data = json.loads(next(text for text in page.text["script"] if text.startswith("{")))
    psnr = data["charts"][0]
    assert psnr["curves"][0] == [entry["psnr"] for entry in metrics["horizons"]]
    assert psnr["steps"] == [entry["step"] for entry in metrics["horizons"]]
    assert data["charts"][-4]["curves"][3] == [entry["best_psnr"] for entry in metrics["samples"]["horizons"]]
    assert data["charts"][-3]["curves"][0] == [entry["spread"] for entry in metrics["samples"]["horizons"]]
    assert data["charts"][-2]["steps"] == metrics["long_dreams"]["curves"]["steps"]
    assert data["charts"][-1]["steps"] == [10, 20, 50, 100, 200, 400, 600]
    sliders = [given for given in page.given("div") if given.get("role") == "slider"]
    assert len(sliders) == len(data["charts"])


def test_axes_have_round_ticks_and_curves_have_gaps() -> None:
    drawn = chart_html(Chart("x", [1, 2, 3], [Curve("a", [20.13, None, 33.9], [None, None, [33, 35]])]))
    assert re.findall(r'class="y"[^>]*>([^<]*)<', drawn) == ["20", "25", "30", "35"]
    assert re.findall(r'class="x"[^>]*>([^<]*)<', drawn) == ["1", "2", "3"]
    flat = chart_html(Chart("x", [1], [Curve("a", [1.0])], 1.0))
    assert "NaN" not in flat and re.findall(r'class="y"[^>]*>([^<]*)<', flat)
    assert "M" in chart_html(Chart("x", [1, 2], [Curve("a", [None, None])]))


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    pairs = [c * 2 for c in digits] if len(digits) == 3 else [digits[i : i + 2] for i in (0, 2, 4)]
    shares = [int(pair, 16) / 255 for pair in pairs]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2.2."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_contrast_is_sufficient(file: Path, theme: str) -> None:
    """4.5 to 1 for text, 3 to 1 for lines: level AA."""
    light, dark = re.findall(r":root \{(.*?)\}", file.read_text(), re.S)[:2]
    colours = dict(re.findall(r"--(\w+): (#\w+)", light if theme == "light" else dark))
    for ground in ("paper", "card"):
        assert all(contrast(colours[ink], colours[ground]) >= 4.5 for ink in ("ink", "faint"))
        assert all(contrast(colours[f"c{i}"], colours[ground]) >= 3.0 for i in range(6))
    assert contrast(colours["c0"], colours["paper"]) >= 4.5


@pytest.fixture(scope="module")
def browser(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if BINARY is None:
        pytest.skip("no Chromium on this machine")
    with Chromium(tmp_path_factory.mktemp("profile")) as opened:
        opened.look(1280)
        opened.open(file)
        yield opened


def test_page_opens_without_errors_and_requests(browser: Chromium) -> None:
    assert browser.complaints == []
    assert all(address.startswith(("file:", "data:")) for address in browser.asked)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_layout_on_phone_and_desktop_in_light_and_dark(browser: Chromium, width: int, theme: str) -> None:
    browser.look(width, dark=theme == "dark")
    assert browser.value("document.documentElement.scrollWidth") <= width
    levels = re.findall(r"\d+", browser.value("getComputedStyle(document.body).backgroundColor"))
    assert (int(levels[0]) < 60) == (theme == "dark")
    assert browser.value("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    small = browser.value("[...document.querySelectorAll('button, nav a')].filter(b => b.offsetHeight < 18).length")
    assert small == 0


def test_videos_play(browser: Chromium) -> None:
    browser.wait("[...document.querySelectorAll('video')].every(v => v.readyState >= 2)")
    assert browser.value("[...document.querySelectorAll('video')].every(v => v.error === null && v.videoWidth > 0)")
    browser.value("document.querySelector('video').play()")
    browser.wait("document.querySelector('video').currentTime > 0.1")
    browser.value("[...document.querySelectorAll('button')].find(b => b.textContent === 'previous frame').click()")
    assert browser.value("document.querySelector('video').paused")
    browser.wait("document.querySelector('video').currentTime > 0")
    assert (
        browser.value("[...document.querySelectorAll('button')].filter(b => /^clip/.test(b.textContent)).length") == 3
    )
    assert browser.value("[...document.querySelectorAll('video')].every(v => !v.controls)")
    browser.value("document.querySelector('video').currentTime = 1")
    browser.wait("document.querySelector('input[type=range]').value > 0.5")
    browser.value("document.querySelector('input[type=range]').focus()")
    browser.press("Home")
    browser.wait("document.querySelector('video').currentTime === 0")


def test_curves_are_keyboard_accessible(browser: Chromium) -> None:
    browser.look(1280)
    browser.value("document.querySelector('nav a').focus()")
    for _ in range(20):
        browser.press("Tab")
        if browser.value("document.activeElement.className") == "chart":
            break
    now = "document.activeElement.getAttribute('aria-valuenow')"
    last = int(browser.value(now))
    browser.press("ArrowLeft")
    assert int(browser.value(now)) == last - 1
    browser.press("Home")
    assert int(browser.value(now)) == 1
    assert "model" in browser.value("document.activeElement.getAttribute('aria-valuetext')")
    assert browser.complaints == []
