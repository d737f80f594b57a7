"""Headless Chromium over its debugging pipe: pages of any width, light or dark, with real keys and no network."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
# The protocol wants its pipes as descriptors 3 and 4.
_WITH_PIPES = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, pipe in zip((3, 4), pipes):
    os.dup2(pipe, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
_PATIENCE_S = 90.0
_KEYS = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27}


def find_program() -> str | None:
    """The browser, if one is on PATH."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """A browser process; a context that ends it.

    Args:
        program: Its file.
        profile: Folder for its profile.
    """

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        own = (f"--user-data-dir={profile}", "about:blank")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WITH_PIPES, str(commands), str(answers), program, *_FLAGS, *own],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result; what happens meanwhile is in `events`."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self.events.append(answer)

    def read(self) -> dict[str, Any]:
        """The next message."""
        deadline = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if ready else b""
            assert data, f"the browser is silent; its exit status is {self._process.poll()}"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, url: str, width: int = 1400, *, dark: bool = False, height: int = 1000) -> "Page":
        """Open a page in a window of its own and wait until it is loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[scheme])
        page.send("Page.navigate", url=url)
        page.wait_for("Page.loadEventFired")
        return page


class Page:
    """An open page."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this page."""
        return self._browser.send(method, self._session, **parameters)

    def wait_for(self, event: str) -> None:
        """Wait until an event of this page has happened."""
        while not any(one.get("method") == event for one in self._own()):
            self._browser.events.append(self._browser.read())

    def run(self, script: str) -> Any:
        """Value of a script's last expression, awaited; JSON types."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def html(self) -> str:
        """The document as it stands."""
        return str(self.run("document.documentElement.outerHTML"))

    def press(self, key: str, times: int = 1) -> None:
        """Press a key as a user does."""
        shown: Mapping[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        for _ in range(times):
            self.send("Input.dispatchKeyEvent", type="keyDown", **shown, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", **shown)

    def messages(self) -> list[str]:
        """Errors and warnings so far."""
        self.run("0")  # what happened before has arrived
        found = []
        for event in self._own():
            content = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(content["exceptionDetails"].get("exception", {}).get("description", content)))
            elif event.get("method") == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning"):
                found.append(str(content["args"]))
            elif event.get("method") == "Log.entryAdded":
                found.append(str(content["entry"]["text"]))
        return found

    def save_picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close its window."""
        self._browser.send("Target.closeTarget", targetId=self._target)

    def _own(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]
