"""Measurements of a running server of `daydrive drive`: latency, and memory over a long drive.

python tests/helpers/endurance.py RUN STORE SECONDS   prints them for a checkpoint
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import simplejpeg
import torch
from websockets.exceptions import ConnectionClosed

from daydrive.drive.scenario import load_scenario
from helpers.driving import Page, serving


class Latency(NamedTuple):
    """Milliseconds from an action to its decoded image, and of the model."""

    p50: float
    p95: float
    model_p50: float

    def __str__(self) -> str:
        return f"key to image p50 {self.p50:.0f} ms, p95 {self.p95:.0f} ms; model p50 {self.model_p50:.0f} ms"


@contextlib.contextmanager
def viewers(address: str, session: str, count: int) -> Iterator[None]:
    """Pages that watch a session and read everything."""
    pages = [Page(address, session) for _ in range(count)]

    def read(page: Page) -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError, EOFError):
            while True:
                page.next()

    threads = [threading.Thread(target=read, args=(page,), daemon=True) for page in pages]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for page in pages:
            page.socket.close()
        for thread in threads:
            thread.join()


def measure_latency(page: Page, presses: int) -> Latency:
    """Press keys at random moments of a drive in real time."""
    times, model = [], []
    page.answer(type="pause", on=False)
    clock = random.Random(0)
    for k in range(presses):
        pause = time.monotonic() + clock.uniform(0.15, 0.35)
        while time.monotonic() < pause:
            page.next()
        started = time.perf_counter()
        sequence = page.act(steering=(-1) ** k * 0.5, throttle=0.5, key=True)
        page.wait(lambda _, sequence=sequence: page.header["sequence"] >= sequence)
        simplejpeg.decode_jpeg(page.images[0])
        times.append(1000 * (time.perf_counter() - started))
        model.append(page.header["model_ms"][0])
    times.sort()
    model.sort()
    return Latency(times[presses // 2], times[math.ceil(0.95 * presses) - 1], model[presses // 2])


def soak(page: Page, address: str, seconds: float) -> tuple[int, int, int]:
    """Drive for a while, with a client that vanishes and one that sends nonsense every few seconds.

    Returns the steps taken, and the memory of this process in bytes after a tenth of the time and at the end.
    """
    process, session = psutil.Process(), page.welcome["session"]
    started, first, early = time.monotonic(), page.header["step"], 0
    page.answer(type="pause", on=False)
    next_guest = started
    while (elapsed := time.monotonic() - started) < seconds:
        page.next()
        if not early and elapsed > seconds / 10:
            early = memory(process)
        if time.monotonic() > next_guest:
            next_guest += 3.0
            page.act(steering=0.3 * math.sin(elapsed), throttle=0.4, key=True)
            guest = Page(address, session)
            with contextlib.suppress(ConnectionClosed):
                for _ in range(20):
                    guest.socket.send("nonsense")
                guest.next()
            guest.socket.socket.close()
    return page.header["step"] - first, early, memory(process)


def memory(process: psutil.Process) -> int:
    gc.collect()
    return int(process.memory_info().rss)


def main(run: Path, store: Path, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as output:
        scenario = load_scenario([run], store, Path(output), device=torch.device("cpu"))
        with serving(scenario) as address, Page(address) as page:
            time.sleep(10.0)  # thumbnails are drawn at the start
            print("alone:", measure_latency(page, 100))
            with viewers(address, page.welcome["session"], 8):
                print("with 8 viewers:", measure_latency(page, 100))
                page.answer(type="reset")
                steps, early, late = soak(page, address, seconds)
            print(
                f"{seconds:.0f} s with 8 viewers: {steps} steps, memory {early / 2**20:.1f} to {late / 2**20:.1f} MiB"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
