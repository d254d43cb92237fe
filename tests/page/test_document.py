"""The document itself: its policy, its size, and colours that can be read."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from kmesh.page import STYLES, page

TEXTS = ("ink", "muted", "ok", "warn", "bad", "accent")
GROUNDS = ("card", "ground", "raised")


class Elements(HTMLParser):
    """Every tag with its attributes, and what lies in styles and scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("style", "script") and data.strip():
            self.inside.setdefault(self.tags[-1][0], data)


def elements() -> Elements:
    parsed = Elements()
    parsed.feed(page().body.decode())
    return parsed


def test_the_policy_allows_exactly_what_is_inside() -> None:
    policy = page().headers["Content-Security-Policy"]
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        digest = b64encode(sha256(elements().inside[tag].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")


def test_nothing_outside_is_named() -> None:
    for tag, attributes in elements().tags:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
    text = page().body.decode().replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert "innerHTML" not in text


def test_the_document_is_small() -> None:
    assert len(page().body) < 100_000


def test_controls_have_names() -> None:
    labels = {attributes.get("for") for tag, attributes in elements().tags if tag == "label"}
    for tag, attributes in elements().tags:
        if tag in ("input", "select") and "name" not in attributes:
            # those of the form lie in their labels
            assert attributes["id"] in labels or "aria-label" in attributes


def colours(block: str) -> dict[str, tuple[int, int, int]]:
    found = re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)
    return {
        name: (int(value[:2], 16), int(value[2:4], 16), int(value[4:], 16)) for name, value in found
    }


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [c / 255 for c in colour]
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """Contrast ratio of WCAG 2.2."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    style = elements().inside["style"]
    blocks = [block for block in re.findall(r"\{([^{}]*)\}", style) if "--ink:" in block]
    assert len(blocks) == 3  # light, dark by the system, dark by choice
    found = colours(blocks[scheme])
    for text in TEXTS:
        for ground in GROUNDS:
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["accent-ink"], found["accent"]) >= 4.5


def test_both_dark_schemes_are_one() -> None:
    style = elements().inside["style"]
    blocks = [block for block in re.findall(r"\{([^{}]*)\}", style) if "--ink:" in block]
    assert colours(blocks[1]) == colours(blocks[2])
    assert "colors.css" in STYLES
