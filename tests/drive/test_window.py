"""The page in a browser: keys, pedals and touch drive; moments, rewinding, recording, side by side; a phone."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.drive.scenario import PACKAGED, Scenario, load_scenario
from daydrive.errors import UserError
from daydrive.evaluation.controllability.flow import MOTIONS, motions, to_grey
from helpers.chromium import BINARY, Chromium
from helpers.driving import road_scenario, serving

pytestmark = pytest.mark.skipif(BINARY is None, reason="no Chromium on this machine")

COLLECT = """(() => {
    window.collected = new Map();
    const keep = () => collected.set(document.body.dataset.step, document.querySelector('#views canvas').toDataURL());
    new MutationObserver(keep).observe(document.body, {attributes: true, attributeFilter: ['data-step']});
})()"""
"""Keeps the visible image of every step."""


@pytest.fixture(scope="module", params=["road simulator", pytest.param("packaged weights", marks=pytest.mark.slow)])
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    output = tmp_path_factory.mktemp("recorded")
    if request.param == "road simulator":
        return road_scenario(output)
    try:
        return load_scenario([PACKAGED], None, output, device=torch.device("cpu"))
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def window(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with serving(scenario) as address, Chromium(tmp_path_factory.mktemp("chromium")) as page:
        page.look(1300)
        page.visit(f"http://{address}/")
        page.wait("document.body.dataset.step === '0'")
        page.value(COLLECT)
        yield page
        assert page.complaints == []
        assert all(url.startswith((f"http://{address}/", f"ws://{address}/", "data:", "blob:")) for url in page.asked)


@pytest.fixture(autouse=True)
def standing_at_the_moment(window: Chromium) -> None:
    window.look(1300)
    restart(window)


def restart(window: Chromium) -> None:
    """Pause, and return to the moment."""
    if pressed(window, "pause") != "true":
        window.press(".")
        window.wait("document.querySelector('[data-command=pause]').ariaPressed === 'true'")
    window.press("Enter")
    window.wait("document.body.dataset.step === '0'")


def pressed(window: Chromium, command: str) -> Any:
    return window.value(f"document.querySelector('[data-command={command}]').ariaPressed")


def text(window: Chromium, name: str) -> str:
    return str(window.value(f"document.getElementById('{name}').textContent"))


def click(window: Chromium, selector: str) -> None:
    window.value(f"document.querySelector('{selector}').click()")


def step(window: Chromium) -> int:
    return int(window.value("document.body.dataset.step"))


def driven(window: Chromium, steps: int, *keys: str) -> np.ndarray:
    """Hold keys for some steps; the motions between the images that were visible, (N, 3) in the order of `MOTIONS`."""
    window.value("collected.clear()")
    last = step(window) + steps
    for key in keys:
        window.hold(key)
    window.wait(f"document.body.dataset.step >= {last}")
    found = window.value("[...collected.values()]")
    for key in keys:
        window.release(key)
    images = [cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), 1) for url in found]
    return motions(to_grey(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)))


def test_steering_turns_the_image(window: Chromium) -> None:
    turn = MOTIONS.index("turn")
    right = driven(window, 30, "w", "d")[:, turn].mean()
    restart(window)
    left = driven(window, 30, "w", "a")[:, turn].mean()
    assert right - left > 1.0


def test_pedals_change_the_speed_of_the_image(window: Chromium) -> None:
    approach = MOTIONS.index("approach")
    fast = driven(window, 20, "w")[-8:, approach].mean()
    slow = driven(window, 35, "s")[-8:, approach].mean()
    assert slow < 0.6 * fast


def test_moments_are_picked_from_thumbnails(window: Chromium) -> None:
    window.wait("[...document.querySelectorAll('#thumbnails img')].every((image) => image.naturalWidth)")
    before = window.value("document.querySelector('#views canvas').toDataURL()")
    click(window, "#thumbnails button:nth-child(5)")
    window.wait("document.querySelector('#thumbnails button:nth-child(5)').ariaPressed === 'true'")
    window.wait(f"document.querySelector('#views canvas').toDataURL() !== {json.dumps(before)}")
    click(window, "#thumbnails button:first-child")
    window.wait("document.querySelector('#thumbnails button:first-child').ariaPressed === 'true'")


def test_figures_are_shown(window: Chromium) -> None:
    for _ in range(6):
        driven(window, 2, "d")
    window.wait("!document.getElementById('latency-p95').textContent.includes('–')")
    for name in ("model-ms", "latency-p50", "latency-p95"):
        assert re.fullmatch(r"[\d.]+ ms", text(window, name)), name
    assert 0 < float(text(window, "rate")) < 12 and text(window, "dropped").isdigit()


def test_rewinding_and_taking_another_way(window: Chromium) -> None:
    driven(window, 15, "w")
    window.press(".")
    window.wait("document.querySelector('[data-command=pause]').ariaPressed === 'true'")
    last, before = step(window), -1
    while last != before:  # frames that were under way when the drive paused
        time.sleep(0.5)
        before, last = last, step(window)
    assert window.value("document.getElementById('slider').valueAsNumber") == last >= 15
    window.value("document.getElementById('slider').focus()")
    for _ in range(3):
        window.press("ArrowLeft")
    window.wait(f"document.body.dataset.step === '{last - 3}'")
    window.press("Home")
    window.wait("document.body.dataset.step === '0'")
    window.value("document.activeElement.blur()")
    driven(window, 4, "d")
    assert step(window) < last


def test_single_steps_and_pace(window: Chromium) -> None:
    for number in (1, 2):
        window.press("e")
        window.wait(f"document.body.dataset.step === '{number}'")
    window.press("-")
    window.wait("document.getElementById('pace').value === '0.5'")
    window.value("document.getElementById('pace').value = '1'")
    window.value("document.getElementById('pace').dispatchEvent(new Event('change'))")
    window.wait("document.getElementById('status').textContent === 'you drive, paused'")


def test_recorded_driver_hands_over(window: Chromium) -> None:
    assert not window.value("document.querySelector('[data-part=ghost-wheel]').hasAttribute('hidden')")
    window.press("m")
    window.wait("document.getElementById('status').textContent.includes('the recorded driver drives')")
    window.press(".")
    window.wait("document.body.dataset.step > 4")
    window.hold("w")
    window.wait("document.getElementById('status').textContent === 'you drive'")
    window.release("w")
    window.press("g")
    assert window.value("document.querySelector('[data-part=ghost-wheel]').hasAttribute('hidden')")
    window.press("g")


def test_recorded_drive_becomes_a_store(window: Chromium, scenario: Scenario, tmp_path: Path) -> None:
    for key in ("a", "d", "w"):
        window.press("r")
        window.wait("document.querySelector('[data-command=record]').ariaPressed === 'true'")
        driven(window, 12, "w", key)
        window.press("r")
        window.wait("document.getElementById('status').textContent.includes('frames recorded')")
    store = Store.open(prepare("folder", scenario.output, tmp_path / "store", scenario.moments.image_size, workers=1))
    steering = [store.read_actions(range(drive.start, drive.start + drive.frames))[:, 0] for drive in store.drives]
    means = [float(values.mean()) for values in steering]
    assert sorted(0 if abs(mean) < 0.1 else math.copysign(1, mean) for mean in means) == [-1, 0, 1]


def test_left_and_right_are_shown_while_the_key_is_held(window: Chromium) -> None:
    window.hold("v")
    window.wait("!document.getElementById('preview').hidden")
    pair = window.value("[...document.querySelectorAll('#preview canvas')].map((canvas) => canvas.toDataURL())")
    assert pair[0] != pair[1]
    window.release("v")
    window.wait("document.getElementById('preview').hidden")


def test_true_simulator_beside_the_model(window: Chromium, scenario: Scenario) -> None:
    if not scenario.models:
        assert window.value("document.querySelector('[data-command=reference]').disabled")
        return
    window.press("c")
    window.wait("document.querySelectorAll('#views figure').length === 2")
    window.press("x")
    driven(window, 10, "w")
    window.wait("document.querySelectorAll('#views figure').length === 3")
    assert float(text(window, "psnr").removesuffix(" dB")) > 15
    window.press("x")
    window.press("c")
    driven(window, 3, "w")
    window.wait("document.querySelectorAll('#views figure').length === 1")


def test_phone_is_driven_by_touch(window: Chromium) -> None:
    window.look(390, 844)
    assert window.value("document.documentElement.scrollWidth") <= 390
    place = "const {{x, y, width, height}} = document.querySelector('[data-control={0}]').getBoundingClientRect();"
    middle = "(() => {{" + place + "return [x + {1} * width, y + height / 2]}})()"
    pad = window.value(middle.format("steer", 0.85))
    pedal = window.value(middle.format("forward", 0.5))
    assert 0 < pedal[1] < 844 and 0 < pad[1] < 844
    points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate((pad, pedal))]
    window.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
    window.wait("document.body.dataset.step > 4")
    summary = window.value("document.querySelector('[data-part=summary]').textContent")
    window.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    steering, throttle = (int(value) for value in re.findall(r"(-?\d+) %", summary)[:2])
    assert steering > 50 and throttle > 50
    sizes = window.value("[...document.querySelectorAll('button:not([hidden])')].map((b) => b.offsetHeight)")
    assert min(size for size in sizes if size) >= 40


def test_everything_is_reached_by_keyboard(window: Chromium) -> None:
    window.value("document.activeElement.blur()")
    reached = []
    for _ in range(60):
        window.press("Tab")
        reached.append(
            window.value(
                "(document.activeElement.dataset.command ?? document.activeElement.id) || document.activeElement.title"
            )
        )
        if len(reached) > 3 and reached[-1] == reached[0]:
            break
    commands = window.value(
        "[...document.querySelectorAll('[data-command]:not(:disabled):not([hidden])')].map((b) => b.dataset.command)"
    )
    assert {*commands, "help-button", "pace"} <= {*reached}
    window.value("document.querySelector('[data-command=step]').focus()")
    assert window.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    window.press("?")
    assert window.value("document.getElementById('help').open")
    window.press("d")
    window.value("document.getElementById('help').close()")
    assert step(window) == 0


def test_text_has_contrast_and_motion_can_be_reduced(window: Chromium) -> None:
    style = (Path(__file__).parents[2] / "src/daydrive/drive/static/style.css").read_text()
    colours = dict(re.findall(r"--(\w+): (#\w{6})", style))

    def luminance(colour: str) -> float:
        shares = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    for ink in ("ink", "faint", "accent", "throttle", "brake", "focus"):
        for paper in ("paper", "panel"):
            assert contrast(colours[ink], colours[paper]) > 4.5, (ink, paper)
    assert contrast(colours["line"], colours["paper"]) > 2.5 and contrast("#10131a", colours["accent"]) > 4.5
    window.look(1300, reduced_motion=True)
    durations = window.value("[...document.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)")
    assert {*durations} == {"0s"}


def test_easing_starts_and_ends_gently(window: Chromium) -> None:
    path = window.value(
        "import('/easing.js').then(({approach, STILL}) => {"
        "  const path = [STILL];"
        "  for (let k = 0; k < 60; k++) path.push(approach(path[k], 1, 10, 1 / 60));"
        "  return [...path, approach(STILL, 1, 10, 1)].map(({position}) => position);"
        "})"
    )
    *path, whole = path
    moves = [later - earlier for earlier, later in pairwise(path)]
    peak = int(np.argmax(moves))
    assert 0 < peak < 15 and moves[0] < 0.5 * moves[peak] and all(move >= 0 for move in moves)
    assert path[-1] == pytest.approx(whole) and 0.99 < whole < 1
