"""What ``kmesh top`` shows and how keys change it. Pure: a document in, a screen out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kmesh.cli.units import byte_rate, milliseconds, rate

if TYPE_CHECKING:
    from rich.console import RenderableType

    Document = dict[str, Any]

SERVICES, WORKLOADS = "services", "workloads"
WINDOWS = (5, 15, 60)
AROUND = 10  # lines of the screen that are no rows
SORT_KEYS = {
    "n": "name", "e": "endpoints", "c": "connections", "b": "bytes", "f": "failed",
    "r": "refused", "l": "rtt", "o": "slots",
}  # fmt: skip
KEYS = (
    "sort: n name  c connections  b bytes  f failed  r refused  l round trip  e endpoints  o slots",
    "/ filter  w workloads, services  + - window  arrows, PgUp, PgDn  space pause  q quit",
)
GOOD = ("ok", "passthrough")


class View(NamedTuple):
    """What the user chose; ``editing`` is the filter being typed, None when none is."""

    what: str = SERVICES
    sort: str = "connections"
    words: str = ""
    offset: int = 0
    window: float = 5
    paused: bool = False
    editing: str | None = None
    done: bool = False


def press(view: View, key: str, rows: int) -> View:
    """The view after a key; ``rows`` is how many fit the screen."""
    if view.editing is not None:
        return _edit(view, view.editing, key)
    if key in SORT_KEYS:
        return view._replace(sort=SORT_KEYS[key], offset=0)
    if key in ("+", "-"):
        at = min(range(len(WINDOWS)), key=lambda i: abs(WINDOWS[i] - view.window))
        at += 1 if key == "+" else -1
        return view._replace(window=WINDOWS[max(0, min(len(WINDOWS) - 1, at))])
    moves = {"up": -1, "down": 1, "k": -1, "j": 1, "pageup": -rows, "pagedown": rows}
    if key in moves:
        return view._replace(offset=max(0, view.offset + moves[key]))
    match key:
        case "/":
            return view._replace(editing=view.words)
        case "w":
            other = WORKLOADS if view.what == SERVICES else SERVICES
            return view._replace(what=other, offset=0)
        case " ":
            return view._replace(paused=not view.paused)
        case "home":
            return view._replace(offset=0)
        case "escape":
            return view._replace(words="", offset=0)
        case "q" | "ctrl-c":
            return view._replace(done=True)
    return view


def _edit(view: View, text: str, key: str) -> View:
    match key:
        case "enter":
            return view._replace(editing=None)
        case "escape":
            return view._replace(editing=None, words="", offset=0)
        case "ctrl-c":
            return view._replace(done=True)
        case "backspace":
            text = text[:-1]
        case _ if len(key) == 1 and key.isprintable():
            text += key
        case _:
            return view
    return view._replace(editing=text, words=text, offset=0)


def query(view: View, rows: int) -> dict[str, object]:
    """Parameters of GET /top for a view."""
    if view.what == WORKLOADS:
        return {"limit": 0, "window": view.window}
    return {
        "q": view.words, "sort": view.sort, "limit": rows, "offset": view.offset,
        "window": view.window,
    }  # fmt: skip


def screen(
    found: Document, view: View, rows: int, trouble: str = "", once: bool = False
) -> RenderableType:
    """Everything: the node, its totals, the table, and unless it is shown ``once`` the keys."""
    parts: list[RenderableType] = [_head(found, view, trouble), _totals(found["total"])]
    parts += [Text(f"absent: {why}", "yellow") for why in found["absent"].values()]
    parts.append(table(found, view, rows))
    return Group(*parts) if once else Group(*parts, _foot(view))


def table(found: Document, view: View, rows: int) -> Table:
    """The services or workloads alone."""
    return _services(found, view) if view.what == SERVICES else _workloads(found, view, rows)


def _head(found: Document, view: View, trouble: str) -> Text:
    covered = found["seconds"]
    parts = [
        (f"{found['node']['name'] or 'kmesh'}  ", "bold"),
        ("in sync", "green") if found["synced"] else ("syncing", "yellow"),
        (f"  revision {found['revision']}", "dim"),
        ("  rates come with the next sample" if covered is None else f"  over {covered:.1f} s",
         "dim"),
    ]  # fmt: skip
    if view.paused:
        parts.append(("  paused", "yellow"))
    if trouble:
        parts.append((f"  {trouble}", "red"))
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _totals(total: dict[str, float | None]) -> Text:
    said = (
        ("connections/s", rate(total["connections"])), ("received", byte_rate(total["received"])),
        ("sent", byte_rate(total["sent"])), ("failed/s", rate(total["failed"])),
        ("refused/s", rate(total["refused"])), ("round trip", milliseconds(total["rtt_ms"])),
    )  # fmt: skip
    parts = [part for name, text in said for part in ((f"{name} ", "dim"), (f"{text}   ", "bold"))]
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _foot(view: View) -> Text:
    if view.editing is not None:
        return Text(f"filter: {view.editing}_   Enter keeps it, Esc clears it", "bold")
    words = f"filter: {view.words} (Esc clears it)   " if view.words else ""
    return Text(f"{KEYS[0]}\n{words}{KEYS[1]}", "dim", no_wrap=True, overflow="ellipsis")


def _table(names: tuple[tuple[str, str], ...], view: View, note: str) -> Table:
    made = Table(box=box.SIMPLE_HEAD, expand=True, caption=note, caption_justify="left")
    for index, (title, sort) in enumerate(names):
        chosen = sort == view.sort
        made.add_column(
            f"[bold underline]{title}[/]" if chosen else title,
            justify="left" if index < 3 else "right",
            no_wrap=True, overflow="ellipsis", ratio=3 if index == 0 else None,
        )  # fmt: skip
    return made


TRAFFIC = (
    ("CONN/S", "connections"), ("RECEIVED", "bytes"), ("SENT", "bytes"), ("FAILED/S", "failed"),
    ("REFUSED/S", "refused"), ("ROUND TRIP", "rtt"),
)  # fmt: skip


def _traffic(row: Document) -> list[str]:
    failed, refused = rate(row["failed"]), rate(row["refused"])
    return [
        rate(row["connections"]), byte_rate(row["received"]), byte_rate(row["sent"]),
        f"[red]{failed}[/]" if row["failed"] else failed,
        f"[red]{refused}[/]" if row["refused"] else refused, milliseconds(row["rtt_ms"]),
    ]  # fmt: skip


def _services(found: Document, view: View) -> Table:
    services = found["services"]
    last = services["offset"] + len(services["rows"])
    first = services["offset"] + 1 if services["rows"] else 0
    note = f"services {first}-{last} of {services['matching']}"
    if services["matching"] != services["total"]:
        note += f" that match, {services['total']} in all"
    names = (("SERVICE", "name"), ("HEALTHY", "endpoints"), ("STATE", ""), *TRAFFIC)
    made = _table(names, view, note)
    for row in services["rows"]:
        whole = row["healthy"] == row["endpoints"] and row["endpoints"]
        health = f"{row['healthy']}/{row['endpoints']}"
        colour = "green" if row["state"] in GOOD else "red"
        made.add_row(
            escape(short(row)), health if whole else f"[yellow]{health}[/]",
            f"[{colour}]{row['state']}[/]", *_traffic(row),
        )  # fmt: skip
    return made


def short(row: Document) -> str:
    """``shop/cart`` for a Kubernetes service, the whole key for others."""
    name, svc, _ = str(row["hostname"]).partition(f".{row['namespace']}.svc.")
    return f"{row['namespace']}/{name}" if svc else str(row["key"])


def _workloads(found: Document, view: View, rows: int) -> Table:
    every = found["workloads"]["rows"]
    words = view.words.lower().split()
    chosen = [row for row in every if all(word in row["uid"].lower() for word in words)]
    chosen.sort(key=lambda row: (-_worth(row, view.sort), row["uid"]))
    shown = chosen[view.offset : view.offset + rows]
    first = view.offset + 1 if shown else 0
    note = f"workloads {first}-{view.offset + len(shown)} of {len(chosen)}"
    if found["workloads"]["total"] > len(every):
        note += f", the first {len(every)} of {found['workloads']['total']}"
    made = _table((("WORKLOAD", "name"), ("ADDRESS", ""), ("STATE", ""), *TRAFFIC), view, note)
    for row in shown:
        state = trouble(row)
        made.add_row(
            escape(f"{row['namespace']}/{row['name']}"), ", ".join(row["addresses"]) or "-",
            f"[red]{escape(state)}[/]" if state else "[green]enrolled[/]", *_traffic(row),
        )  # fmt: skip
    return made


def trouble(row: Document) -> str:
    """What keeps a workload from being as wanted; empty when nothing does."""
    if row["why"]:
        return str(row["why"])
    if not row["enrolled"]:
        return "not enrolled"
    return "" if row["known"] else "unknown"


def _worth(row: Document, sort: str) -> float:
    if sort == "bytes":
        return (row["sent"] or 0.0) + (row["received"] or 0.0)
    value = row.get("rtt_ms" if sort == "rtt" else sort)
    return float(value) if isinstance(value, int | float) else 0.0
