"""A real Chromium, asked through WebDriver (chromedriver, on 127.0.0.1); no more of it than the tests of the page need.

Source: W3C WebDriver, https://www.w3.org/TR/webdriver2/.
"""

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of a reference, fixed by the standard
PATIENCE_S = 30.0  # only a failing test waits that long
PAUSE_S = 0.02
STARTS_MAX = 5  # of chromedriver
KEYS = {"tab": "\ue004", "enter": "\ue007", "space": " "}
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium here: install chromium and chromium-driver (Debian, Ubuntu), or run .ci/run with CI=true"


class RefusedError(AssertionError):
    """What the driver says instead of doing it."""


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver, self._session = driver, session

    def command(self, method: str, path: str, **body: Any) -> Any:
        """One command of the standard; its value."""
        url = f"/session/{self._session}{path}"
        answer = self._driver.request(method, url, json=body if method == "POST" else None)
        value = answer.json()["value"]
        if answer.status_code != 200:
            raise RefusedError(f"{value['error']}: {value['message']}")
        return value

    def open(self, url: str) -> None:
        self.command("POST", "/url", url=url)

    @property
    def url(self) -> str:
        return str(self.command("GET", "/url"))

    def script(self, text: str, *values: Any) -> Any:
        """What this JavaScript returns; it comes from the driver, so the page's own policy does not hold it."""
        return self.command("POST", "/execute/sync", script=text, args=list(values))

    def text(self, css: str = "body") -> str:
        """The words of the first such element."""
        return str(self._first(css, "GET", "text"))

    def type(self, css: str, text: str) -> None:
        self._first(css, "POST", "value", text=text)

    def click(self, css: str) -> None:
        self._first(css, "POST", "click")

    def _first(self, css: str, method: str, action: str, **body: Any) -> Any:
        """A command to the first such element, as soon as that can be done.

        The page may be on its way, or be just going away: chromedriver has several words for that, not only those of the standard.
        """
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = self.command("POST", "/element", using="css selector", value=css)[ELEMENT]
                return self.command(method, f"/element/{found}/{action}", **body)
            except RefusedError:
                if time.monotonic() > end_s:
                    raise
            time.sleep(PAUSE_S)

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        strokes = [
            {"type": kind, "value": KEYS.get(key, key)}
            for key in keys
            for kind in ("keyDown", "keyUp")
        ]
        self.command(
            "POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}]
        )

    def focused(self) -> str:
        """What has the focus: its tag and its words."""
        return str(
            self.script(
                "const e=document.activeElement; return e.tagName.toLowerCase()+' '+(e.innerText||e.name||'').trim()"
            )
        )

    def media(self, *, dark: bool) -> None:
        """What `prefers-color-scheme` says."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.developer("Emulation.setEmulatedMedia", features=[scheme])

    def size(self, width: int, height: int = 800, *, phone: bool = False) -> None:
        """The window's, in CSS pixels."""
        self.developer(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip

    def developer(self, name: str, **values: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.command("POST", "/goog/cdp/execute", cmd=name, params=values)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        found = self.developer("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """What the console says: a policy that was broken, a file that is missing."""
        return [str(one["message"]) for one in self.command("POST", "/se/log", type="browser")]


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, as long as the block lasts. Skips the test where there is none, but not with CI=true."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        assert os.environ.get("CI") != "true", MISSING
        pytest.skip(MISSING)
    with (
        _driver(driver) as port,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_S
        ) as http,
    ):
        options = {"binary": program, "args": list(FLAGS)}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        asked = {"capabilities": {"alwaysMatch": wanted}}
        value = http.post("/session", json=asked).json()["value"]
        assert "sessionId" in value, value
        try:
            yield Browser(http, value["sessionId"])
        finally:
            http.delete(f"/session/{value['sessionId']}")


@contextmanager
def _driver(program: str) -> Iterator[int]:
    """chromedriver, on a free port."""
    for process in _started(program):
        with process:
            try:
                assert process.stdout is not None
                lines = (one for one in process.stdout if "started successfully on port" in one)
                line = next(lines, None)
                if line is not None:
                    yield int(line.rstrip(".\n").split()[-1])
                    return
            finally:
                process.terminate()
    pytest.fail(f"{program} does not start")


def _started(program: str) -> Iterator[subprocess.Popen[str]]:
    """Again where it has ended at once: the port that was free in IPv6 may be somebody's in IPv4."""
    for _ in range(STARTS_MAX):
        yield subprocess.Popen(
            [program, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


def until(true: Callable[[], bool]) -> None:
    """Wait for what happens at once."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, "it never came"
        time.sleep(PAUSE_S)
