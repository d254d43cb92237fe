"""Makes docs/page-light.png and docs/page-dark.png: the page with a made-up node, in Chromium.

``python tools/screenshots.py``, as root: the browser runs in a namespace that leads nowhere.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.kernel.net import namespace  # noqa: E402
from tests.page.conftest import opened  # noqa: E402
from tests.page.mesh import Node  # noqa: E402

SAMPLES = 60


async def take(docs: Path) -> None:
    """Let two minutes pass in a moment, then look."""
    node = Node(40)
    with namespace() as where, tempfile.TemporaryDirectory() as profile:
        async with opened(where, node, Path(profile)) as tab:
            await tab.resize(1400, 1240)
            await tab.run("feed.sort = 'connections'")
            for _ in range(SAMPLES):
                node.tick(2.0)
                await tab.run("poll()")
            for scheme in ("light", "dark"):
                await tab.prefer(scheme)
                picture = await tab.picture()
                await asyncio.to_thread((docs / f"page-{scheme}.png").write_bytes, picture)


if __name__ == "__main__":
    asyncio.run(take(ROOT / "docs"))
