"""A headless Chromium for tests of pages, controlled by the DevTools protocol over a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DEADLINE = 120.0
"""Maximum seconds for an answer on a busy machine."""
_OPTIONS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


class Chromium:
    """One page. complaints: console messages and exceptions; asked: the requested addresses."""

    def __init__(self, folder: Path) -> None:
        assert BINARY is not None
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        far = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out)]

        def wire() -> None:
            os.dup2(far[0], 3)
            os.dup2(far[1], 4)

        self._process = subprocess.Popen(
            [BINARY, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=wire, pass_fds=(3, 4),
            start_new_session=True,
        )  # fmt: skip
        for end in (theirs_in, theirs_out, *far):
            os.close(end)
        self._number, self._buffer, self._session = 0, b"", ""
        self.complaints: list[str] = []
        self.asked: list[str] = []

    def __enter__(self) -> Chromium:
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])

    def open(self, file: Path) -> None:
        self.send("Page.navigate", url=file.absolute().as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def visit(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.wait(f"location.href.startsWith('{address}') && document.readyState === 'complete'")

    def look(self, width: int, height: int = 900, dark: bool = False, reduced_motion: bool = False) -> None:
        """Set the window size, and the preferred colour scheme and amount of motion."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"}
        self.send("Emulation.setEmulatedMedia", features=[scheme, motion])

    def value(self, script: str) -> Any:
        """Evaluate an expression; promises are awaited."""
        given = {"expression": script, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        found = self.send("Runtime.evaluate", **given)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + DEADLINE
        while not self.value(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.05)

    def press(self, key: str) -> None:
        self.hold(key)
        self.release(key)

    def hold(self, key: str) -> None:
        self._key("rawKeyDown", key)

    def release(self, key: str) -> None:
        self._key("keyUp", key)

    def _key(self, kind: str, key: str) -> None:
        """key: as in `KeyboardEvent.key`."""
        letter = key.upper() if len(key) == 1 and key.isalpha() else None
        code = f"Key{letter}" if letter else key
        number = ord(letter) if letter else _CODES[key]
        self.send("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=number)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], DEADLINE)[0], "no answer from Chromium"
            part = os.read(self._in, 1 << 20)
            assert part, "Chromium is gone"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._hear(message.get("method", ""), message.get("params", {}))
        return message

    def _hear(self, method: str, message: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(message["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and message["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(message["args"]))
        elif method == "Log.entryAdded" and message["entry"]["level"] in ("error", "warning"):
            self.complaints.append(message["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.asked.append(message["request"]["url"][:100])


_CODES = {
    "Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39, ".": 190, "-": 189, "?": 191,
    "0": 48, "1": 49, "2": 50,
}  # fmt: skip
