"""A headless Chromium, driven by the DevTools protocol over a pipe: no web driver, no port, no other library."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")

PATIENCE = 60.0
"""Seconds that an answer may take on a busy machine."""

_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str | None:
    """Path of the browser, or None."""
    return next((found for name in NAMES if (found := shutil.which(name)) is not None), None)


class Browser:
    """The protocol to one browser process with one page.

    https://chromedevtools.github.io/devtools-protocol/; messages on the pipe end with a zero byte.
    """

    def __init__(self, process: subprocess.Popen[bytes], to_browser: int, from_browser: int) -> None:
        self._process = process
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._unread = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.complaints: list[str] = []
        """What the page wrote to the console as an error or warning, exceptions, and requests that it made."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method and waits for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, path: Path, *, width: int, height: int, dark: bool = False) -> None:
        """Shows a file in a window of so many CSS pixels and waits until it is drawn."""
        self.complaints.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=path.absolute().as_uri())
        deadline = time.monotonic() + PATIENCE
        while not self._loaded:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} was not loaded in {PATIENCE:.0f} s")
            self._receive()
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, *, clip: Mapping[str, float] | None = None) -> bytes:
        """A PNG of the whole page, or of ``x``, ``y``, ``width`` and ``height`` of it in CSS pixels."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        area = {**(clip or {"x": 0, "y": 0, "width": size["width"], "height": size["height"]}), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", clip=area, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from_browser], [], [], PATIENCE)
            data = os.read(self._from_browser, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError(f"the browser does not answer (exit status {self._process.poll()})")
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._notice(message)
        return message

    def _notice(self, message: dict[str, Any]) -> None:
        method, said = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"].get("text")))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{said['entry']['level']}: {said['entry']['text']}")
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{said['type']}")
        elif method == "Network.requestWillBeSent":
            url = said["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.complaints.append(f"request to {url}")


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """A browser that is closed in the end, with a profile that is deleted.

    Args:
        path: of the program, see :func:`find_chromium`.
    """
    with TemporaryDirectory(prefix="modyn-chromium-", ignore_cleanup_errors=True) as profile:
        process, to_browser, from_browser = _launch(path, Path(profile))
        try:
            yield Browser(process, to_browser, from_browser)
        finally:
            os.close(to_browser)  # it ends when nobody can talk to it any more
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(from_browser)


def _launch(path: str, profile: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """Chromium reads commands from descriptor 3 and answers on 4."""
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    # Above 4, so that neither is overwritten before it is copied.
    inherited = [_above_4(commands), _above_4(answers)]
    options = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
        *("--hide-scrollbars", "--no-first-run", "--disable-extensions", "--disable-background-networking"),
        *("--force-color-profile=srgb", "--font-render-hinting=none", f"--user-data-dir={profile}"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, *map(str, inherited), path, *options, "about:blank"],
        pass_fds=inherited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HOME": str(profile)},
    )
    for descriptor in inherited:
        os.close(descriptor)
    return process, to_browser, from_browser


def _above_4(descriptor: int) -> int:
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 5)
    os.close(descriptor)
    return copy
