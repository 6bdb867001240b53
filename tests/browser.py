"""A headless Chromium that tests and pictures drive: through its own debugging pipe, so without another package.

https://chromedevtools.github.io/devtools-protocol/: JSON messages that end with a zero byte, on descriptors 3 and 4.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NO_CHROMIUM = "no Chromium here: `apt-get install chromium` brings one, or name one in CHROMIUM"

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"),
    # It looks for updates and more at every start; nothing of this is to leave the machine.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--proxy-server=direct://"),
    *("--no-default-browser-check", "--disable-extensions", "--lang=en", "--force-color-profile=srgb"),
)
_BECOME = """
import fcntl, os, sys
ours = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, descriptor in enumerate(ours, 3):
    os.dup2(descriptor, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
_PATIENCE = 30.0


def chromium() -> str | None:
    """Where Chromium is on this machine, None if it is not."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


@dataclass(frozen=True, slots=True)
class Login:
    """What a browser's user types when a page asks for user and password."""

    user: str
    password: str = field(repr=False)


class Browser:
    """One page. `login` is given once to whoever asks; a page that asks again has refused it."""

    def __init__(self, folder: Path, *, width: int = 1280, height: int = 800, login: Login | None = None) -> None:
        self._folder = folder
        self._size = width, height
        self._login = login
        self._answered: set[str] = set()
        self._number = 0
        self._session: str | None = None
        self._read = b""
        self.requested: list[str] = []
        """The URL of everything that was fetched."""

    def __enter__(self) -> Self:
        program = chromium()
        assert program is not None, NO_CHROMIUM
        self._folder.mkdir(parents=True, exist_ok=True)
        to_it, self._write_to = os.pipe()
        self._read_from, from_it = os.pipe()
        # As root it has no sandbox to offer; what it shows is ours alone.
        flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), "--remote-debugging-pipe"]
        command = [program, *flags, f"--user-data-dir={self._folder}", "about:blank"]
        # subprocess hands on descriptors under their own numbers only.
        with_pipe = [sys.executable, "-I", "-S", "-c", _BECOME, str(to_it), str(from_it), *command]
        try:
            self._process = subprocess.Popen(
                with_pipe,
                pass_fds=(to_it, from_it),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(to_it)
            os.close(from_it)
        try:
            self._open_page()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _open_page(self) -> None:
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        width, height = self._size
        for method, options in (
            ("Page.enable", {}),
            ("Network.enable", {}),
            ("Fetch.enable", {"handleAuthRequests": True}),
            ("Emulation.setTimezoneOverride", {"timezoneId": "UTC"}),
            (
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            ),
        ):
            self._ask(method, **options)

    def _end(self) -> None:
        os.close(self._write_to)
        os.close(self._read_from)
        try:
            self._process.wait(timeout=5)  # it ends with its pipe
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- What a user does -------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go there."""
        failed = self._ask("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.wait_for("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """What a JavaScript expression comes to in the page, as JSON carries it."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        until = time.monotonic() + _PATIENCE
        while not self.run(f"!!({condition})"):
            assert time.monotonic() < until, f"waited in vain for {condition}; the page says: {self.text[:2000]}"
            time.sleep(0.05)

    def type_into(self, selector: str, text: str) -> None:
        """Replace what is in an input field, key by key as far as the page can tell."""
        self.run(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self._ask("Input.insertText", text=text)
        self.run(
            f"document.querySelector({json.dumps(selector)})"
            ".dispatchEvent(new KeyboardEvent('keyup', {bubbles: true, key: 'Enter'}))"
        )

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def picture(self, *, height: int | None = None) -> bytes:
        """The page as PNG; `height` cuts it off."""
        width, full = self._size
        clip = {"x": 0, "y": 0, "width": width, "height": height or full, "scale": 1}
        answer = self._ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    # --- The protocol -----------------------------------------------------------------------------------------------

    def _ask(self, method: str, **parameters: object) -> dict[str, Any]:
        number = self._send(method, parameters)
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._hear(message)

    def _send(self, method: str, parameters: Mapping[str, object]) -> int:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write_to, json.dumps(message).encode() + b"\0")
        return self._number

    def _hear(self, message: Mapping[str, Any]) -> None:
        about = message.get("params", {})
        match message.get("method"):
            case "Fetch.requestPaused":
                self.requested.append(about["request"]["url"])
                self._send("Fetch.continueRequest", {"requestId": about["requestId"]})
            case "Fetch.authRequired":
                answer: dict[str, str] = {"response": "CancelAuth"}
                if self._login is not None and about["requestId"] not in self._answered:
                    self._answered.add(about["requestId"])
                    answer = {
                        "response": "ProvideCredentials",
                        "username": self._login.user,
                        "password": self._login.password,
                    }
                self._send("Fetch.continueWithAuth", {"requestId": about["requestId"], "authChallengeResponse": answer})

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            readable, _, _ = select.select([self._read_from], [], [], _PATIENCE)
            assert readable, "Chromium does not answer"
            read = os.read(self._read_from, 1 << 20)
            assert read, "Chromium has ended"
            self._read += read
        message, _, self._read = self._read.partition(b"\0")
        received: dict[str, Any] = json.loads(message)
        return received
