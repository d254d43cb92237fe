"""Headless Chromium over its DevTools pipe, inside a network namespace that leads nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.kernel.net import Namespace

SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-breakpad", "--hide-scrollbars", "--lang=en",
    "--force-device-scale-factor=1", "--font-render-hinting=none", "--remote-debugging-pipe",
)  # fmt: skip
WITHIN = 20.0
MOST_MESSAGE = 64 << 20


class BrowserError(Exception):
    """The browser refused a command, or the page's script failed."""


class Tab:
    """One page: commands by id, and what the page complained about."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.session = ""
        self._reader, self._writer = reader, writer
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._number = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command; raises BrowserError."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._number] = answer
        self._writer.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(WITHIN):
            return await answer

    async def listen(self) -> None:
        """Take what the browser says until it ends."""
        while True:
            try:
                raw = await self._reader.readuntil(b"\0")
            except asyncio.IncompleteReadError:
                return
            self._take(json.loads(raw[:-1]))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = self._answers.pop(message["id"])
            if "error" in message:
                answer.set_exception(BrowserError(str(message["error"])))
            else:
                answer.set_result(message["result"])
            return
        what = message["params"]
        match message["method"]:
            case "Runtime.exceptionThrown":
                self.complaints.append(str(what["exceptionDetails"]))
            case "Log.entryAdded":
                self.complaints.append(str(what["entry"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(what["args"]))
            case "Network.requestWillBeSent":
                self.requests.append(what["request"]["url"])
            case "Page.loadEventFired":
                self._loaded.set()

    async def open(self, url: str) -> None:
        """Go there; returns when it is loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(WITHIN):
            await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited. Raises BrowserError."""
        found = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise BrowserError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    async def until(self, condition: str) -> Any:
        """Wait in the page until an expression holds; its value."""
        script = (
            "new Promise((done) => { const look = () => { let v; try { v = (%s); } catch { v = 0; }"
            " v ? done(v) : setTimeout(look, 20); }; look(); })"
        )
        try:
            return await self.run(script % condition)
        except TimeoutError:
            text = await self.run("document.body.innerText")
            raise AssertionError(f"never: {condition}\n{self.complaints}\n{text}") from None

    async def text(self, selector: str) -> str:
        """What one element shows."""
        return str(await self.run(f"document.querySelector({selector!r}).innerText"))

    async def key(self, name: str, text: str | None = None) -> None:
        """Press and release a key, as a keyboard does."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowUp": 38, "ArrowDown": 40,
                 "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}  # fmt: skip
        typed = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
        code = codes.get(name, ord(name.upper()) if len(name) == 1 else 0)
        down: dict[str, Any] = {"key": name, "windowsVirtualKeyCode": code}
        if text or typed:
            down["text"] = text or typed
        await self.call("Input.dispatchKeyEvent", type="keyDown", **down)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=name)

    async def write(self, text: str) -> None:
        """Type text, a key at a time."""
        for each in text:
            await self.key(each)

    async def resize(self, width: int, height: int) -> None:
        """The window's size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    async def prefer(self, scheme: str) -> None:
        """Light or dark, as the system would say."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self) -> bytes:
        """A PNG of what is to be seen."""
        found = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])


@asynccontextmanager
async def browser(where: Namespace, profile: Path) -> AsyncIterator[Tab]:
    """A tab of a browser of its own; its processes are gone when the block ends."""
    binary = shutil.which("chromium")
    assert binary, "chromium is not installed: ./run tests installs it"
    commands, requests = os.pipe()
    replies, answers = os.pipe()
    shell = f'exec ip netns exec "$@" 3<&{commands} 4>&{answers}'
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", shell, "bash", where.name, binary, *SWITCHES, f"--user-data-dir={profile}",
        "about:blank", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL, pass_fds=(commands, answers), start_new_session=True,
        env={"PATH": os.environ["PATH"], "HOME": str(profile), "LANG": "C.UTF-8"},
    )  # fmt: skip
    os.close(commands)
    os.close(answers)
    tab, transports = await _connect(replies, requests)
    listening = asyncio.create_task(tab.listen())
    try:
        await _attach(tab)
        yield tab
    finally:
        await _end(tab, process)
        for transport in transports:
            transport.close()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _end(tab: Tab, process: asyncio.subprocess.Process) -> None:
    try:
        tab.session = ""
        await tab.call("Browser.close")
        async with asyncio.timeout(WITHIN):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise


async def _connect(replies: int, requests: int) -> tuple[Tab, list[asyncio.BaseTransport]]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(MOST_MESSAGE)
    protocol = asyncio.StreamReaderProtocol(reader)
    reading, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(replies, "rb"))
    writing, flow = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(requests, "wb")
    )
    writer = asyncio.StreamWriter(writing, flow, None, loop)
    return Tab(reader, writer), [reading, writing]


async def _attach(tab: Tab) -> None:
    targets = await tab.call("Target.getTargets")
    page = next(each for each in targets["targetInfos"] if each["type"] == "page")
    found = await tab.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
    tab.session = found["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        await tab.call(f"{domain}.enable")
    await tab.resize(1400, 1000)
    await tab.prefer("light")
