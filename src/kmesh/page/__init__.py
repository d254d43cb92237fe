"""The page at ``GET /``: one document without a single outside fetch, made of the files here.

Styles and script lie inside it and are allowed by their hashes; nothing else runs, and text from
the mesh cannot become markup (Trusted Types refuse every sink that would parse it).
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

STYLES = ("colors.css", "frame.css", "parts.css")
SCRIPTS = (
    "dom.js", "format.js", "feed.js", "cards.js", "services.js", "side.js", "denials.js",
    "graph.js", "topology.js", "detail.js", "main.js",
)  # fmt: skip


class Page(NamedTuple):
    """The document and the headers it must be served with."""

    body: bytes
    headers: dict[str, str]


@cache
def page() -> Page:
    """The page, put together once."""
    style, script = _joined(STYLES), _joined(SCRIPTS)
    document = _read("page.html").replace("<!--css-->", style).replace("<!--js-->", script)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Page(
        document.encode(),
        {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cache-Control": "no-store",
        },
    )


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join(map(_read, names))


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
