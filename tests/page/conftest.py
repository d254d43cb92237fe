"""The page as it is served, in a browser, in a namespace that leads nowhere."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from kmesh.tasks import page
from kmesh.tasks.problems import answer, problems
from kmesh.tasks.top import Top, handlers
from tests.kernel.net import Namespace, namespace
from tests.page.browser import Tab, browser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.page.mesh import Node

WHY = {
    "layer": "desired", "allowed": False, "reason": "not_allowed", "policy": "shop/only-cart",
    "rule": 1, "source_workload": "Kubernetes//Pod/shop/ads-0", "guarded_here": True,
}  # fmt: skip


@pytest.fixture
def where() -> Iterator[Namespace]:
    """A namespace with nothing but loopback."""
    with namespace() as made:
        yield made


@asynccontextmanager
async def served(where: Namespace, node: Node) -> AsyncIterator[str]:
    """The page and what it asks, at an address inside the namespace."""
    app = web.Application(middlewares=[problems])
    top = Top(node.sources(), getattr(node, "clock", lambda: node.now))
    app.add_routes([*page.routes(), *handlers(top), web.get("/why", why)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    listener = where.socket(socket.AF_INET)
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    try:
        await web.SockSite(runner, listener).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        await runner.cleanup()


async def why(request: web.Request) -> web.Response:
    """An answer in the shape of the agent's."""
    return answer({**WHY, "source": request.query["source"], "port": request.query["port"]})


@asynccontextmanager
async def opened(where: Namespace, node: Node, profile: Path) -> AsyncIterator[Tab]:
    """A tab that shows the page with its first numbers."""
    async with served(where, node) as url, browser(where, profile) as tab:
        await tab.open(url)
        await tab.until("document.querySelector('#status').dataset.state === 'ok'")
        yield tab
