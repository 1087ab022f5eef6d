"""A headless Chromium, spoken to by its DevTools protocol."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paths import ROOT

AXE = ROOT / "build/axe/node_modules/axe-core/axe.min.js"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Page:
    """A tab: opens pages, evaluates JavaScript, and keeps requests and errors."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.last_id = 0
        self.session = ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; return its result. Events that come first are kept."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while (answer := json.loads(self.socket.recv(timeout=600))).get("id") != self.last_id:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url: str, *, width: int = 1400, scheme: str = "light") -> None:
        """Open a page, and wait until it is loaded and its formulas are set."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState == 'complete' && location.href != 'about:blank'")
        self.evaluate("window.MathJax ? MathJax.startup.promise.then(() => true) : true")

    def evaluate(self, code: str) -> Any:
        """Return the value of an expression, or of the promise it returns."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"].get("exception", {}).get("description", code))
        return done["result"].get("value")

    def wait_for(self, code: str, seconds: float = 30.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({code})"):  # an element itself cannot be returned
            if time.monotonic() > end:
                raise TimeoutError(f"not true after {seconds} s: {code}")
            time.sleep(0.05)

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            code = {"Enter": 13, "Tab": 9}.get(key, 0)
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def type(self, text: str) -> None:
        """Type a text."""
        for letter in text:
            self.press(letter, letter)

    def hover(self, selector: str) -> None:
        """Move the mouse to the middle of an element."""
        box = self.evaluate(
            f"(x => (x.scrollIntoView({{block: 'center'}}), x.getBoundingClientRect().toJSON()))"
            f"(document.querySelector({selector!r}))"
        )
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def serious_problems(self) -> list[str]:
        """Return the serious and critical problems that axe-core finds in the page."""
        assert AXE.exists(), "make browser installs axe-core"
        self.evaluate(AXE.read_text(encoding="utf-8"))
        return self.evaluate(
            "axe.run(document, {resultTypes: ['violations'], preload: false}).then(done => done.violations"
            ".filter(x => ['serious', 'critical'].includes(x.impact))"
            ".map(x => x.id + ': ' + x.help + ' ' + x.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' | ')))"
        )

    @property
    def requests(self) -> list[str]:
        """Return the addresses of all requests so far."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    @property
    def errors(self) -> list[str]:
        """Return the errors of the console and of scripts so far."""
        found: list[str] = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif method == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(" ".join(str(x.get("value", x.get("description"))) for x in params["args"]))
        return found


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """Start Chromium with a profile in a folder; close it at the end."""
    from websockets.sync.client import connect

    program = next(filter(None, map(shutil.which, PROGRAMS)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    process = subprocess.Popen([program, *flags, *quiet], stderr=subprocess.DEVNULL)
    try:
        port_file = folder / "DevToolsActivePort"
        end = time.monotonic() + 600
        while not (port_file.exists() and len(lines := port_file.read_text().splitlines()) == 2):
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"{program} did not start")
            time.sleep(0.05)
        with connect(f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(30)
