"""The page in headless Chromium: what it shows, by mouse and by keyboard, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.page.browser import browser
from tests.page.conftest import opened, served
from tests.page.mesh import Node, key, uid

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.net import Namespace
    from tests.page.browser import Tab

pytestmark = pytest.mark.anyio

ROWS = "[...document.querySelectorAll('#services-table tbody tr')]"
FOCUS = "document.activeElement"
NAME = (
    "((e) => e === document.body ? 'BODY' : e.id || e.name || e.dataset.sort || e.dataset.id"
    f" || e.dataset.key || e.innerText || e.tagName)({FOCUS})"
)
PAGES = "document.querySelector('#pages').innerText"
DASH = "\N{EN DASH}"


async def later(tab: Tab, node: Node, seconds: float = 2.0) -> None:
    """Let the node's time pass, and wait for the page to show rates."""
    node.tick(seconds)
    await tab.run("poll()")
    await tab.until("feed.last && feed.last.seconds !== null")


async def test_services_workloads_tables_and_denials_are_shown(
    where: Namespace, tmp_path: Path
) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        await tab.until(f"{ROWS}.length === 10")
        rows = await tab.text("#services-table")
        assert "ads" in rows
        assert "no endpoint" in rows
        assert "1 of 2" in rows  # payments
        shown = await tab.text("#topology")
        for name in ("frontend-0", "cart-1", "search-2"):
            assert name in shown
        assert "--max-vips" in await tab.run(
            "document.querySelector('#tables li').getAttribute('title')"
        )
        denials = await tab.run(
            "[...document.querySelectorAll('#denials-table tbody tr')].map((r) => r.innerText)"
        )
        assert len(denials) == 4
        assert "debug-shell" in denials[0]
        assert "istio-system/mesh-wide" in denials[0]
        assert "dry run" in denials[1]
        assert "and 41 more" in denials[3]
        assert tab.complaints == []


async def test_nothing_is_fetched_from_anywhere_else(where: Namespace, tmp_path: Path) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        own = await tab.run("location.origin")
        await later(tab, node)
        asked = [url for url in tab.requests if not url.startswith("data:")]
        assert asked
        assert all(url.startswith(f"{own}/") for url in asked)


async def test_rates_appear_with_the_second_sample_and_are_exact(
    where: Namespace, tmp_path: Path
) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        card = "document.querySelector('[data-card=failed] .value').innerText"
        assert (await tab.run(card)).strip() == DASH
        opened_before = node.opened
        await later(tab, node, 2.0)
        shown = await tab.run("feed.last.total.connections")
        assert shown == pytest.approx((node.opened - opened_before) / 2.0)
        assert shown > 0
        await tab.until(f"{ROWS}.some((r) => r.innerText.includes('3/s'))")


async def test_what_is_not_counted_is_a_dash_and_said(where: Namespace, tmp_path: Path) -> None:
    node = Node(traffic=False)
    async with opened(where, node, tmp_path) as tab:
        await later(tab, node)
        assert (await tab.text("[data-card=connections] .value")).strip() == DASH
        assert "Rates are missing" in await tab.text("#absent")
        assert await tab.run(f"{ROWS}[0].cells[3].innerText") == DASH


async def test_search_by_keyboard_filters_everything(where: Namespace, tmp_path: Path) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        await tab.key("/")
        assert await tab.run(f"{FOCUS}.id") == "words"
        await tab.write("payments")
        await tab.until(f"{ROWS}.length === 1 && {ROWS}[0].dataset.key === '{key('payments')}'")
        await tab.until("!document.querySelector('#topology').innerText.includes('frontend-0')")
        assert await tab.text("#services-note") == "1 of 10"
        assert "No denial matches" in await tab.text("#denials-table")
        await tab.key("Escape")
        await tab.until(f"{ROWS}.length === 10")
        await tab.key("Escape")
        assert await tab.run(f"{FOCUS} === document.body")


async def test_rows_by_keyboard_open_a_service_and_focus_comes_back(
    where: Namespace, tmp_path: Path
) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        await tab.until(f"{ROWS}.length === 10")
        await tab.run(f"{ROWS}[0].focus()")
        await tab.key("ArrowDown")
        await tab.key("j")
        await tab.key("k")
        assert await tab.run(f"{FOCUS} === {ROWS}[1]")
        assert await tab.run(f"{ROWS}.filter((r) => r.tabIndex === 0).length") == 1
        await tab.key("End")
        await tab.key("Home")
        await tab.key("Enter")
        await tab.until("document.querySelector('#detail').open")
        shown = await tab.text("#detail")
        assert key("accounts") in shown
        assert uid("accounts-0").rpartition("/")[2] in shown
        assert "this node" in shown
        await tab.key("Escape")
        await tab.until("!document.querySelector('#detail').open")
        assert await tab.run(f"{FOCUS} === {ROWS}[0]")
        assert tab.complaints == []


async def test_topology_by_keyboard_chooses_a_node(where: Namespace, tmp_path: Path) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        await later(tab, node)
        place = f'[data-id="w:{uid("frontend-0")}"]'
        await tab.run(f"document.querySelector({place!r}).focus()")
        await tab.key("Enter")
        await tab.until(
            f"document.querySelector({place!r}).getAttribute('aria-pressed') === 'true'"
        )
        assert await tab.run("document.querySelectorAll('#topology path.dim').length") > 0
        assert uid("frontend-0") in await tab.text("#topology-note")
        await tab.key("ArrowRight")
        assert (await tab.run(f"{FOCUS}.dataset.id")).startswith("s:")
        await tab.key("ArrowDown")
        await tab.key("ArrowLeft")
        assert (await tab.run(f"{FOCUS}.dataset.id")).startswith("w:")
        await tab.key("Escape")
        await tab.until("document.querySelectorAll('#topology path.dim').length === 0")
        await tab.run(f"document.querySelector({place!r}).focus()")
        before = await tab.run(f"{FOCUS}.dataset.id")
        await later(tab, node)
        assert await tab.run(f"{FOCUS}.dataset.id") == before, "fresh numbers took the focus"


async def test_every_control_is_reached_by_tab_and_shows_its_focus(
    where: Namespace, tmp_path: Path
) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        await later(tab, node)
        await tab.key("p")
        reached = []
        for _ in range(60):
            await tab.key("Tab")
            name = await tab.run(NAME)
            if name in ("BODY", "HTML"):
                break
            reached.append(name)
            ring = await tab.run(
                f"(() => {{ const e = {FOCUS}; const s = getComputedStyle(e.matches('.node')"
                " ? e.querySelector('.box') : e); return e.matches('.node')"
                " ? s.strokeWidth !== '1px' : s.outlineStyle === 'solid'"
                " && parseFloat(s.outlineWidth) >= 2; })()"
            )
            assert ring, f"{name} does not show its focus"
        for wanted in (
            "words",
            "window",
            "pause",
            "theme",
            "help",
            "name",
            "rtt",
            "source",
            "port",
        ):
            assert wanted in reached, reached
        assert sum(str(name).startswith(("w:", "s:", "c:")) for name in reached) == 1
        assert sum("svc.cluster.local" in str(name) for name in reached if name[1] != ":") == 1


async def test_why_by_keyboard_and_from_a_denial(where: Namespace, tmp_path: Path) -> None:
    node = Node()
    async with opened(where, node, tmp_path) as tab:
        await tab.key("w")
        await tab.write("10.0.9.1")
        await tab.key("Tab")
        await tab.write("10.0.2.1")
        await tab.key("Tab")
        await tab.write("8080")
        await tab.key("Enter")
        await tab.until("document.querySelector('#answer .verdict')")
        shown = await tab.text("#answer")
        assert "Denied: not allowed" in shown
        assert "shop/only-cart" in shown
        await tab.run("document.querySelector('#denials-table tbody button').click()")
        await tab.until("document.querySelector('#answer').innerText.includes('10.0.9.3')")
        assert await tab.run("document.querySelector('#why').port.value") == "8030"


async def test_a_name_that_looks_like_markup_stays_text(where: Namespace, tmp_path: Path) -> None:
    node = Node()
    node.steering.enrol(99, "Kubernetes//Pod/x/<img src=x onerror=document.title='owned'>")
    node.settle()
    async with opened(where, node, tmp_path) as tab:
        await tab.until("document.querySelector('#topology').textContent.includes('<img')")
        await later(tab, node)
        assert await tab.run("document.querySelectorAll('img').length") == 0
        assert await tab.run("document.title") == "n1 · kmesh"
        assert tab.complaints == []


async def test_injected_script_and_markup_are_refused(where: Namespace, tmp_path: Path) -> None:
    async with opened(where, Node(), tmp_path) as tab:
        added = (
            "(() => { const s = document.createElement('script'); s.append('window.owned = 1');"
            " try { document.body.append(s); } catch {} return window.owned; })()"
        )
        assert await tab.run(added) is None
        sink = (
            "(() => { try { document.body.innerHTML = '<b>x</b>'; return 1; }"
            " catch { return 2; } })()"
        )
        assert await tab.run(sink) == 2


async def test_dark_as_the_system_and_by_key(where: Namespace, tmp_path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    async with opened(where, Node(), tmp_path) as tab:
        light = await tab.run(ground)
        await tab.prefer("dark")
        dark = await tab.run(ground)
        assert dark != light
        await tab.key("t")
        assert await tab.run(ground) == light
        assert await tab.text("#theme") == "Light"
        await tab.key("t")
        await tab.prefer("light")
        assert await tab.run(ground) == dark
        assert await tab.run("localStorage.getItem('theme')") == "dark"
        await tab.key("t")
        assert await tab.run(ground) == light


async def test_an_agent_that_goes_away_is_said_and_the_last_picture_stays(
    where: Namespace, tmp_path: Path
) -> None:
    node = Node()
    async with browser(where, tmp_path) as tab:
        async with served(where, node) as url:
            await tab.open(url)
            await tab.until(f"{ROWS}.length === 10")
        await tab.run("poll()")
        await tab.until("document.querySelector('#status').dataset.state === 'bad'")
        assert "no answer since" in await tab.text("#status")
        assert await tab.run("document.documentElement.classList.contains('stale')")
        assert await tab.run(f"{ROWS}.length") == 10


async def test_a_thousand_services_are_paged_sorted_and_found(
    where: Namespace, tmp_path: Path
) -> None:
    node = Node(1000)
    async with opened(where, node, tmp_path) as tab:
        await later(tab, node)
        await tab.until(f"{ROWS}.length === 50")
        assert await tab.text("#pages") == f"1{DASH}50 of 1,000"
        await tab.key("]")
        await tab.until(f"{PAGES} === '51{DASH}100 of 1,000'")
        await tab.key("[")
        await tab.until(f"{PAGES} === '1{DASH}50 of 1,000'")
        await tab.run("document.querySelector('[data-sort=connections]').click()")
        await tab.until(f"{ROWS}[0].dataset.key === '{key('catalog')}'")
        sorted_by = "document.querySelector('#services-table th[aria-sort]').innerText"
        assert "Connections" in await tab.run(sorted_by)
        await tab.key("/")
        await tab.write("app-0999")
        await tab.until(f"{ROWS}.length === 1 && {ROWS}[0].innerText.includes('app-0999')")
        assert await tab.run("document.querySelectorAll('*').length") < 3000
        assert tab.complaints == []
